//! Topics that change: partitions that are gone, and those that were added.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Offset;

use super::claim::end_position;
use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, bounded, commit};
use crate::store::incarnations::PARTITION_GONE;
use crate::store::shared::text::clean;
use crate::store::{Growth, IncarnationStore, OlderPartition, Renewal, SeenLogEnd, StoreError, TopicOfGroup};

#[async_trait]
impl IncarnationStore for PostgresStore {
    async fn end_vanished(
        &self,
        topic: &TopicOfGroup<'_>,
        listener: Option<&str>,
        partitions: i32,
    ) -> Result<Vec<i32>, StoreError> {
        bounded(end_vanished(self, topic, listener, partitions)).await
    }

    async fn growth(&self, topic: &TopicOfGroup<'_>, partition: i32) -> Result<Growth, StoreError> {
        bounded(growth(self, topic, partition)).await
    }

    async fn keep_growth(
        &self,
        topic: &TopicOfGroup<'_>,
        first_new: i32,
        count: i32,
        ends: &[(i32, Offset)],
    ) -> Result<(), StoreError> {
        bounded(keep_growth(self, topic, first_new, count, ends)).await
    }

    async fn keep_log_ends(&self, ends: &[SeenLogEnd]) -> Result<(), StoreError> {
        bounded(super::log_ends::keep(self, ends)).await
    }
}

async fn end_vanished(
    store: &PostgresStore,
    topic: &TopicOfGroup<'_>,
    listener: Option<&str>,
    partitions: i32,
) -> Result<Vec<i32>, StoreError> {
    let group_id = store.groups.id(&store.pool, topic.group).await?;
    let mut tx = store.begin_tx().await?;
    let rows = sqlx::query(
        "SELECT id, partition, next FROM position
         WHERE group_id = $1 AND topic = $2 AND listener = $3 AND partition >= $4 AND topic_id NOT IN ('', $5) AND current
             AND NOT EXISTS (SELECT FROM position o JOIN position n ON n.group_id = o.group_id
                                 AND n.topic = o.topic AND n.partition = o.partition AND n.listener = o.listener
                                 AND n.incarnation > o.incarnation AND n.topic_id <> o.topic_id
                             WHERE o.group_id = $1 AND o.topic = $2 AND o.listener = $3 AND o.topic_id = $5)
         ORDER BY id FOR UPDATE",
    )
    .bind(group_id)
    .bind(clean(topic.topic))
    .bind(clean(listener.unwrap_or_default()))
    .bind(partitions)
    .bind(clean(topic.topic_id))
    .fetch_all(&mut *tx)
    .await
    .map_err(at_statement)?;
    let mut ended = Vec::with_capacity(rows.len());
    for row in &rows {
        let (id, next): (i64, Offset) = (row.take("id")?, row.offset("next")?);
        sqlx::query("UPDATE position SET current = false, epoch = epoch + 1 WHERE id = $1")
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(at_statement)?;
        end_position(&mut tx, group_id, id, next, None, &Renewal::without_a_place(PARTITION_GONE)).await?;
        ended.push(row.take("partition")?);
    }
    commit(tx).await?;
    ended.sort_unstable();
    Ok(ended)
}

async fn growth(store: &PostgresStore, topic: &TopicOfGroup<'_>, partition: i32) -> Result<Growth, StoreError> {
    let group_id = store.groups.id(&store.pool, topic.group).await?;
    let seen = sqlx::query(
        "SELECT w.partition, w.log_end, p.next, p.id FROM growth w
         JOIN position p ON p.group_id = w.group_id AND p.topic = w.topic AND p.partition = w.partition
             AND p.listener = '' AND p.topic_id = w.topic_id AND p.current
         WHERE w.group_id = $1 AND w.topic = $2 AND w.topic_id = $3 AND w.first_new <= $4 AND $4 < w.count
         ORDER BY w.partition",
    )
    .bind(group_id)
    .bind(clean(topic.topic))
    .bind(clean(topic.topic_id))
    .bind(partition)
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    if seen.is_empty() {
        let older = sqlx::query(
            "SELECT partition, topic_id = $3 AS same FROM position
             WHERE group_id = $1 AND topic = $2 AND listener = '' AND current ORDER BY partition",
        )
        .bind(group_id)
        .bind(clean(topic.topic))
        .bind(clean(topic.topic_id))
        .fetch_all(&store.pool)
        .await
        .map_err(at_statement)?;
        let older: Vec<(i32, bool)> = older
            .iter()
            .map(|row| Ok((row.take("partition")?, row.take("same")?)))
            .collect::<Result<_, StoreError>>()?;
        return Ok(Growth::unseen(partition, older));
    }
    let (mut behind, mut keys) = (Vec::new(), BTreeSet::new());
    for row in &seen {
        let (older, log_end, next) = (row.take("partition")?, row.offset("log_end")?, row.offset("next")?);
        if next < log_end {
            behind.push(OlderPartition { partition: older, next, log_end });
            continue;
        }
        let open = sqlx::query(
            "SELECT DISTINCT key FROM open_delivery WHERE position_id = $1 AND record_offset < $2 AND key IS NOT NULL",
        )
        .bind(row.take::<i64>("id")?)
        .bind(log_end.0)
        .fetch_all(&store.pool)
        .await
        .map_err(at_statement)?;
        for row in &open {
            keys.extend(row.bytes("key")?);
        }
    }
    let keys: Vec<Bytes> = keys.into_iter().collect();
    Ok(if behind.is_empty() { Growth::Passed(keys) } else { Growth::Behind(behind) })
}

async fn keep_growth(
    store: &PostgresStore,
    topic: &TopicOfGroup<'_>,
    first_new: i32,
    count: i32,
    ends: &[(i32, Offset)],
) -> Result<(), StoreError> {
    let group_id = store.groups.id(&store.pool, topic.group).await?;
    let (partitions, ends): (Vec<i32>, Vec<i64>) = ends.iter().map(|(partition, end)| (*partition, end.0)).unzip();
    let mut tx = store.begin_tx().await?;
    sqlx::query(
        "INSERT INTO growth (group_id, topic, topic_id, first_new, count, partition, log_end)
         SELECT $1, $2, $3, $4, $5, partition, log_end
         FROM unnest($6::integer[], $7::bigint[]) AS older (partition, log_end)
         ON CONFLICT DO NOTHING",
    )
    .bind(group_id)
    .bind(clean(topic.topic))
    .bind(clean(topic.topic_id))
    .bind(first_new)
    .bind(count)
    .bind(&partitions)
    .bind(&ends)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    commit(tx).await
}
