//! Topics that change: partitions that are gone, and those that were added.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Offset;

use super::SqliteStore;
use super::claim::{end_position, fence};
use super::columns::Columns;
use super::error::{commit_fault, fault};
use super::groups::group_number;
use crate::store::incarnations::PARTITION_GONE;
use crate::store::shared::text::clean;
use crate::store::{
    Growth, IncarnationStore, OlderPartition, PositionId, Renewal, SeenLogEnd, StoreError, TopicOfGroup,
};

#[async_trait]
impl IncarnationStore for SqliteStore {
    async fn end_vanished(
        &self,
        topic: &TopicOfGroup<'_>,
        listener: Option<&str>,
        partitions: i32,
    ) -> Result<Vec<i32>, StoreError> {
        let mut tx = self.connections.write().await?;
        let group = group_number(&mut tx, topic.group).await?;
        let rows = sqlx::query(
            "SELECT p.id, p.partition, p.next, p.epoch FROM position p
             WHERE p.group_id = ?1 AND p.topic = ?2 AND p.listener = ?3 AND p.partition >= ?4
                 AND p.topic_id NOT IN ('', ?5) AND NOT p.gone
                 AND NOT EXISTS (SELECT 1 FROM position o JOIN position n ON n.group_id = o.group_id
                                     AND n.topic = o.topic AND n.partition = o.partition AND n.listener = o.listener
                                     AND n.incarnation > o.incarnation AND n.topic_id <> o.topic_id
                                 WHERE o.group_id = ?1 AND o.topic = ?2 AND o.listener = ?3 AND o.topic_id = ?5)
                 AND NOT EXISTS (SELECT 1 FROM position n WHERE n.group_id = p.group_id AND n.topic = p.topic
                                 AND n.partition = p.partition AND n.listener = p.listener
                                 AND n.incarnation > p.incarnation)
             ORDER BY p.partition",
        )
        .bind(group)
        .bind(clean(topic.topic))
        .bind(clean(listener.unwrap_or_default()))
        .bind(partitions)
        .bind(clean(topic.topic_id))
        .fetch_all(&mut *tx)
        .await
        .map_err(fault)?;
        let mut ended = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut columns = Columns::of(row);
            let (id, partition) = (PositionId(columns.take()?), columns.number()?);
            let (next, epoch) = (columns.offset()?, columns.take()?);
            fence(&mut tx, id, epoch).await?;
            end_position(&mut tx, group, id, next, &Renewal::without_a_place(PARTITION_GONE)).await?;
            sqlx::query("UPDATE position SET gone = 1 WHERE id = ?")
                .bind(id.0)
                .execute(&mut *tx)
                .await
                .map_err(fault)?;
            ended.push(partition);
        }
        tx.commit().await.map_err(commit_fault)?;
        Ok(ended)
    }

    async fn growth(&self, topic: &TopicOfGroup<'_>, partition: i32) -> Result<Growth, StoreError> {
        let mut reader = self.connections.readers.acquire().await.map_err(fault)?;
        let seen = sqlx::query(
            "SELECT w.partition, w.log_end, p.next, p.id FROM consumer_group g
             JOIN growth w ON w.group_id = g.id AND w.topic = ?2 AND w.topic_id = ?3
                 AND w.first_new <= ?4 AND ?4 < w.count
             JOIN position p ON p.group_id = g.id AND p.topic = w.topic AND p.partition = w.partition
                 AND p.listener = '' AND p.topic_id = w.topic_id AND NOT p.gone
             WHERE g.name = ?1
                 AND NOT EXISTS (SELECT 1 FROM position n WHERE n.group_id = p.group_id AND n.topic = p.topic
                                 AND n.partition = p.partition AND n.listener = p.listener
                                 AND n.incarnation > p.incarnation)
             ORDER BY w.partition",
        )
        .bind(clean(topic.group))
        .bind(clean(topic.topic))
        .bind(clean(topic.topic_id))
        .bind(partition)
        .fetch_all(&mut *reader)
        .await
        .map_err(fault)?;
        if seen.is_empty() {
            let older: Vec<(i32, i64)> = sqlx::query_as(
                "SELECT p.partition, p.topic_id = ?3 FROM position p JOIN consumer_group g ON g.id = p.group_id
                 WHERE g.name = ?1 AND p.topic = ?2 AND p.listener = '' AND NOT p.gone
                     AND NOT EXISTS (SELECT 1 FROM position n WHERE n.group_id = p.group_id AND n.topic = p.topic
                                     AND n.partition = p.partition AND n.listener = p.listener
                                     AND n.incarnation > p.incarnation)
                 ORDER BY p.partition",
            )
            .bind(clean(topic.group))
            .bind(clean(topic.topic))
            .bind(clean(topic.topic_id))
            .fetch_all(&mut *reader)
            .await
            .map_err(fault)?;
            return Ok(Growth::unseen(partition, older.into_iter().map(|(one, same)| (one, same != 0))));
        }
        let mut behind = Vec::new();
        let mut keys = BTreeSet::new();
        for row in &seen {
            let mut columns = Columns::of(row);
            let (older, log_end, next) = (columns.number()?, columns.offset()?, columns.offset()?);
            let position: i64 = columns.take()?;
            if next < log_end {
                behind.push(OlderPartition { partition: older, next, log_end });
                continue;
            }
            keys.extend(open_keys(&mut reader, position, log_end).await?);
        }
        Ok(if behind.is_empty() { Growth::Passed(keys.into_iter().collect()) } else { Growth::Behind(behind) })
    }

    async fn keep_growth(
        &self,
        topic: &TopicOfGroup<'_>,
        first_new: i32,
        count: i32,
        ends: &[(i32, Offset)],
    ) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let group = group_number(&mut tx, topic.group).await?;
        for (partition, end) in ends {
            sqlx::query(
                "INSERT INTO growth (group_id, topic, topic_id, first_new, count, partition, log_end)
                 VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            )
            .bind(group)
            .bind(clean(topic.topic))
            .bind(clean(topic.topic_id))
            .bind(first_new)
            .bind(count)
            .bind(partition)
            .bind(end.0)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        }
        tx.commit().await.map_err(commit_fault)
    }

    async fn keep_log_ends(&self, ends: &[SeenLogEnd]) -> Result<(), StoreError> {
        self.write_log_ends(ends).await
    }
}

/// Reads the keys of open deliveries below an offset.
async fn open_keys(
    reader: &mut sqlx::SqliteConnection,
    position: i64,
    below: Offset,
) -> Result<Vec<Bytes>, StoreError> {
    let keys: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT DISTINCT key FROM open_delivery WHERE position = ? AND offset < ? AND key IS NOT NULL",
    )
    .bind(position)
    .bind(below.0)
    .fetch_all(reader)
    .await
    .map_err(fault)?;
    Ok(keys.into_iter().map(Bytes::from).collect())
}
