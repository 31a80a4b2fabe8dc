//! Preparing and ending transactions of senders.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Arguments, QueryBuilder, Sqlite, SqliteConnection};

use super::accept::accept_in;
use super::bulk::Bulk;
use super::columns::{Columns, expect_rows, json, now};
use super::error::{commit_fault, fault};
use super::identities::{KnownMessage, known, stored_identity};
use super::{SqliteStore, audits};
use crate::store::half::{KeptMessage, UNREACHABLE, identity_reserved, identity_taken, may_end, records_gone};
use crate::store::shared::paging::{page_of, time_and_id_cursor, time_and_id_of};
use crate::store::shared::text::{clean, clean_opt};
use crate::store::{
    Accepted, AfterAsking, Due, HalfCheck, HalfMessage, HalfRow, HalfState, HalfStore, Identity, Listing, MAX_PAGE,
    NewHalf, NewMessage, Page, SentBy, StoreError,
};

const HALF_COLUMNS: &str = "id, state, check_url, timeout, created_at, deadline, checks, next_check_at, last_answer,
    reason, ended_at, unreachable_since, sender";

#[async_trait]
impl HalfStore for SqliteStore {
    async fn prepared_halves(&self, sender: Option<&str>, most: u32) -> Result<u32, StoreError> {
        sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT 1 FROM half_message INDEXED BY half_message_due
             WHERE state = 1 AND (?1 IS NULL OR sender = ?1) LIMIT ?2)",
        )
        .bind(clean_opt(sender))
        .bind(most)
        .fetch_one(&self.connections.readers)
        .await
        .map_err(fault)
    }

    async fn prepare_half(&self, half: &NewHalf) -> Result<HalfRow, StoreError> {
        let mut tx = self.connections.write().await?;
        let identities: Vec<Identity> = half.messages.iter().map(stored_identity).collect();
        let known = known(&mut tx, &identities).await?;
        for (message, identity) in half.messages.iter().zip(&identities) {
            let Some(known) = known.get(identity) else { continue };
            if let Some(transaction) = &known.reserved_by {
                return Err(identity_reserved(identity, transaction));
            }
            match &known.message {
                Some(KnownMessage::Sent(digest)) if digest.as_deref() != Some(message.digest.as_slice()) => {
                    return Err(identity_taken(identity));
                }
                // Its commit would fail on the taken identity.
                Some(KnownMessage::Refused(_, by)) if !SentBy::makes_room(by.as_ref(), message.sent_by.as_ref()) => {
                    return Err(identity_taken(identity));
                }
                Some(_) | None => {}
            }
        }
        let (now, timeout) = (now(), micros(half.timeout));
        sqlx::query(
            "INSERT INTO half_message (id, state, check_url, timeout, created_at, deadline, next_check_at, sender)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7)",
        )
        .bind(clean(&half.id))
        .bind(HalfState::Prepared.code())
        .bind(clean_opt(half.check_url.as_deref()))
        .bind(timeout)
        .bind(now.0)
        .bind(now.0.saturating_add(timeout))
        .bind(clean_opt(half.sender()))
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        insert_items(&mut tx, half).await?;
        let row = one(&mut tx, &half.id).await?;
        tx.commit().await.map_err(commit_fault)?;
        row.ok_or_else(|| StoreError::Bug(format!("transaction {} vanished", half.id)))
    }

    async fn commit_half(&self, id: &str, reason: &str) -> Result<HalfRow, StoreError> {
        let mut tx = self.connections.write().await?;
        let row = found(&mut tx, id).await?;
        if !may_end(id, row.state, HalfState::Committed)? {
            return Ok(row);
        }
        let messages = kept_messages(&mut tx, id).await?;
        // Its own reservations would refuse its messages.
        release(&mut tx, id).await?;
        for (message, answer) in messages.iter().zip(accept_in(&mut tx, &messages).await?) {
            match answer {
                Accepted::New | Accepted::Same(_) => {}
                Accepted::Other => return Err(identity_taken(&message.identity())),
                Accepted::Reserved { transaction } => {
                    return Err(identity_reserved(&message.identity(), &transaction));
                }
            }
        }
        end(&mut tx, id, row.state, HalfState::Committed, reason).await?;
        let row = found(&mut tx, id).await?;
        audits::note(&mut tx).await?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(row)
    }

    async fn roll_back_half(&self, id: &str, reason: &str) -> Result<HalfRow, StoreError> {
        let mut tx = self.connections.write().await?;
        let row = found(&mut tx, id).await?;
        if !may_end(id, row.state, HalfState::RolledBack)? {
            return Ok(row);
        }
        end(&mut tx, id, row.state, HalfState::RolledBack, reason).await?;
        let row = found(&mut tx, id).await?;
        audits::note(&mut tx).await?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(row)
    }

    async fn claim_checks(
        &self,
        lease: Duration,
        limit: u32,
    ) -> Result<(Vec<HalfCheck>, Option<Duration>), StoreError> {
        // Checked by a reader first: mostly there is nothing to write.
        let mut reader = self.connections.readers.acquire().await.map_err(fault)?;
        let next = next_check(&mut reader).await?;
        drop(reader);
        if next != Some(Duration::ZERO) || limit == 0 {
            return Ok((Vec::new(), next));
        }
        let mut tx = self.connections.write().await?;
        let now = now();
        let rows = sqlx::query(
            "UPDATE half_message SET checks = checks + (check_url IS NOT NULL), next_check_at = ?1
             WHERE id IN (SELECT id FROM half_message INDEXED BY half_message_due
                          WHERE state = 1 AND next_check_at <= ?2 ORDER BY next_check_at LIMIT ?3)
             RETURNING id, check_url, timeout, checks, answered, unreachable",
        )
        .bind(now.after(lease).0)
        .bind(now.0)
        .bind(limit)
        .fetch_all(&mut *tx)
        .await
        .map_err(fault)?;
        let claimed = rows.iter().map(check).collect::<Result<_, _>>()?;
        let next = next_check(&mut tx).await?;
        tx.commit().await.map_err(commit_fault)?;
        Ok((claimed, next))
    }

    async fn leave_half(&self, check: &HalfCheck, answer: &str, then: AfterAsking) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let now = now();
        let left = sqlx::query(
            "UPDATE half_message SET last_answer = ?1, next_check_at = ?2, answered = answered + (NOT ?3),
                 unreachable = iif(?3, unreachable + 1, 0),
                 unreachable_since = iif(?3, coalesce(unreachable_since, ?4), NULL)
             WHERE id = ?5 AND state = 1 AND checks = ?6",
        )
        .bind(clean(answer))
        .bind(now.after(then.wait().unwrap_or_default()).0)
        .bind(matches!(then, AfterAsking::Retry(_)))
        .bind(now.0)
        .bind(clean(&check.id))
        .bind(check.checks)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        if left.rows_affected() == 1 && then == AfterAsking::Abandon {
            end(&mut tx, &check.id, HalfState::Prepared, HalfState::Abandoned, answer).await?;
        }
        tx.commit().await.map_err(commit_fault)
    }

    async fn unreachable_halves(&self, topics: Option<&[String]>, limit: u32) -> Result<Vec<HalfRow>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT ");
        query
            .push(HALF_COLUMNS)
            .push(" FROM half_message INDEXED BY half_message_unreachable WHERE state = 1 AND unreachable > 0");
        push_topics(&mut query, topics)?;
        query.push(" ORDER BY created_at LIMIT ").push_bind(limit);
        let mut reader = self.connections.readers.acquire().await.map_err(fault)?;
        let rows = query.build().fetch_all(&mut *reader).await.map_err(fault)?;
        let mut rows: Vec<HalfRow> = rows.iter().map(half_row).collect::<Result<_, _>>()?;
        with_messages(&mut reader, &mut rows).await?;
        Ok(rows)
    }

    async fn half(&self, id: &str) -> Result<Option<HalfRow>, StoreError> {
        let mut reader = self.connections.readers.acquire().await.map_err(fault)?;
        one(&mut reader, id).await
    }

    async fn halves(
        &self,
        state: Option<HalfState>,
        topics: Option<&[String]>,
        page: &Page,
    ) -> Result<Listing<HalfRow>, StoreError> {
        let limit = page.limit.clamp(1, MAX_PAGE) as usize;
        let mut query = QueryBuilder::<Sqlite>::new("SELECT ");
        query.push(HALF_COLUMNS).push(" FROM half_message WHERE TRUE");
        if let Some(state) = state {
            query.push(" AND state = ").push_bind(state.code());
        }
        if let Some((at, id)) = time_and_id_of(page.cursor.as_deref())? {
            query.push(" AND (created_at, id) < (").push_bind(at).push(", ").push_bind(id).push(")");
        }
        push_topics(&mut query, topics)?;
        query.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(super::slices::rows(limit + 1));
        let mut reader = self.connections.readers.acquire().await.map_err(fault)?;
        let rows = query.build().fetch_all(&mut *reader).await.map_err(fault)?;
        let items = rows.iter().map(half_row).collect::<Result<_, _>>()?;
        let mut page = page_of(items, limit, |last: &HalfRow| time_and_id_cursor(last.created_at, &last.id));
        with_messages(&mut reader, &mut page.items).await?;
        Ok(page)
    }
}

/// Appends that all messages of a transaction are on these topics.
fn push_topics(query: &mut QueryBuilder<Sqlite>, topics: Option<&[String]>) -> Result<(), StoreError> {
    if let Some(topics) = topics {
        query
            .push(" AND NOT EXISTS (SELECT 1 FROM half_item i WHERE i.half_id = half_message.id AND i.topic NOT IN (")
            .push("SELECT value FROM json_each(")
            .push_bind(json(&topics)?)
            .push(")))");
    }
    Ok(())
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

async fn insert_items(tx: &mut SqliteConnection, half: &NewHalf) -> Result<(), StoreError> {
    const INSERT: Bulk = Bulk {
        insert:
            "INSERT INTO half_item (half_id, place, message_id, digest, key, source, topic, goes_to, type_name, kind,
                 time, shard, due, wait, reserved, source_proven, record)",
        columns: 17,
        then: "",
    };
    let messages: Vec<(usize, &NewMessage)> = half.messages.iter().enumerate().collect();
    let inserted = INSERT
        .run(tx, &messages, |arguments, (place, message)| {
            let outbound = message.outbound.as_ref().ok_or("a half message has no record")?;
            let (due, wait) = match message.due {
                None => (None, None),
                Some(Due::At(time)) => (Some(time.0), None),
                Some(Due::After(wait)) => (None, Some(micros(wait))),
            };
            arguments.add(clean(&half.id).as_ref())?;
            arguments.add(super::slices::rows(*place))?;
            arguments.add(clean(&message.id).as_ref())?;
            arguments.add(message.digest.as_slice())?;
            arguments.add(message.key.as_deref())?;
            arguments.add(clean(&message.source).as_ref())?;
            arguments.add(clean(&message.topic).as_ref())?;
            arguments.add(clean(&outbound.topic).as_ref())?;
            arguments.add(clean(&message.type_name).as_ref())?;
            arguments.add(message.kind)?;
            arguments.add(message.time.0)?;
            arguments.add(outbound.shard)?;
            arguments.add(due)?;
            arguments.add(wait)?;
            arguments.add(1_i64)?;
            arguments.add(message.sent_by.as_ref().map(|by| i64::from(by.source_proven)))?;
            arguments.add(outbound.record.as_ref())
        })
        .await?;
    expect_rows("inserting half messages", messages.len(), inserted)
}

/// Reads the messages of a transaction that may commit.
async fn kept_messages(tx: &mut SqliteConnection, transaction: &str) -> Result<Vec<NewMessage>, StoreError> {
    let rows = sqlx::query(
        "SELECT i.message_id, i.digest, i.key, i.source, i.topic, i.goes_to, i.type_name, i.kind, i.time, i.shard, i.due,
             i.wait, h.sender, i.source_proven, i.record
         FROM half_item i JOIN half_message h ON h.id = i.half_id WHERE i.half_id = ? ORDER BY i.place",
    )
    .bind(clean(transaction))
    .fetch_all(tx)
    .await
    .map_err(fault)?;
    let kept = |row: &SqliteRow| {
        let mut columns = Columns::of(row);
        let id = columns.take()?;
        let digest: Vec<u8> = columns.take()?;
        Ok(KeptMessage {
            id,
            digest: digest.try_into().map_err(|_| StoreError::Bug("a digest has not 32 bytes".to_owned()))?,
            key: columns.bytes_option()?,
            source: columns.take()?,
            topic: columns.take()?,
            goes_to: columns.take()?,
            type_name: columns.take()?,
            kind: columns.take()?,
            time: columns.time()?,
            shard: columns.number()?,
            due: match (columns.time_option()?, columns.take::<Option<i64>>()?) {
                (Some(time), _) => Some(Due::At(time)),
                (None, wait) => wait.map(duration).map(Due::After),
            },
            sent_by: SentBy::from_columns(columns.take()?, columns.take::<Option<bool>>()?),
            record: columns.bytes_option()?.ok_or_else(|| records_gone(transaction))?,
        })
    };
    rows.iter().map(|row| kept(row).map(NewMessage::from)).collect()
}

/// Ends a transaction that is in state `from` and removes its records, which the messages
/// have now or nobody needs. An abandoned one keeps them, since its sender may still commit
/// it.
async fn end(
    tx: &mut SqliteConnection,
    id: &str,
    from: HalfState,
    to: HalfState,
    reason: &str,
) -> Result<(), StoreError> {
    let ended = sqlx::query(
        "UPDATE half_message SET state = ?, reason = ?, ended_at = ?, next_check_at = NULL WHERE id = ? AND state = ?",
    )
    .bind(to.code())
    .bind(clean(reason))
    .bind(now().0)
    .bind(clean(id))
    .bind(from.code())
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    expect_rows("ending a transaction", 1, ended.rows_affected())?;
    release(tx, id).await?;
    if to == HalfState::Abandoned {
        return Ok(());
    }
    sqlx::query("UPDATE half_item SET record = NULL WHERE half_id = ?")
        .bind(clean(id))
        .execute(tx)
        .await
        .map_err(fault)?;
    Ok(())
}

/// Ends the reservations of a transaction's identities.
async fn release(tx: &mut SqliteConnection, id: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE half_item SET reserved = 0 WHERE half_id = ?")
        .bind(clean(id))
        .execute(tx)
        .await
        .map_err(fault)?;
    Ok(())
}

/// Abandons transactions whose check URL does not answer and whose deadline was before
/// `before`, and returns how many.
pub(super) async fn abandon_unreachable(
    tx: &mut SqliteConnection,
    before: Timestamp,
    limit: usize,
) -> Result<usize, StoreError> {
    let old: Vec<String> = sqlx::query_scalar(
        "SELECT id FROM half_message INDEXED BY half_message_unreachable
         WHERE state = 1 AND unreachable > 0 AND created_at < ?1 AND deadline < ?1 ORDER BY created_at LIMIT ?2",
    )
    .bind(before.0)
    .bind(super::slices::rows(limit))
    .fetch_all(&mut *tx)
    .await
    .map_err(fault)?;
    for id in &old {
        end(tx, id, HalfState::Prepared, HalfState::Abandoned, UNREACHABLE).await?;
    }
    Ok(old.len())
}

fn check(row: &SqliteRow) -> Result<HalfCheck, StoreError> {
    let mut columns = Columns::of(row);
    Ok(HalfCheck {
        id: columns.take()?,
        check_url: columns.take()?,
        timeout: duration(columns.take()?),
        checks: columns.number()?,
        answered: columns.number()?,
        unreachable: columns.number()?,
    })
}

async fn next_check(connection: &mut SqliteConnection) -> Result<Option<Duration>, StoreError> {
    let row = sqlx::query("SELECT min(next_check_at) FROM half_message INDEXED BY half_message_due WHERE state = 1")
        .fetch_one(connection)
        .await
        .map_err(fault)?;
    let next = Columns::of(&row).time_option()?;
    Ok(next.map(|next: Timestamp| next.since(now())))
}

fn half_row(row: &SqliteRow) -> Result<HalfRow, StoreError> {
    let mut columns = Columns::of(row);
    Ok(HalfRow {
        id: columns.take()?,
        state: HalfState::from_code(columns.number()?)?,
        messages: Vec::new(),
        check_url: columns.take()?,
        timeout: duration(columns.take()?),
        created_at: columns.time()?,
        deadline: columns.time()?,
        checks: columns.number()?,
        next_check_at: columns.time_option()?,
        last_answer: columns.take()?,
        reason: columns.take()?,
        ended_at: columns.time_option()?,
        unreachable_since: columns.time_option()?,
        sender: columns.take()?,
    })
}

async fn one(connection: &mut SqliteConnection, id: &str) -> Result<Option<HalfRow>, StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT ");
    query.push(HALF_COLUMNS).push(" FROM half_message WHERE id = ").push_bind(clean(id).into_owned());
    let row = query.build().fetch_optional(&mut *connection).await.map_err(fault)?;
    let mut rows: Vec<HalfRow> = row.iter().map(half_row).collect::<Result<_, _>>()?;
    with_messages(connection, &mut rows).await?;
    Ok(rows.pop())
}

async fn found(connection: &mut SqliteConnection, id: &str) -> Result<HalfRow, StoreError> {
    one(connection, id).await?.ok_or_else(|| StoreError::NotFound(format!("there is no transaction {id:?}")))
}

/// Fills in the messages of transactions.
async fn with_messages(connection: &mut SqliteConnection, halves: &mut [HalfRow]) -> Result<(), StoreError> {
    let ids: Vec<&str> = halves.iter().map(|half| half.id.as_str()).collect();
    let rows = sqlx::query(
        "SELECT half_id, message_id, topic, type_name, key FROM half_item
         WHERE half_id IN (SELECT value FROM json_each(?)) ORDER BY half_id, place",
    )
    .bind(json(&ids)?)
    .fetch_all(connection)
    .await
    .map_err(fault)?;
    let mut messages: HashMap<String, Vec<HalfMessage>> = HashMap::new();
    for row in &rows {
        let mut columns = Columns::of(row);
        let half: String = columns.take()?;
        messages.entry(half).or_default().push(HalfMessage {
            id: columns.take()?,
            topic: columns.take()?,
            type_name: columns.take()?,
            key: columns.bytes_option()?,
        });
    }
    for half in halves {
        half.messages = messages.remove(&half.id).unwrap_or_default();
    }
    Ok(())
}
