//! Outbound rows: reading those of leased shards, choosing their partitions, and sending a
//! message again.
//!
//! The rows are spread over shards by topic and key. A shard is leased to one host under an
//! epoch, so that the rows of a key are sent by one host at a time and in the order of their
//! ids.

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Offset;
use courier_core::status::State;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};

use super::SqliteStore;
use super::columns::{Columns, expect_rows, json, now};
use super::error::{commit_fault, fault};
use super::identities::identity_columns;
use super::messages::message_of;
use super::shards::held_shards;
use crate::store::delayed::{is_cancelled, not_resent};
use crate::store::shared::dialect::StatementConnection as _;
use crate::store::shared::text::clean;
use crate::store::{ChosenPartition, Identity, LeftOut, OutboundRow, OutboundStore, Relayed, StoreError};

/// Most lanes of one statement, each with three parameters.
const LANES_OF_A_QUESTION: usize = 5_000;

/// The beginning of the questions for rows. A row is hidden behind an earlier one of its
/// key that is left out. Equality of keys is never true for rows without a key: each of
/// those is a lane of its own and hides nothing.
macro_rules! taken_rows {
    ($id:literal) => {
        concat!(
            "WITH silent (topic, partition) AS MATERIALIZED (SELECT value ->> 0, value ->> 1 FROM json_each(?4)),
             busy (topic, key) AS MATERIALIZED (
                 SELECT o.topic, o.key FROM json_each(?5) u JOIN outbound o ON o.id = u.value WHERE o.key IS NOT NULL
             )
             SELECT ",
            $id,
            ", o.shard, o.message_id, o.source, coalesce(o.published_on, o.topic), o.topic, o.partition,
                 o.topic_id, o.unknown_from, o.key, o.record, o.tries
             FROM outbound o
             WHERE o.shard IN (SELECT s.shard FROM relay_shard s JOIN json_each(?1) h
                               ON s.shard = h.value ->> 0 AND s.epoch = h.value ->> 1)
               AND o.held_until <= ?2
               AND o.id NOT IN (SELECT value FROM json_each(?5))
               AND NOT EXISTS (SELECT 1 FROM busy b WHERE b.topic = o.topic AND b.key = o.key)
               AND NOT EXISTS (SELECT 1 FROM outbound b
                               WHERE b.topic = o.topic AND b.key = o.key AND b.id < o.id AND b.held_until > ?2)
               AND NOT (o.topic IN (SELECT value FROM json_each(?3))
                        AND EXISTS (SELECT 1 FROM outbound b
                                    WHERE b.topic = o.topic AND b.key = o.key AND b.id < o.id AND b.tries > 0))
               AND NOT (o.topic IN (SELECT topic FROM silent)
                        AND EXISTS (SELECT 1 FROM outbound b
                                    JOIN silent s ON s.topic = b.topic AND s.partition = b.partition
                                    WHERE b.topic = o.topic AND b.key = o.key AND b.id < o.id))"
        )
    };
}

fn outbound_row(row: &SqliteRow) -> Result<OutboundRow, StoreError> {
    let mut columns = Columns::of(row);
    Ok(OutboundRow {
        id: columns.take()?,
        shard: columns.number()?,
        message_id: columns.take()?,
        source: columns.take()?,
        published_on: columns.take()?,
        topic: columns.take()?,
        partition: columns.number_option()?,
        topic_id: columns.take::<Option<String>>()?.unwrap_or_default(),
        unknown_from: columns.take::<Option<i64>>()?.map(Offset),
        key: columns.bytes_option()?,
        record: columns.take::<Vec<u8>>()?.into(),
        tries: columns.number()?,
    })
}

#[async_trait]
impl OutboundStore for SqliteStore {
    async fn topics_with_outbound(&self) -> Result<Vec<String>, StoreError> {
        // Steps from one topic to the next in the index, so that the cost is
        // that of the topics and not of the rows.
        sqlx::query_scalar(
            "WITH RECURSIVE t (topic) AS (
                 SELECT min(topic) FROM outbound
                 UNION ALL
                 SELECT (SELECT min(o.topic) FROM outbound o WHERE o.topic > t.topic) FROM t WHERE t.topic IS NOT NULL
             ) SELECT topic FROM t WHERE topic IS NOT NULL",
        )
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)
    }

    async fn outbound(
        &self,
        shards: &[(i32, i64)],
        limit: u32,
        left_out: &LeftOut,
    ) -> Result<Vec<OutboundRow>, StoreError> {
        let (shards, topics, under_way) = (json(&shards)?, json(&left_out.topics)?, json(&left_out.under_way)?);
        let partitions = json(&left_out.partitions)?;
        let now = now().0;
        let mut rows = sqlx::query(concat!(
            taken_rows!("o.id"),
            " AND (o.tries = 0 OR o.topic NOT IN (SELECT value FROM json_each(?3)))
              AND NOT EXISTS (SELECT 1 FROM silent s WHERE s.topic = o.topic AND s.partition = o.partition)
              ORDER BY o.id LIMIT ?6"
        ))
        .bind(&shards)
        .bind(now)
        .bind(&topics)
        .bind(&partitions)
        .bind(&under_way)
        .bind(limit)
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        if !left_out.tried.is_empty() {
            // Beside a least id the other columns are those of its row.
            let first = sqlx::query(concat!(
                taken_rows!("min(o.id)"),
                " AND o.topic NOT IN (SELECT value FROM json_each(?3))
                  AND EXISTS (SELECT 1 FROM json_each(?6) t
                              WHERE o.topic = t.value ->> 0 AND o.partition = t.value ->> 1)
                  GROUP BY o.topic, o.partition"
            ))
            .bind(&shards)
            .bind(now)
            .bind(&topics)
            .bind(&partitions)
            .bind(&under_way)
            .bind(json(&left_out.tried)?)
            .fetch_all(&self.connections.readers)
            .await
            .map_err(fault)?;
            rows.extend(first);
        }
        let mut rows = rows.iter().map(outbound_row).collect::<Result<Vec<_>, _>>()?;
        rows.sort_unstable_by_key(|row| row.id);
        Ok(rows)
    }

    async fn choose_partitions(&self, shards: &[(i32, i64)], chosen: &[ChosenPartition]) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let held = held_shards(&mut tx, shards).await?;
        let chosen: Vec<_> = chosen.iter().map(|one| (one.row, one.partition, clean(&one.topic_id))).collect();
        let chosen = json(&chosen)?;
        let rows = sqlx::query("SELECT o.shard FROM json_each(?) c JOIN outbound o ON o.id = c.value ->> 0")
            .bind(&chosen)
            .fetch_all(&mut *tx)
            .await
            .map_err(fault)?;
        // One shard with a newer epoch fails the whole call: otherwise a record would go to a
        // partition that the next holder of the shard does not know of.
        for row in &rows {
            let shard: i32 = Columns::of(row).number()?;
            if !held.contains(&shard) {
                return Err(StoreError::Fenced(format!("relay shard {shard} has a newer epoch")));
            }
        }
        // A row with a partition keeps it while the topic is the same.
        sqlx::query(
            "UPDATE outbound SET partition = c.value ->> 1, topic_id = c.value ->> 2, unknown_from = NULL
             FROM json_each(?) c WHERE outbound.id = c.value ->> 0
                 AND (outbound.partition IS NULL OR outbound.topic_id IS NOT c.value ->> 2 OR outbound.topic_id = '')",
        )
        .bind(&chosen)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        tx.commit().await.map_err(commit_fault)
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn unsent_lanes(&self, lanes: &[(String, Bytes)]) -> Result<Vec<usize>, StoreError> {
        // JSON has no bytes, so that lanes are bound as rows.
        let mut found = Vec::new();
        for (start, lanes) in (0..).step_by(LANES_OF_A_QUESTION).zip(lanes.chunks(LANES_OF_A_QUESTION)) {
            let mut query = QueryBuilder::<Sqlite>::new("WITH lane (place, topic, key) AS (");
            query.push_values((start..).zip(lanes), |mut row, (place, (topic, key))| {
                row.push_bind(place).push_bind(clean(topic).into_owned()).push_bind(key.to_vec());
            });
            query.push(
                ") SELECT l.place FROM lane l WHERE EXISTS (
                     SELECT 1 FROM outbound o WHERE o.topic = l.topic AND o.key = l.key)",
            );
            let rows = query.build().fetch_all(&self.connections.readers).await.map_err(fault)?;
            for row in &rows {
                found.push(usize::try_from(Columns::of(row).take::<i64>()?).unwrap_or_default());
            }
        }
        Ok(found)
    }

    async fn relayed(&self, shards: &[(i32, i64)], results: &[Relayed]) -> Result<(), StoreError> {
        self.settle_relayed(shards, results).await
    }

    async fn resend(&self, message: &Identity) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let row = message_of(&mut tx, message).await?;
        let row = row.ok_or_else(|| StoreError::NotFound(format!("there is no message {message}")))?;
        if row.state != State::SendFail {
            let state = row.state;
            return Err(StoreError::Conflict(format!("message {message} is {state}: only SEND_FAIL is sent again")));
        }
        if is_cancelled(&row) {
            return Err(StoreError::Conflict(not_resent(message)));
        }
        let (id, source, topic) = identity_columns(message);
        // A message with an outbound row needs no second one; that is due now.
        let owed = sqlx::query(
            "UPDATE outbound SET held_until = 0
             WHERE message_id = ? AND source = ? AND coalesce(published_on, topic) = ? AND listed = 1",
        )
        .bind(id.as_ref())
        .bind(source.as_ref())
        .bind(topic.as_ref())
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        // An undelivered row of the message is removed, so that it is not sent twice.
        sqlx::query(
            "DELETE FROM undelivered
             WHERE message_id = ? AND source = ? AND coalesce(published_on, topic) = ? AND listed = 1",
        )
        .bind(id.as_ref())
        .bind(source.as_ref())
        .bind(topic.as_ref())
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        if owed.rows_affected() == 0 {
            // A broadcast goes to the companion of its topic.
            let goes_to = row.goes_to();
            let inserted = sqlx::query(
                "INSERT INTO outbound (shard, message_id, topic, key, type_name, source, held_until, sender, listed,
                     created_at, published_on, record)
                 SELECT shard, id, ?1, key, type_name, source, 0, 1, 1, ?2, nullif(topic, ?1), record
                 FROM message WHERE id = ?3 AND source = ?4 AND topic = ?5 AND shard IS NOT NULL AND record IS NOT NULL",
            )
            .bind(clean(&goes_to))
            .bind(now().0)
            .bind(id.as_ref())
            .bind(source.as_ref())
            .bind(topic.as_ref())
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
            if inserted.rows_affected() == 0 {
                return Err(StoreError::Conflict(format!("the body of message {message} is not in the store")));
            }
        }
        let changed = sqlx::query(
            "UPDATE message SET retrying = 1, record = NULL
             WHERE id = ? AND source = ? AND topic = ? AND state = ? AND partition IS NULL",
        )
        .bind(id.as_ref())
        .bind(source.as_ref())
        .bind(topic.as_ref())
        .bind(State::SendFail.code())
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        expect_rows("marking a message as being sent again", 1, changed.rows_affected())?;
        tx.note().await?;
        tx.commit().await.map_err(commit_fault)
    }
}
