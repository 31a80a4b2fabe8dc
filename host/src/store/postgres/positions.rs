//! Positions: where each group stands in each partition.

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow};

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, bounded};
use crate::store::shared::text::clean;
use crate::store::{LostRange, LostRangeFilter, PositionId, PositionRow, PositionStore, StoreError};

#[async_trait]
impl PositionStore for PostgresStore {
    async fn positions(&self) -> Result<Vec<PositionRow>, StoreError> {
        bounded(positions(self)).await
    }

    async fn lost_ranges(&self, filter: &LostRangeFilter, limit: u32) -> Result<Vec<LostRange>, StoreError> {
        bounded(lost_ranges(self, filter, limit)).await
    }
}

pub(super) async fn insert_lost(
    tx: &mut PgConnection,
    position: i64,
    from: i64,
    to: i64,
    why: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO lost_range (group_id, topic, partition, from_offset, to_offset, why, found_at, position_id)
         SELECT group_id, topic, partition, $2, $3, $4, courier_now(), id FROM position WHERE id = $1",
    )
    .bind(position)
    .bind(from)
    .bind(to)
    .bind(clean(why))
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok(())
}

/// Cuts what a position had skipped from the offset that it goes back to.
pub(super) async fn cut_lost(tx: &mut PgConnection, position: i64, to: i64) -> Result<(), StoreError> {
    sqlx::query(
        "WITH gone AS (DELETE FROM lost_range WHERE position_id = $1 AND from_offset >= $2)
         UPDATE lost_range SET to_offset = $2 WHERE position_id = $1 AND from_offset < $2 AND to_offset > $2",
    )
    .bind(position)
    .bind(to)
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok(())
}

async fn positions(store: &PostgresStore) -> Result<Vec<PositionRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT p.id, g.name, p.topic, nullif(p.listener, '') AS listener, p.incarnation, p.partition, p.next, p.epoch,
             p.node
         FROM position p JOIN consumer_group g ON g.id = p.group_id
         WHERE p.current AND (p.listener = '' OR EXISTS (
             SELECT FROM listener l WHERE l.group_id = p.group_id AND l.topic = p.topic AND l.node = p.listener
                 AND l.gone_at IS NULL))
         ORDER BY g.name, p.topic, p.listener, p.partition",
    )
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let row = |row: &PgRow| {
        Ok(PositionRow {
            id: PositionId(row.take("id")?),
            group: row.take("name")?,
            topic: row.take("topic")?,
            listener: row.take("listener")?,
            incarnation: row.take("incarnation")?,
            partition: row.take("partition")?,
            next: row.offset("next")?,
            epoch: row.take("epoch")?,
            node: row.take("node")?,
        })
    };
    rows.iter().map(row).collect()
}

async fn lost_ranges(
    store: &PostgresStore,
    filter: &LostRangeFilter,
    limit: u32,
) -> Result<Vec<LostRange>, StoreError> {
    let rows = sqlx::query(
        "SELECT l.position_id, g.name, l.topic, nullif(p.listener, '') AS listener, l.partition, l.from_offset, l.to_offset,
             l.why, l.found_at
         FROM lost_range l JOIN consumer_group g ON g.id = l.group_id LEFT JOIN position p ON p.id = l.position_id
         WHERE ($2::text[] IS NULL OR g.name = ANY($2)) AND ($3::text[] IS NULL OR l.topic = ANY($3))
             AND ($4::bigint IS NULL OR l.position_id = $4)
         ORDER BY l.id DESC LIMIT $1",
    )
    .bind(i64::from(limit))
    .bind(filter.groups.as_deref())
    .bind(filter.topics.as_deref())
    .bind(filter.position.map(|position| position.0))
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let range = |row: &PgRow| {
        Ok(LostRange {
            position: row.take::<Option<i64>>("position_id")?.map(PositionId),
            group: row.take("name")?,
            topic: row.take("topic")?,
            listener: row.take("listener")?,
            partition: row.take("partition")?,
            from: row.offset("from_offset")?,
            to: row.offset("to_offset")?,
            why: row.take("why")?,
            found_at: row.time("found_at")?,
        })
    };
    rows.iter().map(range).collect()
}
