//! Positions: where each group stands in each partition.

use async_trait::async_trait;
use courier_core::message::{Offset, Timestamp};
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::columns::{Columns, optional_json};
use super::error::fault;
use crate::store::shared::text::clean;
use crate::store::{LostRange, LostRangeFilter, PositionId, PositionRow, PositionStore, StoreError};

/// Writes a lost range.
pub(super) async fn record_lost(
    connection: &mut SqliteConnection,
    position: PositionId,
    from: Offset,
    to: Offset,
    why: &str,
    found_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO lost_range (position, from_offset, to_offset, why, found_at) VALUES (?, ?, ?, ?, ?)")
        .bind(position.0)
        .bind(from.0)
        .bind(to.0)
        .bind(clean(why))
        .bind(found_at.0)
        .execute(connection)
        .await
        .map_err(fault)?;
    Ok(())
}

/// Cuts what a position had skipped from the offset that it goes back to.
pub(super) async fn cut_lost(
    connection: &mut SqliteConnection,
    position: PositionId,
    to: Offset,
) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM lost_range WHERE position = ? AND from_offset >= ?",
        "UPDATE lost_range SET to_offset = ?2 WHERE position = ?1 AND from_offset < ?2 AND to_offset > ?2",
    ] {
        sqlx::query(statement).bind(position.0).bind(to.0).execute(&mut *connection).await.map_err(fault)?;
    }
    Ok(())
}

#[async_trait]
impl PositionStore for SqliteStore {
    async fn positions(&self) -> Result<Vec<PositionRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT p.id, g.name, p.topic, nullif(p.listener, ''), p.incarnation, p.partition, p.next, p.epoch, w.node
             FROM position p
             JOIN consumer_group g ON g.id = p.group_id
             LEFT JOIN writer w ON w.id = p.writer_id
             WHERE NOT p.gone AND NOT EXISTS (SELECT 1 FROM position n WHERE n.group_id = p.group_id AND n.topic = p.topic
                               AND n.partition = p.partition AND n.listener = p.listener
                               AND n.incarnation > p.incarnation)
               AND (p.listener = '' OR EXISTS (SELECT 1 FROM listener l WHERE l.group_id = p.group_id
                                               AND l.topic = p.topic AND l.node = p.listener AND l.gone_at IS NULL))
             ORDER BY g.name, p.topic, p.listener, p.partition",
        )
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok(PositionRow {
                    id: PositionId(columns.take()?),
                    group: columns.take()?,
                    topic: columns.take()?,
                    listener: columns.take()?,
                    incarnation: columns.number()?,
                    partition: columns.number()?,
                    next: columns.offset()?,
                    epoch: columns.take()?,
                    node: columns.take()?,
                })
            })
            .collect()
    }

    async fn lost_ranges(&self, filter: &LostRangeFilter, limit: u32) -> Result<Vec<LostRange>, StoreError> {
        let (groups, topics) = (optional_json(filter.groups.as_deref())?, optional_json(filter.topics.as_deref())?);
        let rows = sqlx::query(
            "SELECT p.id, g.name, p.topic, nullif(p.listener, ''), p.partition, l.from_offset, l.to_offset, l.why,
                 l.found_at
             FROM lost_range l
             JOIN position p ON p.id = l.position
             JOIN consumer_group g ON g.id = p.group_id
             WHERE (?2 IS NULL OR g.name IN (SELECT value FROM json_each(?2)))
                 AND (?3 IS NULL OR p.topic IN (SELECT value FROM json_each(?3)))
                 AND (?4 IS NULL OR p.id = ?4)
             ORDER BY l.id DESC LIMIT ?1",
        )
        .bind(limit)
        .bind(groups)
        .bind(topics)
        .bind(filter.position.map(|position| position.0))
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok(LostRange {
                    position: Some(PositionId(columns.take()?)),
                    group: columns.take()?,
                    topic: columns.take()?,
                    listener: columns.take()?,
                    partition: columns.number()?,
                    from: columns.offset()?,
                    to: columns.offset()?,
                    why: columns.take()?,
                    found_at: columns.time()?,
                })
            })
            .collect()
    }
}
