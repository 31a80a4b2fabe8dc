//! The one way out: what the host owes Kafka, and who may send it.
//!
//! The rows are spread over shards by topic and key. A shard is leased to one
//! host under an epoch, so that the rows of a key are sent by one host at a
//! time and in the order of their ids.

use std::time::Duration;

use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::SqliteStore;
use super::columns::{Columns, clean, json, now};
use super::error::{commit_fault, fault};
use crate::store::{ChosenPartition, OutboundRow, RelayResult, Relayed, StoreError, WriterId};

/// Lanes that one statement asks for: three parameters each.
const LANES_OF_A_QUESTION: usize = 5_000;

impl SqliteStore {
    pub(super) async fn outbound_topics(&self) -> Result<Vec<String>, StoreError> {
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

    pub(super) async fn lease_relay_shards(
        &self,
        writer: WriterId,
        want: u32,
        lease: Duration,
    ) -> Result<Vec<(i32, i64)>, StoreError> {
        let mut tx = self.connections.write().await?;
        let now = now();
        let want = i64::from(want);
        // Nobody took what is still under this writer's name, even if its
        // lease ran out: it goes on under the same epoch.
        sqlx::query(
            "UPDATE relay_shard SET writer_id = NULL, lease_until = 0
             WHERE shard IN (SELECT shard FROM relay_shard WHERE writer_id = ? ORDER BY shard LIMIT -1 OFFSET ?)",
        )
        .bind(writer.0)
        .bind(want)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        let held: i64 = sqlx::query_scalar("SELECT count(*) FROM relay_shard WHERE writer_id = ?")
            .bind(writer.0)
            .fetch_one(&mut *tx)
            .await
            .map_err(fault)?;
        sqlx::query(
            "UPDATE relay_shard SET writer_id = ?1, epoch = epoch + 1
             WHERE shard IN (SELECT shard FROM relay_shard
                             WHERE (writer_id IS NULL OR lease_until <= ?2) AND writer_id IS NOT ?1
                             ORDER BY shard LIMIT ?3)",
        )
        .bind(writer.0)
        .bind(now.0)
        .bind((want - held).max(0))
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        let rows = sqlx::query("UPDATE relay_shard SET lease_until = ? WHERE writer_id = ? RETURNING shard, epoch")
            .bind(now.after(lease).0)
            .bind(writer.0)
            .fetch_all(&mut *tx)
            .await
            .map_err(fault)?;
        tx.commit().await.map_err(commit_fault)?;
        let mut shards: Vec<(i32, i64)> = rows
            .iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok((columns.number()?, columns.take()?))
            })
            .collect::<Result<_, StoreError>>()?;
        shards.sort_unstable();
        Ok(shards)
    }

    pub(super) async fn due_outbound(
        &self,
        shards: &[(i32, i64)],
        limit: u32,
        waiting: &[String],
    ) -> Result<Vec<OutboundRow>, StoreError> {
        // Equality of keys is never true for rows without one: each of those
        // is a lane of its own and hides nothing.
        let rows = sqlx::query(
            "SELECT o.id, o.shard, o.message_id, o.source, coalesce(o.published_on, o.topic), o.topic, o.partition,
                 o.topic_id, o.unknown_from, o.key, o.record, o.tries
             FROM outbound o
             WHERE o.shard IN (SELECT s.shard FROM relay_shard s JOIN json_each(?1) h
                               ON s.shard = h.value ->> 0 AND s.epoch = h.value ->> 1)
               AND o.held_until <= ?2
               AND (o.tries = 0 OR o.topic NOT IN (SELECT value FROM json_each(?4)))
               AND NOT EXISTS (SELECT 1 FROM outbound b
                               WHERE b.topic = o.topic AND b.key = o.key AND b.id < o.id AND b.held_until > ?2)
             ORDER BY o.id LIMIT ?3",
        )
        .bind(json(&shards)?)
        .bind(now().0)
        .bind(limit)
        .bind(json(&waiting)?)
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        rows.iter()
            .map(|row| {
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
            })
            .collect()
    }

    pub(super) async fn choose_outbound_partitions(
        &self,
        shards: &[(i32, i64)],
        chosen: &[ChosenPartition],
    ) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let held = held_shards(&mut tx, shards).await?;
        let chosen: Vec<_> = chosen.iter().map(|one| (one.row, one.partition, clean(&one.topic_id))).collect();
        let chosen = json(&chosen)?;
        let rows = sqlx::query("SELECT o.shard FROM json_each(?) c JOIN outbound o ON o.id = c.value ->> 0")
            .bind(&chosen)
            .fetch_all(&mut *tx)
            .await
            .map_err(fault)?;
        // Whoever is not told that its choice was not stored would produce to
        // a partition that the next holder of the shard does not know of.
        for row in &rows {
            let shard: i32 = Columns::of(row).number()?;
            if !held.contains(&shard) {
                return Err(StoreError::Fenced(format!("relay shard {shard} has a newer epoch")));
            }
        }
        // One with a partition keeps it while the topic is the same.
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

    /// Those lanes that have unsent rows, whoever owes them.
    pub(super) async fn lanes_with_outbound(&self, lanes: &[(String, Bytes)]) -> Result<Vec<usize>, StoreError> {
        // Bytes do not fit into JSON, so that lanes travel as rows.
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

    pub(super) async fn settle_relayed(&self, shards: &[(i32, i64)], results: &[Relayed]) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let held = held_shards(&mut tx, shards).await?;
        let (mut taken, mut undelivered, mut later) = (Vec::new(), Vec::new(), Vec::new());
        let now = now();
        for result in results.iter().filter(|result| held.contains(&result.shard)) {
            match &result.result {
                RelayResult::Taken { partition, offset } => taken.push((result.id, *partition, *offset)),
                RelayResult::Undelivered { code, reason } => undelivered.push((result.id, clean(reason), *code)),
                RelayResult::Later { reason, wait, unknown_from } => {
                    let from = unknown_from.map(|from| from.0);
                    later.push((result.id, now.after(*wait), clean(reason), from));
                }
            }
        }
        settle_taken(&mut tx, &taken).await?;
        settle_undelivered(&mut tx, &undelivered).await?;
        settle_later(&mut tx, &later).await?;
        tx.commit().await.map_err(commit_fault)
    }
}

/// Those of `shards` whose epoch is the present one.
async fn held_shards(tx: &mut SqliteConnection, shards: &[(i32, i64)]) -> Result<Vec<i32>, StoreError> {
    sqlx::query_scalar(
        "SELECT s.shard FROM relay_shard s
         JOIN json_each(?) h ON s.shard = h.value ->> 0 AND s.epoch = h.value ->> 1",
    )
    .bind(json(&shards)?)
    .fetch_all(tx)
    .await
    .map_err(fault)
}

/// Writes the message rows of outbound rows that changed. The one parameter is
/// a JSON list of [id of the outbound row, partition, offset, reason]. What a
/// handler published gets its message row here, when it is first heard of. A
/// message that has a place already keeps it: it was sent twice, and the first
/// place is the one that people were told.
macro_rules! message_rows {
    ($state:literal, $retrying:literal, $record:literal) => {
        concat!(
            "INSERT INTO message (id, key, source, topic, type_name, kind, time, created_at, state, reason, retrying,
                 partition, offset, shard, record)
             SELECT o.message_id, o.key, o.source, coalesce(o.published_on, o.topic), o.type_name, 'event', o.created_at, o.created_at, ",
            $state,
            ", c.value ->> 3, ",
            $retrying,
            ", c.value ->> 1, c.value ->> 2, o.shard, ",
            $record,
            " FROM json_each(?) c JOIN outbound o ON o.id = c.value ->> 0 WHERE o.listed = 1
             ON CONFLICT (id, source, topic) DO UPDATE SET
                 state = excluded.state, reason = excluded.reason, retrying = excluded.retrying,
                 partition = excluded.partition, offset = excluded.offset, shard = excluded.shard,
                 record = excluded.record
             WHERE message.partition IS NULL"
        )
    };
}

async fn settle_taken(tx: &mut SqliteConnection, taken: &[(i64, i32, Offset)]) -> Result<(), StoreError> {
    if taken.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = taken.iter().map(|(id, partition, offset)| (id, partition, offset.0, None::<&str>)).collect();
    let rows = json(&rows)?;
    debug_assert_eq!(State::Committed.code(), 2);
    sqlx::query(message_rows!("2", "0", "NULL")).bind(&rows).execute(&mut *tx).await.map_err(fault)?;
    remove(tx, &rows).await
}

async fn settle_undelivered(
    tx: &mut SqliteConnection,
    undelivered: &[(i64, std::borrow::Cow<'_, str>, &'static str)],
) -> Result<(), StoreError> {
    if undelivered.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> =
        undelivered.iter().map(|(id, reason, code)| (id, None::<i32>, None::<i64>, reason, code)).collect();
    let rows = json(&rows)?;
    debug_assert_eq!(State::SendFail.code(), 1);
    sqlx::query(
        "INSERT INTO undelivered (shard, message_id, topic, type_name, source, key, record, listed, group_name,
             published_on, code, reason, tries, created_at, kept_at)
         SELECT o.shard, o.message_id, o.topic, o.type_name, o.source, o.key, o.record, o.listed, o.group_name,
             o.published_on, c.value ->> 4, c.value ->> 3, o.tries + 1, o.created_at, ?
         FROM json_each(?) c JOIN outbound o ON o.id = c.value ->> 0 ORDER BY o.id",
    )
    .bind(now().0)
    .bind(&rows)
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    // The message keeps the record too, so that a person may send either again.
    sqlx::query(message_rows!("1", "0", "o.record")).bind(&rows).execute(&mut *tx).await.map_err(fault)?;
    remove(tx, &rows).await
}

async fn settle_later(
    tx: &mut SqliteConnection,
    later: &[(i64, Timestamp, std::borrow::Cow<'_, str>, Option<i64>)],
) -> Result<(), StoreError> {
    if later.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = later.iter().map(|(id, _, reason, _)| (id, None::<i32>, None::<i64>, reason)).collect();
    sqlx::query(message_rows!("1", "1", "NULL")).bind(json(&rows)?).execute(&mut *tx).await.map_err(fault)?;
    let rows: Vec<_> = later.iter().map(|(id, until, _, from)| (id, until.0, from)).collect();
    // A row that is gone was sent directly after all, and needs no other try.
    sqlx::query(
        "UPDATE outbound SET tries = tries + 1, held_until = l.value ->> 1, unknown_from = l.value ->> 2
         FROM json_each(?) l WHERE outbound.id = l.value ->> 0",
    )
    .bind(json(&rows)?)
    .execute(tx)
    .await
    .map_err(fault)?;
    Ok(())
}

/// Removes outbound rows. One that is gone already was sent directly at the
/// same time, because its hold ran out: the message is twice in Kafka, with
/// the same id, as after a crash.
async fn remove(tx: &mut SqliteConnection, rows: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM outbound WHERE id IN (SELECT value ->> 0 FROM json_each(?))")
        .bind(rows)
        .execute(tx)
        .await
        .map_err(fault)?;
    Ok(())
}
