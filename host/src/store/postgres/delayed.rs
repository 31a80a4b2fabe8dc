//! Delayed messages: inserting, moving, cancelling and listing them.
//!
//! A move and a cancellation both delete the waiting row, and only the one that deleted
//! it goes on. Locks are taken in the order of the send side: shards, rows by id, then
//! their messages.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Connection as _;
use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::query_builder::QueryBuilder;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::identities::IdentityColumns;
use super::messages::{MESSAGE_COLUMNS, message_row};
use super::shards::shard_columns;
use super::{PostgresStore, SLICE_ROWS, bounded, commit, micros};
use crate::store::delayed::{CANCELLED, MOVE_ROWS, MOVE_SHARD_ROWS, is_cancelled, not_cancelled};
use crate::store::shared::dialect::StatementConnection as _;
use crate::store::shared::paging::no_cursor;
use crate::store::shared::text::clean;
use crate::store::{
    DelayedFilter, DelayedStore, Due, Identity, Listing, MAX_PAGE, MessageRow, Moved, NewOutbound, Page, StoreError,
};

/// Splits a due time into the two parameters that statements take, one of which is null.
pub(super) fn due_columns(due: Option<Due>) -> (Option<i64>, Option<i64>) {
    match due {
        None => (None, None),
        Some(Due::At(time)) => (Some(time.0), None),
        Some(Due::After(wait)) => (None, Some(micros(wait))),
    }
}

/// Delayed rows as arrays, one for each column.
#[derive(Default)]
pub(super) struct DelayedColumns<'a> {
    rows: Vec<(&'a NewOutbound, &'a Identity)>,
}

impl<'a> DelayedColumns<'a> {
    /// Adds the row of a message.
    pub(super) fn push(&mut self, row: &'a NewOutbound, message: &'a Identity) {
        self.rows.push((row, message));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The statement that inserts them in their order. Their messages are inserted before
    /// and say when they are due. That is rounded up to Kafka's milliseconds, so that a
    /// record's time is not earlier than its sender asked for.
    pub(super) fn insert(&self) -> Query<'_, Postgres, PgArguments> {
        sqlx::query(
            "INSERT INTO delayed (shard, due, message_id, topic, type_name, source, key, record, published_on)
             SELECT r.shard, (m.deliver_at + 999) / 1000 * 1000, m.id, r.topic, m.type_name, m.source, m.key, r.record,
                 m.topic
             FROM unnest($1::text[], $2::integer[], $3::text[], $4::bytea[], $5::text[], $6::text[]) WITH ORDINALITY
                 AS r (id, shard, topic, record, source, published_on, place)
             JOIN message m ON m.id = r.id AND m.source = r.source AND m.topic = r.published_on
                 AND m.deliver_at IS NOT NULL
             ORDER BY r.place",
        )
        .bind(self.rows.iter().map(|(row, _)| clean(&row.message_id)).collect::<Vec<_>>())
        .bind(self.rows.iter().map(|(row, _)| row.shard).collect::<Vec<_>>())
        .bind(self.rows.iter().map(|(row, _)| clean(&row.topic)).collect::<Vec<_>>())
        .bind(self.rows.iter().map(|(row, _)| &row.record[..]).collect::<Vec<_>>())
        .bind(self.rows.iter().map(|(_, message)| clean(&message.source)).collect::<Vec<_>>())
        .bind(self.rows.iter().map(|(_, message)| clean(&message.topic)).collect::<Vec<_>>())
    }
}

#[async_trait]
impl DelayedStore for PostgresStore {
    async fn next_due(&self, shards: &[(i32, i64)]) -> Result<Option<Duration>, StoreError> {
        bounded(async {
            let mut connection = self.pool.acquire().await.map_err(at_statement)?;
            until_next(&mut connection, shards).await
        })
        .await
    }

    async fn move_due(&self, shards: &[(i32, i64)], away: Option<&str>) -> Result<Moved, StoreError> {
        bounded(move_due(self, shards, away)).await
    }

    async fn cancel(&self, message: &Identity) -> Result<MessageRow, StoreError> {
        bounded(cancel(self, message)).await
    }

    async fn delayed(&self, filter: &DelayedFilter, page: &Page) -> Result<Listing<MessageRow>, StoreError> {
        bounded(list(self, filter, page)).await
    }
}

/// Reads how long it takes until the first row of these shards is due, by the first row of
/// each.
async fn until_next(connection: &mut PgConnection, shards: &[(i32, i64)]) -> Result<Option<Duration>, StoreError> {
    let (shards, epochs) = shard_columns(shards);
    let row = sqlx::query(
        "SELECT min(d.due) - courier_now() AS wait
         FROM unnest($1::integer[], $2::bigint[]) AS l (shard, epoch)
         JOIN relay_shard s ON s.shard = l.shard AND s.epoch = l.epoch
         CROSS JOIN LATERAL (SELECT due FROM delayed WHERE delayed.shard = s.shard ORDER BY due LIMIT 1) AS d",
    )
    .bind(&shards)
    .bind(&epochs)
    .fetch_one(connection)
    .await
    .map_err(at_statement)?;
    let wait: Option<i64> = row.take("wait")?;
    Ok(wait.map(|wait| Duration::from_micros(u64::try_from(wait).unwrap_or(0))))
}

/// Makes outbound rows of what is due. Every round trip here delays a message, so one
/// statement moves them and locks the leases of only those shards that have any. It is a
/// transaction of its own unless Kafka is away.
async fn move_due(store: &PostgresStore, shards: &[(i32, i64)], away: Option<&str>) -> Result<Moved, StoreError> {
    let mut connection = store.pool.acquire().await.map_err(at_statement)?;
    let rows = match away {
        None => move_rows(&mut connection, shards).await?.len(),
        Some(why) => {
            let mut tx = connection.begin().await.map_err(at_statement)?;
            let messages = move_rows(&mut tx, shards).await?;
            if !messages.is_empty() {
                fail_for_now(&mut tx, &messages, why).await?;
            }
            commit(tx).await?;
            messages.len()
        }
    };
    let next = until_next(&mut connection, shards).await?;
    Ok(Moved { rows: u32::try_from(rows).unwrap_or(MOVE_ROWS), next })
}

/// Makes outbound rows of what is due, and returns their messages.
async fn move_rows(connection: &mut PgConnection, shards: &[(i32, i64)]) -> Result<Vec<Identity>, StoreError> {
    let (shards, epochs) = shard_columns(shards);
    let moved = sqlx::query(
        "WITH now AS MATERIALIZED (SELECT courier_now() AS at),
         ours AS MATERIALIZED (
             SELECT s.shard FROM unnest($1::integer[], $2::bigint[]) AS l (shard, epoch)
             JOIN relay_shard s ON s.shard = l.shard AND s.epoch = l.epoch
             CROSS JOIN LATERAL (SELECT due FROM delayed WHERE delayed.shard = l.shard ORDER BY due LIMIT 1) AS head
             WHERE head.due <= (SELECT at FROM now)
             ORDER BY s.shard FOR SHARE OF s
         ), picked AS MATERIALIZED (
             SELECT d.id FROM ours s
             CROSS JOIN LATERAL (
                 SELECT id, due FROM delayed WHERE delayed.shard = s.shard AND due <= (SELECT at FROM now)
                 ORDER BY due, id LIMIT $3) AS d
             ORDER BY d.due, d.id LIMIT $4
         ), gone AS (
             DELETE FROM delayed WHERE id = ANY (ARRAY (SELECT id FROM picked)) RETURNING *
         )
         INSERT INTO outbound (shard, message_id, topic, type_name, source, key, record, listed, created_at,
             published_on)
         SELECT g.shard, g.message_id, g.topic, g.type_name, g.source, g.key, g.record, true, (SELECT at FROM now),
             nullif(g.published_on, g.topic)
         FROM gone g ORDER BY g.due, g.id
         RETURNING message_id, source, coalesce(published_on, topic) AS published_on",
    )
    .bind(&shards)
    .bind(&epochs)
    .bind(i64::from(MOVE_SHARD_ROWS))
    .bind(i64::from(MOVE_ROWS))
    .fetch_all(connection)
    .await
    .map_err(at_statement)?;
    let identity = |row: &PgRow| {
        Ok(Identity { id: row.take("message_id")?, source: row.take("source")?, topic: row.take("published_on")? })
    };
    moved.iter().map(identity).collect()
}

/// Marks the messages as waiting for Kafka, which is away, so that people see it.
async fn fail_for_now(tx: &mut PgConnection, messages: &[Identity], why: &str) -> Result<(), StoreError> {
    let columns: IdentityColumns = messages.iter().collect();
    sqlx::query(
        "WITH due AS (
             SELECT m.id, m.source, m.topic FROM unnest($1::text[], $2::text[], $3::text[]) AS r (id, source, topic)
             JOIN message m ON m.id = r.id AND m.source = r.source AND m.topic = r.topic
             ORDER BY m.id, m.source, m.topic FOR UPDATE OF m
         )
         UPDATE message SET state = 1, retrying = true, reason = $4
         WHERE (id, source, topic) IN (SELECT id, source, topic FROM due) AND state = 2 AND partition IS NULL",
    )
    .bind(&columns.id)
    .bind(&columns.source)
    .bind(&columns.topic)
    .bind(clean(why))
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok(())
}

async fn cancel(store: &PostgresStore, message: &Identity) -> Result<MessageRow, StoreError> {
    let (id, source, topic) = (clean(&message.id), clean(&message.source), clean(&message.topic));
    let mut tx = store.begin_tx().await?;
    let taken = sqlx::query(
        "DELETE FROM delayed WHERE left(message_id, 64) = left($1, 64) AND message_id = $1 AND source = $2
             AND published_on = $3 RETURNING record",
    )
    .bind(&*id)
    .bind(&*source)
    .bind(&*topic)
    .fetch_optional(&mut *tx)
    .await
    .map_err(at_statement)?;
    let waited = taken.is_some();
    if let Some(taken) = taken {
        let changed = sqlx::query(
            "UPDATE message SET state = 1, reason = $4, record = $5
             WHERE id = $1 AND source = $2 AND topic = $3 AND state = 2 AND partition IS NULL",
        )
        .bind(&*id)
        .bind(&*source)
        .bind(&*topic)
        .bind(CANCELLED)
        .bind(taken.take::<Vec<u8>>("record")?)
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
        if changed.rows_affected() != 1 {
            return Err(StoreError::Bug(format!("message {message} waits and is not COMMITTED")));
        }
    }
    let mut query = QueryBuilder::<Postgres>::new("SELECT ");
    query.push(MESSAGE_COLUMNS).push(", m.record FROM message m WHERE m.id = ").push_bind(&*id);
    query.push(" AND m.source = ").push_bind(&*source).push(" AND m.topic = ").push_bind(&*topic);
    let row = query.build().fetch_optional(&mut *tx).await.map_err(at_statement)?;
    let row = row.as_ref().map(message_row).transpose()?;
    let row = row.ok_or_else(|| StoreError::NotFound(format!("there is no message {message}")))?;
    if !is_cancelled(&row) {
        return Err(StoreError::Conflict(not_cancelled(&row)));
    }
    if waited {
        tx.note().await?;
    }
    commit(tx).await?;
    Ok(row)
}

/// The cursor of a page: when its last row is due, and the row's number.
#[derive(Clone, Copy)]
struct DelayedCursor {
    due: i64,
    id: i64,
}

impl DelayedCursor {
    fn parse(text: &str) -> Result<Self, StoreError> {
        let wrong = || no_cursor(text);
        let (due, id) = text.split_once('.').ok_or_else(wrong)?;
        Ok(Self { due: due.parse().map_err(|_| wrong())?, id: id.parse().map_err(|_| wrong())? })
    }

    fn text(self) -> String {
        format!("{}.{}", self.due, self.id)
    }
}

/// Lists delayed messages by the time at which they are due. A filter reads at most
/// [`SLICE_ROWS`] rows; the page then says so, and its cursor leads to the next ones.
async fn list(store: &PostgresStore, filter: &DelayedFilter, page: &Page) -> Result<Listing<MessageRow>, StoreError> {
    let cursor = page.cursor.as_deref().map(DelayedCursor::parse).transpose()?;
    let limit = page.limit.clamp(1, MAX_PAGE);
    let mut query = QueryBuilder::new("SELECT d.due, d.number, ");
    query.push(MESSAGE_COLUMNS).push(", NULL::bytea AS record FROM (");
    push_walk(&mut query, "due, id AS number, message_id, source, published_on, type_name, key", filter, cursor);
    query.push(" LIMIT ").push_bind(SLICE_ROWS).push(
        ") AS d
         JOIN message m ON m.id = d.message_id AND m.source = d.source AND m.topic = d.published_on WHERE true",
    );
    push_filter(&mut query, filter);
    query.push(" ORDER BY d.due, d.number LIMIT ").push_bind(i64::from(limit) + 1);
    let rows = query.build().persistent(false).fetch_all(&store.pool).await.map_err(at_statement)?;
    let full = rows.len() > limit as usize;
    let kept = &rows[..rows.len().min(limit as usize)];
    let items = kept.iter().map(message_row).collect::<Result<_, _>>()?;
    let next = match (full, kept.last()) {
        (true, Some(last)) => Some(DelayedCursor { due: last.take("due")?, id: last.take("number")? }),
        _ => end_of_slice(store, filter, cursor).await?,
    };
    Ok(Listing { items, next: next.map(DelayedCursor::text), truncated: !full && next.is_some() })
}

/// Reads where a slice ends, if more than one slice waits.
async fn end_of_slice(
    store: &PostgresStore,
    filter: &DelayedFilter,
    cursor: Option<DelayedCursor>,
) -> Result<Option<DelayedCursor>, StoreError> {
    let mut query = QueryBuilder::new("");
    push_walk(&mut query, "due, id", filter, cursor);
    query.push(" LIMIT 1 OFFSET ").push_bind(SLICE_ROWS - 1);
    let row = query.build().persistent(false).fetch_optional(&store.pool).await.map_err(at_statement)?;
    row.map(|row| Ok(DelayedCursor { due: row.take("due")?, id: row.take("id")? })).transpose()
}

/// Appends the walk over the waiting rows, by the time at which they are due.
fn push_walk(query: &mut QueryBuilder<Postgres>, columns: &str, filter: &DelayedFilter, cursor: Option<DelayedCursor>) {
    query.push(format_args!("SELECT {columns} FROM delayed WHERE true"));
    if let Some(from) = filter.from {
        query.push(" AND due >= ").push_bind(from.0);
    }
    if let Some(to) = filter.to {
        query.push(" AND due < ").push_bind(to.0);
    }
    if let Some(DelayedCursor { due, id }) = cursor {
        query.push(" AND (due, id) > (").push_bind(due).push(", ").push_bind(id).push(")");
    }
    query.push(" ORDER BY due, id");
}

/// Appends the conditions that the walk does not have.
fn push_filter(query: &mut QueryBuilder<Postgres>, filter: &DelayedFilter) {
    if let Some(topic) = &filter.topic {
        query.push(" AND m.topic = ").push_bind(clean(topic).into_owned());
    }
    if let Some(topics) = &filter.topics {
        query.push(" AND m.topic = ANY(").push_bind(topics.clone()).push(")");
    }
    if let Some(type_name) = &filter.type_name {
        query.push(" AND d.type_name = ").push_bind(clean(type_name).into_owned());
    }
    if let Some(key) = &filter.key {
        query.push(" AND d.key = ").push_bind(key.to_vec());
    }
}
