//! Preparing and ending transactions of senders.
//!
//! Every verb that ends a transaction locks its row first. Its messages are then accepted
//! as those of any sender.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;

use super::dialect::{StatementConnection, StoreDialect};
use super::paging::{page_of, time_and_id_cursor, time_and_id_of};
use super::statement::{SharedRow, Statement};
use crate::store::half::{
    KeptMessage, UNREACHABLE, identity_reserved, identity_taken, may_end, may_repeat, records_gone,
};
use crate::store::{
    Accepted, AfterAsking, Due, HalfCheck, HalfEnd, HalfMessage, HalfRow, HalfState, HalfStore, Listing, MAX_PAGE,
    NewHalf, NewMessage, Page, SentBy, StoreError,
};

/// A statement for the columns that [`half_rows`] reads, in its order.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, state, check_url, timeout, created_at, deadline, checks, next_check_at, last_answer, reason,
                 ended_at, unreachable_since, sender",
            $rest
        )
    };
}

/// What each dialect writes by itself: identities, which PostgreSQL locks and both look up
/// in bulk, and the insertion of many rows.
#[async_trait]
pub(in crate::store) trait HalfDialect: StoreDialect {
    /// Locks the identities of messages until the transaction ends, against every
    /// transaction that takes or reserves them. `Conflict` when one is taken or reserved, or
    /// is that of the same message which nobody sends any more.
    async fn lock_free_identities(connection: &mut Self::Connection, messages: &[NewMessage])
    -> Result<(), StoreError>;

    /// Inserts the messages of a transaction, whose identities are reserved from then on.
    async fn insert_items(connection: &mut Self::Connection, half: &NewHalf) -> Result<(), StoreError>;

    /// Locks the identities of messages until the transaction ends, against transactions
    /// that reserve them. One connection that writes needs no such lock.
    async fn lock_for_accepting(connection: &mut Self::Connection, messages: &[NewMessage]) -> Result<(), StoreError>;

    /// Accepts messages whose identities are locked.
    async fn accept_locked(
        connection: &mut Self::Connection,
        messages: &[NewMessage],
    ) -> Result<Vec<Accepted>, StoreError>;
}

#[async_trait]
impl<D: HalfDialect> HalfStore for D {
    async fn prepared_halves(&self, sender: Option<&str>, most: u32) -> Result<u32, StoreError> {
        let mut count = Statement::new(
            "SELECT count(*) FROM (SELECT 1 FROM half_message INDEXED BY half_message_due WHERE state = 1",
        );
        if let Some(sender) = sender {
            count.push(" AND sender = ").push_bind(sender);
        }
        count.push(" LIMIT ").push_bind(i64::from(most)).push(") AS prepared");
        let counted = D::limited(self.read(count)).await?.into_iter().next();
        counted.map_or(Ok(0), |mut row| row.number())
    }

    async fn prepare_half(&self, half: &NewHalf) -> Result<HalfRow, StoreError> {
        let insert = Statement::new(
            "INSERT INTO half_message (id, state, check_url, timeout, created_at, deadline, next_check_at, sender)
             SELECT $1, 1, $2, $3, now.at, now.at + $3, now.at + $3, $4 FROM (SELECT courier_now() AS at) AS now",
        )
        .bind(&half.id)
        .bind(half.check_url.as_deref())
        .bind(half.timeout)
        .bind(half.sender());
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            D::lock_free_identities(&mut tx, &half.messages).await?;
            tx.execute(insert).await?;
            D::insert_items(&mut tx, half).await?;
            let row = one(&mut *tx, &half.id).await?;
            D::commit_writing(tx).await?;
            row.ok_or_else(|| vanished(&half.id))
        })
        .await
    }

    async fn commit_half(&self, id: &str, reason: &str) -> Result<HalfEnd, StoreError> {
        D::limited(end(self, id, HalfState::Committed, reason)).await
    }

    async fn roll_back_half(&self, id: &str, reason: &str) -> Result<HalfEnd, StoreError> {
        D::limited(end(self, id, HalfState::RolledBack, reason)).await
    }

    async fn claim_checks(
        &self,
        lease: Duration,
        limit: u32,
    ) -> Result<(Vec<HalfCheck>, Option<Duration>), StoreError> {
        D::limited(claim(self, lease, limit)).await
    }

    async fn leave_half(&self, check: &HalfCheck, answer: &str, then: AfterAsking) -> Result<(), StoreError> {
        let update = Statement::new(
            "UPDATE half_message SET last_answer = $3, next_check_at = courier_now() + $4,
                 answered = answered + CASE WHEN $5 THEN 0 ELSE 1 END,
                 unreachable = CASE WHEN $5 THEN unreachable + 1 ELSE 0 END,
                 unreachable_since = CASE WHEN $5 THEN coalesce(unreachable_since, courier_now()) END
             WHERE id = $1 AND state = 1 AND checks = $2",
        )
        .bind(&check.id)
        .bind(i64::from(check.checks))
        .bind(answer)
        .bind(then.wait().unwrap_or_default())
        .bind(matches!(then, AfterAsking::Retry(_)));
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            if tx.execute(update).await? == 1 && then == AfterAsking::Abandon {
                write_end(&mut *tx, &check.id, HalfState::Prepared, HalfState::Abandoned, answer).await?;
            }
            D::commit_writing(tx).await
        })
        .await
    }

    async fn unreachable_halves(&self, topics: Option<&[String]>, limit: u32) -> Result<Vec<HalfRow>, StoreError> {
        let mut select = Statement::new(select!(
            " FROM half_message INDEXED BY half_message_unreachable WHERE state = 1 AND unreachable > 0"
        ));
        push_topics(&mut select, topics);
        select.push(" ORDER BY created_at LIMIT ").push_bind(i64::from(limit));
        D::limited(async {
            let mut reading = self.begin_reading().await?;
            let mut rows = half_rows(reading.rows(select).await?)?;
            fill_messages(&mut *reading, &mut rows).await?;
            Ok(rows)
        })
        .await
    }

    async fn half(&self, id: &str) -> Result<Option<HalfRow>, StoreError> {
        D::limited(async { one(&mut *self.begin_reading().await?, id).await }).await
    }

    async fn halves(
        &self,
        state: Option<HalfState>,
        topics: Option<&[String]>,
        page: &Page,
    ) -> Result<Listing<HalfRow>, StoreError> {
        let limit = page.limit.clamp(1, MAX_PAGE);
        let mut select = Statement::new(select!(" FROM half_message WHERE true"));
        if let Some(state) = state {
            select.push(" AND state = ").push_bind(i64::from(state.code()));
        }
        if let Some((at, id)) = time_and_id_of(page.cursor.as_deref())? {
            select.push(" AND (created_at, id) < (").push_bind(at).push(", ").push_bind(id).push(")");
        }
        push_topics(&mut select, topics);
        select.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(i64::from(limit) + 1);
        D::limited(async {
            let mut reading = self.begin_reading().await?;
            let items = half_rows(reading.rows(select).await?)?;
            let mut page =
                page_of(items, limit as usize, |last: &HalfRow| time_and_id_cursor(last.created_at, &last.id));
            fill_messages(&mut *reading, &mut page.items).await?;
            Ok(page)
        })
        .await
    }
}

/// Appends that all messages of a transaction are on these topics.
fn push_topics(statement: &mut Statement<'_>, topics: Option<&[String]>) {
    if let Some(topics) = topics {
        statement
            .push(" AND NOT EXISTS (SELECT 1 FROM half_item i WHERE i.half_id = half_message.id AND i.topic NOT")
            .push_in(topics)
            .push(")");
    }
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn vanished(id: &str) -> StoreError {
    StoreError::Bug(format!("transaction {id} vanished"))
}

/// Commits a transaction or rolls it back.
async fn end<D: HalfDialect>(store: &D, id: &str, wanted: HalfState, reason: &str) -> Result<HalfEnd, StoreError> {
    let mut tx = store.begin_writing().await?;
    let lock = Statement::new("SELECT state FROM half_message WHERE id = $1 FOR UPDATE").bind(id);
    let locked = tx.row(lock).await?;
    let mut locked = locked.ok_or_else(|| StoreError::NotFound(format!("there is no transaction {id:?}")))?;
    let from = HalfState::from_code(locked.number()?)?;
    let has_moved = may_end(id, from, wanted)?;
    if has_moved {
        if wanted == HalfState::Committed {
            accept_kept::<D>(&mut tx, id).await?;
        }
        write_end(&mut *tx, id, from, wanted, reason).await?;
    }
    let row = one(&mut *tx, id).await?;
    if has_moved {
        tx.note().await?;
    }
    D::commit_writing(tx).await?;
    Ok(HalfEnd { row: row.ok_or_else(|| vanished(id))?, has_moved })
}

/// Accepts the messages of a transaction, which no longer keeps them.
async fn accept_kept<D: HalfDialect>(tx: &mut D::Connection, id: &str) -> Result<(), StoreError> {
    let messages = kept_messages(tx, id).await?;
    // The locks come before its items: a transaction that is being prepared waits for
    // items while it holds its locks.
    D::lock_for_accepting(tx, &messages).await?;
    // Its own reservations would refuse its messages.
    release(tx, id).await?;
    for (message, answer) in messages.iter().zip(D::accept_locked(tx, &messages).await?) {
        match answer {
            Accepted::New => {}
            Accepted::Same(known) => may_repeat(&known)?,
            Accepted::Other => return Err(identity_taken(&message.identity())),
            Accepted::Reserved { transaction } => {
                return Err(identity_reserved(&message.identity(), &transaction));
            }
        }
    }
    Ok(())
}

/// Ends the reservations of a transaction's identities.
async fn release(tx: &mut impl StatementConnection, id: &str) -> Result<(), StoreError> {
    let update = "UPDATE half_item SET reserved = false WHERE half_id = $1 AND reserved";
    tx.execute(Statement::new(update).bind(id)).await.map(drop)
}

/// Writes the end of a transaction and removes its records, which the messages have now or
/// nobody needs. An abandoned one keeps them, since its sender may still commit it.
async fn write_end(
    tx: &mut impl StatementConnection,
    id: &str,
    from: HalfState,
    to: HalfState,
    reason: &str,
) -> Result<(), StoreError> {
    let update = Statement::new(
        "UPDATE half_message SET state = $2, reason = $3, ended_at = courier_now(), next_check_at = NULL
         WHERE id = $1 AND state = $4",
    )
    .bind(id)
    .bind(i64::from(to.code()))
    .bind(reason)
    .bind(i64::from(from.code()));
    if tx.execute(update).await? != 1 {
        return Err(StoreError::Bug(format!("transaction {id} ended twice")));
    }
    release(tx, id).await?;
    if to == HalfState::Abandoned {
        return Ok(());
    }
    tx.execute(Statement::new("UPDATE half_item SET record = NULL WHERE half_id = $1").bind(id)).await.map(drop)
}

/// Abandons transactions whose check URL does not answer and whose deadline was before
/// `before`, at most `limit`, and returns how many.
pub(in crate::store) async fn abandon_unreachable(
    tx: &mut impl StatementConnection,
    before: i64,
    limit: i64,
) -> Result<usize, StoreError> {
    let select = Statement::new(
        "SELECT id FROM half_message INDEXED BY half_message_unreachable
         WHERE state = 1 AND unreachable > 0 AND created_at < $1 AND deadline < $1
         ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED",
    );
    let old = tx.rows(select.bind(before).bind(limit)).await?;
    let count = old.len();
    for mut row in old {
        write_end(tx, &row.text()?, HalfState::Prepared, HalfState::Abandoned, UNREACHABLE).await?;
    }
    Ok(count)
}

/// Reads the messages of a transaction that may commit.
async fn kept_messages(tx: &mut impl StatementConnection, transaction: &str) -> Result<Vec<NewMessage>, StoreError> {
    let select = Statement::new(
        "SELECT i.message_id, i.digest, i.key, i.source, i.topic, i.goes_to, i.type_name, i.kind, i.time, i.shard, i.due,
             i.wait, h.sender, i.source_proven, i.record
         FROM half_item i JOIN half_message h ON h.id = i.half_id WHERE i.half_id = $1 ORDER BY i.place",
    );
    let kept = |mut row: SharedRow| {
        Ok(KeptMessage {
            id: row.text()?,
            digest: row.bytes()?[..].try_into().map_err(|_| StoreError::Bug("a digest has not 32 bytes".to_owned()))?,
            key: row.bytes_option()?,
            source: row.text()?,
            topic: row.text()?,
            goes_to: row.text()?,
            type_name: row.text()?,
            kind: row.text()?,
            time: row.time()?,
            shard: row.number()?,
            due: match (row.time_option()?, row.number_option()?) {
                (Some(time), _) => Some(Due::At(time)),
                (None, wait) => wait.map(duration).map(Due::After),
            },
            sent_by: SentBy::from_columns(row.text_option()?, row.flag_option()?),
            record: row.bytes_option()?.ok_or_else(|| records_gone(transaction))?,
        })
    };
    let rows = tx.rows(select.bind(transaction)).await?;
    rows.into_iter().map(|row| kept(row).map(NewMessage::from)).collect()
}

/// Claims transactions whose deadline has passed. With `SKIP LOCKED` hosts that claim at
/// the same moment, and senders that end a transaction, do not wait for each other.
async fn claim<D: StoreDialect>(
    store: &D,
    lease: Duration,
    limit: u32,
) -> Result<(Vec<HalfCheck>, Option<Duration>), StoreError> {
    // Checked by a reader first: mostly there is nothing to write.
    let next = next_check(store).await?;
    if next != Some(Duration::ZERO) || limit == 0 {
        return Ok((Vec::new(), next));
    }
    let update = Statement::new(
        "WITH due (due_id) AS (
             SELECT id FROM half_message INDEXED BY half_message_due WHERE state = 1 AND next_check_at <= courier_now()
             ORDER BY next_check_at LIMIT $2 FOR UPDATE SKIP LOCKED
         )
         UPDATE half_message SET next_check_at = courier_now() + $1,
             checks = checks + CASE WHEN check_url IS NULL THEN 0 ELSE 1 END
         FROM due WHERE id = due_id RETURNING id, check_url, timeout, checks, answered, unreachable",
    )
    .bind(lease)
    .bind(i64::from(limit));
    let mut tx = store.begin_writing().await?;
    let claimed = tx.rows(update).await?;
    D::commit_writing(tx).await?;
    let check = |mut row: SharedRow| {
        Ok(HalfCheck {
            id: row.text()?,
            check_url: row.text_option()?,
            timeout: duration(row.number()?),
            checks: row.number()?,
            answered: row.number()?,
            unreachable: row.number()?,
        })
    };
    let claimed = claimed.into_iter().map(check).collect::<Result<_, StoreError>>()?;
    Ok((claimed, next_check(store).await?))
}

async fn next_check<D: StoreDialect>(store: &D) -> Result<Option<Duration>, StoreError> {
    let select =
        "SELECT min(next_check_at) - courier_now() FROM half_message INDEXED BY half_message_due WHERE state = 1";
    let Some(mut row) = store.read(Statement::new(select)).await?.into_iter().next() else { return Ok(None) };
    Ok(row.number_option()?.map(duration))
}

fn half_rows(rows: Vec<SharedRow>) -> Result<Vec<HalfRow>, StoreError> {
    let half = |mut row: SharedRow| {
        Ok(HalfRow {
            id: row.text()?,
            state: HalfState::from_code(row.number()?)?,
            messages: Vec::new(),
            check_url: row.text_option()?,
            timeout: duration(row.number()?),
            created_at: row.time()?,
            deadline: row.time()?,
            checks: row.number()?,
            next_check_at: row.time_option()?,
            last_answer: row.text_option()?,
            reason: row.text_option()?,
            ended_at: row.time_option()?,
            unreachable_since: row.time_option()?,
            sender: row.text_option()?,
        })
    };
    rows.into_iter().map(half).collect()
}

async fn one(connection: &mut impl StatementConnection, id: &str) -> Result<Option<HalfRow>, StoreError> {
    let select = Statement::new(select!(" FROM half_message WHERE id = $1")).bind(id);
    let mut rows = half_rows(connection.rows(select).await?)?;
    fill_messages(connection, &mut rows).await?;
    Ok(rows.pop())
}

/// Fills in the messages of transactions.
async fn fill_messages(connection: &mut impl StatementConnection, halves: &mut [HalfRow]) -> Result<(), StoreError> {
    let ids: Vec<String> = halves.iter().map(|half| half.id.clone()).collect();
    let mut select = Statement::new("SELECT half_id, message_id, topic, type_name, key FROM half_item WHERE half_id");
    select.push_in(&ids).push(" ORDER BY half_id, place");
    let mut messages: HashMap<String, Vec<HalfMessage>> = HashMap::new();
    for mut row in connection.rows(select).await? {
        messages.entry(row.text()?).or_default().push(HalfMessage {
            id: row.text()?,
            topic: row.text()?,
            type_name: row.text()?,
            key: row.bytes_option()?,
        });
    }
    for half in halves {
        half.messages = messages.remove(&half.id).unwrap_or_default();
    }
    Ok(())
}
