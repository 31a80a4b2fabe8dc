//! Delayed messages: inserting, moving, cancelling and listing them.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::Timestamp;
use courier_core::status::State;
use sqlx::{Arguments, QueryBuilder, Sqlite, SqliteConnection};

use super::SqliteStore;
use super::bulk::Bulk;
use super::columns::{Columns, expect_rows, json, now};
use super::error::{commit_fault, fault};
use super::identities::identity_columns;
use super::messages::{MESSAGE_COLUMNS, message_of, message_row};
use super::slices::{ListPlace, Slice, end_of_slice, merge, rows, share, start};
use crate::store::delayed::{CANCELLED, MOVE_ROWS, MOVE_SHARD_ROWS, is_cancelled, not_cancelled, whole_millisecond};
use crate::store::shared::dialect::StatementConnection as _;
use crate::store::shared::text::clean;
use crate::store::{
    DelayedFilter, DelayedStore, Due, Identity, Listing, MessageRow, Moved, NewMessage, NewOutbound, Page, StoreError,
};

/// The time at which a message is due, by the store's clock.
pub(super) fn due_at(due: Due, now: Timestamp) -> Timestamp {
    match due {
        Due::At(time) => time,
        Due::After(wait) => whole_millisecond(now.after(wait)),
    }
}

/// A message that is not due yet.
pub(super) struct Waiting<'m> {
    pub row: &'m NewOutbound,
    pub due: Due,
    pub message: &'m NewMessage,
}

/// Inserts delayed rows in the order given.
pub(super) async fn write_delayed(
    tx: &mut SqliteConnection,
    waiting: &[Waiting<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    const INSERT: Bulk = Bulk {
        insert: "INSERT INTO delayed (shard, due, message_id, topic, key, type_name, source, published_on, record)",
        columns: 9,
        then: "",
    };
    let inserted = INSERT
        .run(tx, waiting, |arguments, Waiting { row, due, message }| {
            arguments.add(row.shard)?;
            arguments.add(whole_millisecond(due_at(*due, now)).0)?;
            arguments.add(clean(&row.message_id).as_ref())?;
            arguments.add(clean(&row.topic).as_ref())?;
            arguments.add(row.key.as_deref())?;
            arguments.add(clean(&row.type_name).as_ref())?;
            arguments.add(clean(&message.source).as_ref())?;
            arguments.add(clean(&message.topic).as_ref())?;
            arguments.add(row.record.as_ref())
        })
        .await?;
    expect_rows("inserting delayed messages", waiting.len(), inserted)
}

#[async_trait]
impl DelayedStore for SqliteStore {
    async fn next_due(&self, shards: &[(i32, i64)]) -> Result<Option<Duration>, StoreError> {
        let mut reader = self.connections.readers.acquire().await.map_err(fault)?;
        until_next(&mut reader, &json(&shards)?).await
    }

    async fn move_due(&self, shards: &[(i32, i64)], away: Option<&str>) -> Result<Moved, StoreError> {
        let shards = json(&shards)?;
        let mut tx = self.connections.write().await?;
        let now = now();
        let due: Vec<i64> = sqlx::query_scalar(
            "SELECT d.id FROM json_each(?1) h
             CROSS JOIN relay_shard s ON s.shard = h.value ->> 0 AND s.epoch = h.value ->> 1
             CROSS JOIN delayed d ON d.id IN (SELECT f.id FROM delayed f INDEXED BY delayed_shard
                                        WHERE f.shard = s.shard AND f.due <= ?2 ORDER BY f.due, f.id LIMIT ?3)
             ORDER BY d.due, d.id LIMIT ?4",
        )
        .bind(&shards)
        .bind(now.0)
        .bind(MOVE_SHARD_ROWS)
        .bind(MOVE_ROWS)
        .fetch_all(&mut *tx)
        .await
        .map_err(fault)?;
        if !due.is_empty() {
            let ids = json(&due)?;
            if let Some(why) = away {
                away_from(&mut tx, &ids, why).await?;
            }
            let inserted = sqlx::query(
                "INSERT INTO outbound (shard, message_id, topic, key, type_name, source, held_until, sender, listed,
                     created_at, published_on, record)
                 SELECT d.shard, d.message_id, d.topic, d.key, d.type_name, d.source, 0, 1, 1, ?,
                     nullif(d.published_on, d.topic), d.record
                 FROM json_each(?) i CROSS JOIN delayed d ON d.id = i.value ORDER BY i.key",
            )
            .bind(now.0)
            .bind(&ids)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
            expect_rows("inserting the outbound rows of what is due", due.len(), inserted.rows_affected())?;
            let removed = sqlx::query("DELETE FROM delayed WHERE id IN (SELECT value FROM json_each(?))")
                .bind(&ids)
                .execute(&mut *tx)
                .await
                .map_err(fault)?;
            expect_rows("removing what is due", due.len(), removed.rows_affected())?;
        }
        let next = until_next(&mut tx, &shards).await?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(Moved { rows: u32::try_from(due.len()).unwrap_or(MOVE_ROWS), next })
    }

    async fn cancel(&self, message: &Identity) -> Result<MessageRow, StoreError> {
        let mut tx = self.connections.write().await?;
        let (id, source, topic) = identity_columns(message);
        let record: Option<Vec<u8>> = sqlx::query_scalar(
            "DELETE FROM delayed WHERE message_id = ? AND source = ? AND published_on = ? RETURNING record",
        )
        .bind(id.as_ref())
        .bind(source.as_ref())
        .bind(topic.as_ref())
        .fetch_optional(&mut *tx)
        .await
        .map_err(fault)?;
        if let Some(record) = &record {
            let changed = sqlx::query(
                "UPDATE message SET state = ?, reason = ?, record = ?
                 WHERE id = ? AND source = ? AND topic = ? AND state = ? AND partition IS NULL",
            )
            .bind(State::SendFail.code())
            .bind(CANCELLED)
            .bind(record)
            .bind(id.as_ref())
            .bind(source.as_ref())
            .bind(topic.as_ref())
            .bind(State::Committed.code())
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
            expect_rows("cancelling a message", 1, changed.rows_affected())?;
        }
        let row = message_of(&mut tx, message).await?;
        let row = row.ok_or_else(|| StoreError::NotFound(format!("there is no message {message}")))?;
        if !is_cancelled(&row) {
            return Err(StoreError::Conflict(not_cancelled(&row)));
        }
        if record.is_some() {
            tx.note().await?;
        }
        tx.commit().await.map_err(commit_fault)?;
        Ok(row)
    }

    async fn delayed(&self, filter: &DelayedFilter, page: &Page) -> Result<Listing<MessageRow>, StoreError> {
        let (after, limit) = start(page)?;
        let (share, more) = (share(1), limit + 1);
        // Places of lists descend, and this list ascends, so that its places are negative.
        let mut query = QueryBuilder::new("SELECT -d.due, -d.id, 0, ");
        query.push(MESSAGE_COLUMNS).push(", NULL FROM (");
        push_walk(&mut query, "due, id, message_id, source, published_on, type_name, key", filter, after);
        query.push(" LIMIT ").push_bind(rows(share));
        query.push(
            ") d CROSS JOIN message m
             ON m.id = d.message_id AND m.source = d.source AND m.topic = d.published_on WHERE TRUE",
        );
        push_filter(&mut query, filter)?;
        query.push(" LIMIT ").push_bind(rows(more));
        let found = query.build().fetch_all(&self.connections.readers).await.map_err(fault)?;
        let found: Vec<_> = found.iter().map(message_row).collect::<Result<_, _>>()?;
        let mut ended = None;
        if found.len() < more {
            let mut places = QueryBuilder::new("");
            push_walk(&mut places, "-due, -id, 0", filter, after);
            ended = end_of_slice(&self.connections.readers, places, share).await?;
        }
        Ok(merge(vec![Slice { rows: found, ended }], limit))
    }
}

/// Appends the walk over the waiting rows, by the time at which they are due.
fn push_walk(query: &mut QueryBuilder<Sqlite>, columns: &str, filter: &DelayedFilter, after: Option<ListPlace>) {
    query.push(format_args!("SELECT {columns} FROM delayed INDEXED BY delayed_due WHERE TRUE"));
    if let Some(from) = filter.from {
        query.push(" AND due >= ").push_bind(from.0);
    }
    if let Some(to) = filter.to {
        query.push(" AND due < ").push_bind(to.0);
    }
    if let Some(ListPlace([due, id, _])) = after {
        query.push(" AND (due, id) > (").push_bind(-due).push(", ").push_bind(-id).push(")");
    }
    query.push(" ORDER BY due, id");
}

/// Appends the conditions that the walk does not have.
fn push_filter(query: &mut QueryBuilder<Sqlite>, filter: &DelayedFilter) -> Result<(), StoreError> {
    if let Some(topic) = &filter.topic {
        query.push(" AND m.topic = ").push_bind(clean(topic).into_owned());
    }
    if let Some(topics) = &filter.topics {
        query.push(" AND m.topic IN (SELECT value FROM json_each(").push_bind(json(topics)?).push("))");
    }
    if let Some(type_name) = &filter.type_name {
        query.push(" AND d.type_name = ").push_bind(clean(type_name).into_owned());
    }
    if let Some(key) = &filter.key {
        query.push(" AND d.key = ").push_bind(key.to_vec());
    }
    Ok(())
}

/// Reads how long it takes until the first row of these shards is due, by the first row of
/// each.
async fn until_next(connection: &mut SqliteConnection, shards: &str) -> Result<Option<Duration>, StoreError> {
    let row = sqlx::query(
        "SELECT min((SELECT d.due FROM delayed d INDEXED BY delayed_shard WHERE d.shard = s.shard
                     ORDER BY d.due LIMIT 1))
         FROM json_each(?) h CROSS JOIN relay_shard s ON s.shard = h.value ->> 0 AND s.epoch = h.value ->> 1",
    )
    .bind(shards)
    .fetch_one(connection)
    .await
    .map_err(fault)?;
    let first = Columns::of(&row).time_option()?;
    Ok(first.map(|due| due.since(now())))
}

/// Marks messages that are due as waiting for Kafka, which is away, so that people see it.
async fn away_from(tx: &mut SqliteConnection, ids: &str, why: &str) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE message SET state = ?, retrying = 1, reason = ?
         WHERE seq IN (SELECT m.seq FROM json_each(?) i CROSS JOIN delayed d ON d.id = i.value
                       CROSS JOIN message m ON m.id = d.message_id AND m.source = d.source AND m.topic = d.published_on)
             AND state = ? AND partition IS NULL",
    )
    .bind(State::SendFail.code())
    .bind(clean(why))
    .bind(ids)
    .bind(State::Committed.code())
    .execute(tx)
    .await
    .map_err(fault)?;
    Ok(())
}
