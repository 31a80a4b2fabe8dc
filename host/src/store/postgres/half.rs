//! Preparing and ending transactions of senders.
//!
//! Every verb that ends a transaction locks its row first. Its messages are then accepted
//! as those of any sender.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow, Postgres};
use sqlx::query_builder::QueryBuilder;

use super::accept::{accept_locked, known};
use super::columns::{PgRowExt, count, stored};
use super::delayed::due_columns;
use super::error::at_statement;
use super::identities::{lock_for_reserving, lock_for_taking, reserved, stored_identity};
use super::{PostgresStore, audits, bounded, commit, micros};
use crate::store::half::{KeptMessage, UNREACHABLE, identity_reserved, identity_taken, may_end, records_gone};
use crate::store::shared::paging::{page_of, time_and_id_cursor, time_and_id_of};
use crate::store::shared::text::{clean, clean_opt};
use crate::store::{
    Accepted, AfterAsking, Due, HalfCheck, HalfMessage, HalfRow, HalfState, HalfStore, Identity, Listing, MAX_PAGE,
    NewHalf, NewMessage, NewOutbound, Page, SentBy, StoreError,
};

const HALF_COLUMNS: &str = "id, state, check_url, timeout, created_at, deadline, checks, next_check_at, last_answer,
    reason, ended_at, unreachable_since, sender";

#[async_trait]
impl HalfStore for PostgresStore {
    async fn prepared_halves(&self, sender: Option<&str>, most: u32) -> Result<u32, StoreError> {
        let counted = sqlx::query(
            "SELECT count(*)::integer AS count FROM (
                 SELECT FROM half_message WHERE state = 1 AND ($1::text IS NULL OR sender = $1) LIMIT $2) AS prepared",
        )
        .bind(clean_opt(sender))
        .bind(i64::from(most))
        .fetch_one(&self.pool);
        bounded(async { counted.await.map_err(at_statement)?.count("count") }).await
    }

    async fn prepare_half(&self, half: &NewHalf) -> Result<HalfRow, StoreError> {
        bounded(prepare(self, half)).await
    }

    async fn commit_half(&self, id: &str, reason: &str) -> Result<HalfRow, StoreError> {
        bounded(end(self, id, HalfState::Committed, reason)).await
    }

    async fn roll_back_half(&self, id: &str, reason: &str) -> Result<HalfRow, StoreError> {
        bounded(end(self, id, HalfState::RolledBack, reason)).await
    }

    async fn claim_checks(
        &self,
        lease: Duration,
        limit: u32,
    ) -> Result<(Vec<HalfCheck>, Option<Duration>), StoreError> {
        bounded(claim(self, lease, limit)).await
    }

    async fn leave_half(&self, check: &HalfCheck, answer: &str, then: AfterAsking) -> Result<(), StoreError> {
        bounded(leave(self, check, answer, then)).await
    }

    async fn unreachable_halves(&self, topics: Option<&[String]>, limit: u32) -> Result<Vec<HalfRow>, StoreError> {
        bounded(unreachable(self, topics, limit)).await
    }

    async fn half(&self, id: &str) -> Result<Option<HalfRow>, StoreError> {
        bounded(async {
            let mut connection = self.pool.acquire().await.map_err(at_statement)?;
            one(&mut connection, id).await
        })
        .await
    }

    async fn halves(
        &self,
        state: Option<HalfState>,
        topics: Option<&[String]>,
        page: &Page,
    ) -> Result<Listing<HalfRow>, StoreError> {
        bounded(list(self, state, topics, page)).await
    }
}

/// Appends that all messages of a transaction are on these topics.
fn push_topics(query: &mut QueryBuilder<Postgres>, topics: Option<&[String]>) {
    if let Some(topics) = topics {
        query
            .push(" AND NOT EXISTS (SELECT 1 FROM half_item i WHERE i.half_id = half_message.id AND i.topic <> ALL(")
            .push_bind(topics.to_vec())
            .push("))");
    }
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

async fn prepare(store: &PostgresStore, half: &NewHalf) -> Result<HalfRow, StoreError> {
    let mut tx = store.begin_tx().await?;
    let identities: Vec<Identity> = half.messages.iter().map(stored_identity).collect();
    lock_for_reserving(&mut tx, &identities.iter().collect::<Vec<_>>()).await?;
    if let Some((identity, transaction)) = reserved(&mut tx, &identities).await?.into_iter().next() {
        return Err(identity_reserved(&identity, &transaction));
    }
    let known = known(&mut tx, &identities).await?;
    for (message, identity) in half.messages.iter().zip(&identities) {
        // A message that was refused makes room when the transaction commits.
        let Some(known) = known.get(identity) else { continue };
        let stays = if known.is_refused() {
            !known.makes_room_for(message)
        } else {
            known.digest.as_deref() != Some(&message.digest[..])
        };
        if stays {
            return Err(identity_taken(identity));
        }
    }
    sqlx::query(
        "INSERT INTO half_message (id, state, check_url, timeout, created_at, deadline, next_check_at, sender)
         SELECT $1, 1, $2, $3, now.at, now.at + $3, now.at + $3, $4 FROM (SELECT courier_now() AS at) AS now",
    )
    .bind(clean(&half.id))
    .bind(clean_opt(half.check_url.as_deref()))
    .bind(micros(half.timeout))
    .bind(clean_opt(half.sender()))
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    insert_items(&mut tx, half).await?;
    let row = one(&mut tx, &half.id).await?;
    commit(tx).await?;
    row.ok_or_else(|| StoreError::Bug(format!("transaction {} vanished", half.id)))
}

async fn insert_items(tx: &mut PgConnection, half: &NewHalf) -> Result<(), StoreError> {
    let messages = &half.messages;
    let outbound: Vec<&NewOutbound> = messages
        .iter()
        .map(|message| message.outbound.as_ref())
        .collect::<Option<_>>()
        .ok_or_else(|| StoreError::Bug("a half message has no record".to_owned()))?;
    sqlx::query(
        "INSERT INTO half_item (half_id, place, message_id, digest, key, source, topic, goes_to, type_name, kind, time,
             shard, due, wait, record, source_proven, reserved)
         SELECT $1, r.place - 1, r.message_id, r.digest, r.key, r.source, r.topic, r.goes_to, r.type_name, r.kind, r.time,
             r.shard, r.due, r.wait, r.record, r.source_proven, true
         FROM unnest($2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
             $10::bigint[], $11::integer[], $12::bigint[], $13::bigint[], $14::bytea[], $15::boolean[]) WITH ORDINALITY
             AS r (message_id, digest, key, source, topic, goes_to, type_name, kind, time, shard, due, wait, record,
                 source_proven, place)",
    )
    .bind(clean(&half.id))
    .bind(messages.iter().map(|message| clean(&message.id)).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| &message.digest[..]).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.key.as_deref()).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| clean(&message.source)).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| clean(&message.topic)).collect::<Vec<_>>())
    .bind(outbound.iter().map(|row| clean(&row.topic)).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| clean(&message.type_name)).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.kind).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.time.0).collect::<Vec<_>>())
    .bind(outbound.iter().map(|row| row.shard).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| due_columns(message.due).0).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| due_columns(message.due).1).collect::<Vec<_>>())
    .bind(outbound.iter().map(|row| &row.record[..]).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.sent_by.as_ref().map(|by| by.source_proven)).collect::<Vec<_>>())
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok(())
}

/// Commits a transaction or rolls it back.
async fn end(store: &PostgresStore, id: &str, wanted: HalfState, reason: &str) -> Result<HalfRow, StoreError> {
    let mut tx = store.begin_tx().await?;
    let state = sqlx::query("SELECT state FROM half_message WHERE id = $1 FOR UPDATE")
        .bind(clean(id))
        .fetch_optional(&mut *tx)
        .await
        .map_err(at_statement)?
        .ok_or_else(|| StoreError::NotFound(format!("there is no transaction {id:?}")))?;
    let from = HalfState::from_code(state.take("state")?)?;
    if may_end(id, from, wanted)? {
        if wanted == HalfState::Committed {
            send_kept(&mut tx, id).await?;
        }
        write_end(&mut tx, id, from, wanted, reason).await?;
        audits::note(&mut tx).await?;
    }
    let row = one(&mut tx, id).await?;
    commit(tx).await?;
    row.ok_or_else(|| StoreError::Bug(format!("transaction {id} vanished")))
}

/// Accepts the messages of a transaction, which no longer keeps them.
async fn send_kept(tx: &mut PgConnection, id: &str) -> Result<(), StoreError> {
    let messages = kept_messages(tx, id).await?;
    let identities: Vec<Identity> = messages.iter().map(stored_identity).collect();
    // The locks come before its items: a transaction that is being prepared waits for
    // items while it holds its locks.
    lock_for_taking(tx, &identities.iter().collect::<Vec<_>>()).await?;
    // Its own reservations would refuse its messages.
    release(tx, id).await?;
    let answers = accept_locked(tx, &messages, &identities).await?;
    for (identity, answer) in identities.iter().zip(answers) {
        match answer {
            Accepted::New | Accepted::Same(_) => {}
            Accepted::Other => return Err(identity_taken(identity)),
            Accepted::Reserved { transaction } => return Err(identity_reserved(identity, &transaction)),
        }
    }
    Ok(())
}

/// Ends the reservations of a transaction's identities.
async fn release(tx: &mut PgConnection, id: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE half_item SET reserved = false WHERE half_id = $1 AND reserved")
        .bind(clean(id))
        .execute(tx)
        .await
        .map_err(at_statement)?;
    Ok(())
}

/// Writes the end of a transaction and removes its records, which the messages have now or
/// nobody needs. An abandoned one keeps them, since its sender may still commit it.
async fn write_end(
    tx: &mut PgConnection,
    id: &str,
    from: HalfState,
    to: HalfState,
    reason: &str,
) -> Result<(), StoreError> {
    let ended = sqlx::query(
        "UPDATE half_message SET state = $2, reason = $3, ended_at = courier_now(), next_check_at = NULL
         WHERE id = $1 AND state = $4",
    )
    .bind(clean(id))
    .bind(to.code())
    .bind(clean(reason))
    .bind(from.code())
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    if ended.rows_affected() != 1 {
        return Err(StoreError::Bug(format!("transaction {id} ended twice")));
    }
    release(tx, id).await?;
    if to == HalfState::Abandoned {
        return Ok(());
    }
    sqlx::query("UPDATE half_item SET record = NULL WHERE half_id = $1")
        .bind(clean(id))
        .execute(tx)
        .await
        .map_err(at_statement)?;
    Ok(())
}

/// Abandons transactions whose check URL does not answer and whose deadline was before
/// `before`, and returns whether there may be more than `limit`.
pub(super) async fn abandon_unreachable(store: &PostgresStore, before: i64, limit: i64) -> Result<bool, StoreError> {
    let mut tx = store.begin_tx().await?;
    let old = sqlx::query(
        "SELECT id FROM half_message WHERE state = 1 AND unreachable > 0 AND created_at < $1 AND deadline < $1
         ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED",
    )
    .bind(before)
    .bind(limit)
    .fetch_all(&mut *tx)
    .await
    .map_err(at_statement)?;
    for row in &old {
        let id: String = row.take("id")?;
        write_end(&mut tx, &id, HalfState::Prepared, HalfState::Abandoned, UNREACHABLE).await?;
    }
    commit(tx).await?;
    Ok(i64::try_from(old.len()).unwrap_or(limit) >= limit)
}

/// Reads the messages of a transaction that may commit.
async fn kept_messages(tx: &mut PgConnection, transaction: &str) -> Result<Vec<NewMessage>, StoreError> {
    let rows = sqlx::query(
        "SELECT i.message_id, i.digest, i.key, i.source, i.topic, i.goes_to, i.type_name, i.kind, i.time, i.shard, i.due,
             i.wait, i.record, h.sender, i.source_proven
         FROM half_item i JOIN half_message h ON h.id = i.half_id WHERE i.half_id = $1 ORDER BY i.place",
    )
    .bind(clean(transaction))
    .fetch_all(tx)
    .await
    .map_err(at_statement)?;
    let kept = |row: &PgRow| {
        let digest: Vec<u8> = row.take("digest")?;
        Ok(KeptMessage {
            id: row.take("message_id")?,
            digest: digest.try_into().map_err(|_| StoreError::Bug("a digest has not 32 bytes".to_owned()))?,
            key: row.bytes("key")?,
            source: row.take("source")?,
            topic: row.take("topic")?,
            goes_to: row.take("goes_to")?,
            type_name: row.take("type_name")?,
            kind: row.take("kind")?,
            time: row.time("time")?,
            shard: row.take("shard")?,
            due: match (row.time_opt("due")?, row.take::<Option<i64>>("wait")?) {
                (Some(time), _) => Some(Due::At(time)),
                (None, wait) => wait.map(duration).map(Due::After),
            },
            sent_by: SentBy::from_columns(row.take("sender")?, row.take("source_proven")?),
            record: row.bytes("record")?.ok_or_else(|| records_gone(transaction))?,
        })
    };
    rows.iter().map(|row| kept(row).map(NewMessage::from)).collect()
}

/// Claims transactions whose deadline has passed. With `SKIP LOCKED` hosts that claim at
/// the same moment, and senders that end a transaction, do not wait for each other.
async fn claim(
    store: &PostgresStore,
    lease: Duration,
    limit: u32,
) -> Result<(Vec<HalfCheck>, Option<Duration>), StoreError> {
    let next = next_check(store).await?;
    if next != Some(Duration::ZERO) || limit == 0 {
        return Ok((Vec::new(), next));
    }
    let rows = sqlx::query(
        "WITH due AS (
             SELECT id FROM half_message WHERE state = 1 AND next_check_at <= courier_now()
             ORDER BY next_check_at LIMIT $2 FOR UPDATE SKIP LOCKED
         )
         UPDATE half_message h SET next_check_at = courier_now() + $1,
             checks = h.checks + CASE WHEN h.check_url IS NULL THEN 0 ELSE 1 END
         FROM due WHERE h.id = due.id
         RETURNING h.id, h.check_url, h.timeout, h.checks, h.answered, h.unreachable",
    )
    .bind(micros(lease))
    .bind(i64::from(limit))
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let check = |row: &PgRow| {
        Ok(HalfCheck {
            id: row.take("id")?,
            check_url: row.take("check_url")?,
            timeout: duration(row.take("timeout")?),
            checks: count(row.take("checks")?),
            answered: count(row.take("answered")?),
            unreachable: count(row.take("unreachable")?),
        })
    };
    Ok((rows.iter().map(check).collect::<Result<_, StoreError>>()?, next_check(store).await?))
}

async fn next_check(store: &PostgresStore) -> Result<Option<Duration>, StoreError> {
    let row = sqlx::query("SELECT min(next_check_at) - courier_now() AS wait FROM half_message WHERE state = 1")
        .fetch_one(&store.pool)
        .await
        .map_err(at_statement)?;
    Ok(row.take::<Option<i64>>("wait")?.map(duration))
}

async fn leave(store: &PostgresStore, check: &HalfCheck, answer: &str, then: AfterAsking) -> Result<(), StoreError> {
    let mut tx = store.begin_tx().await?;
    let left = sqlx::query(
        "UPDATE half_message SET last_answer = $3, next_check_at = courier_now() + $4,
             answered = answered + CASE WHEN $5 THEN 0 ELSE 1 END,
             unreachable = CASE WHEN $5 THEN unreachable + 1 ELSE 0 END,
             unreachable_since = CASE WHEN $5 THEN coalesce(unreachable_since, courier_now()) END
         WHERE id = $1 AND state = 1 AND checks = $2",
    )
    .bind(clean(&check.id))
    .bind(stored(check.checks))
    .bind(clean(answer))
    .bind(micros(then.wait().unwrap_or_default()))
    .bind(matches!(then, AfterAsking::Retry(_)))
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    if left.rows_affected() == 1 && then == AfterAsking::Abandon {
        write_end(&mut tx, &check.id, HalfState::Prepared, HalfState::Abandoned, answer).await?;
    }
    commit(tx).await
}

async fn unreachable(store: &PostgresStore, topics: Option<&[String]>, limit: u32) -> Result<Vec<HalfRow>, StoreError> {
    let mut query = QueryBuilder::<Postgres>::new("SELECT ");
    query.push(HALF_COLUMNS);
    query.push(" FROM half_message WHERE state = 1 AND unreachable > 0");
    push_topics(&mut query, topics);
    query.push(" ORDER BY created_at LIMIT ").push_bind(i64::from(limit));
    let mut connection = store.pool.acquire().await.map_err(at_statement)?;
    let rows = query.build().fetch_all(&mut *connection).await.map_err(at_statement)?;
    let mut rows: Vec<HalfRow> = rows.iter().map(half_row).collect::<Result<_, _>>()?;
    with_messages(&mut connection, &mut rows).await?;
    Ok(rows)
}

fn half_row(row: &PgRow) -> Result<HalfRow, StoreError> {
    Ok(HalfRow {
        id: row.take("id")?,
        state: HalfState::from_code(row.take("state")?)?,
        messages: Vec::new(),
        check_url: row.take("check_url")?,
        timeout: duration(row.take("timeout")?),
        created_at: row.time("created_at")?,
        deadline: row.time("deadline")?,
        checks: row.count("checks")?,
        next_check_at: row.time_opt("next_check_at")?,
        last_answer: row.take("last_answer")?,
        reason: row.take("reason")?,
        ended_at: row.time_opt("ended_at")?,
        unreachable_since: row.time_opt("unreachable_since")?,
        sender: row.take("sender")?,
    })
}

async fn one(connection: &mut PgConnection, id: &str) -> Result<Option<HalfRow>, StoreError> {
    let mut query = QueryBuilder::<Postgres>::new("SELECT ");
    query.push(HALF_COLUMNS).push(" FROM half_message WHERE id = ").push_bind(clean(id).into_owned());
    let row = query.build().fetch_optional(&mut *connection).await.map_err(at_statement)?;
    let mut rows: Vec<HalfRow> = row.iter().map(half_row).collect::<Result<_, _>>()?;
    with_messages(connection, &mut rows).await?;
    Ok(rows.pop())
}

async fn list(
    store: &PostgresStore,
    state: Option<HalfState>,
    topics: Option<&[String]>,
    page: &Page,
) -> Result<Listing<HalfRow>, StoreError> {
    let limit = page.limit.clamp(1, MAX_PAGE);
    let mut query = QueryBuilder::<Postgres>::new("SELECT ");
    query.push(HALF_COLUMNS).push(" FROM half_message WHERE true");
    if let Some(state) = state {
        query.push(" AND state = ").push_bind(state.code());
    }
    if let Some((at, id)) = time_and_id_of(page.cursor.as_deref())? {
        query.push(" AND (created_at, id) < (").push_bind(at).push(", ").push_bind(id).push(")");
    }
    push_topics(&mut query, topics);
    query.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(i64::from(limit) + 1);
    let mut connection = store.pool.acquire().await.map_err(at_statement)?;
    let rows = query.build().persistent(false).fetch_all(&mut *connection).await.map_err(at_statement)?;
    let items = rows.iter().map(half_row).collect::<Result<_, _>>()?;
    let mut page = page_of(items, limit as usize, |last: &HalfRow| time_and_id_cursor(last.created_at, &last.id));
    with_messages(&mut connection, &mut page.items).await?;
    Ok(page)
}

/// Fills in the messages of transactions.
async fn with_messages(connection: &mut PgConnection, halves: &mut [HalfRow]) -> Result<(), StoreError> {
    let ids: Vec<String> = halves.iter().map(|half| half.id.clone()).collect();
    let rows = sqlx::query(
        "SELECT half_id, message_id, topic, type_name, key FROM half_item WHERE half_id = ANY($1)
         ORDER BY half_id, place",
    )
    .bind(&ids)
    .fetch_all(connection)
    .await
    .map_err(at_statement)?;
    let mut messages: HashMap<String, Vec<HalfMessage>> = HashMap::new();
    for row in &rows {
        messages.entry(row.take("half_id")?).or_default().push(HalfMessage {
            id: row.take("message_id")?,
            topic: row.take("topic")?,
            type_name: row.take("type_name")?,
            key: row.bytes("key")?,
        });
    }
    for half in halves {
        half.messages = messages.remove(&half.id).unwrap_or_default();
    }
    Ok(())
}
