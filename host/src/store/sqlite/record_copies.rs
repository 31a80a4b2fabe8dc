//! Copying records of open deliveries before Kafka removes them.

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use courier_core::retention::NearEnd;

use super::SqliteStore;
use super::columns::Columns;
use super::error::{commit_fault, fault};
use crate::store::record_copies::{fenced, fitting};
use crate::store::{Copies, Endangered, PositionId, RecordCopyStore, StoreError};

/// Selects from the open rows whose records Kafka removes soon (`?2` to `?4`) and of which only
/// the coordinates are stored.
macro_rules! endangered {
    ($select:literal, $then:literal) => {
        concat!(
            $select,
            " FROM open_delivery o
              WHERE o.position = ?1 AND o.offset >= ?2 AND (o.offset < ?3 OR o.record_time <= ?4)
                  AND NOT EXISTS (SELECT 1 FROM kept_record k WHERE k.position = o.position AND k.offset = o.offset)",
            $then
        )
    };
}

#[async_trait]
impl RecordCopyStore for SqliteStore {
    async fn endangered(&self, position: PositionId, near: &NearEnd, limit: u32) -> Result<Endangered, StoreError> {
        let recorded_until = near.recorded_until.map_or(i64::MIN, |until| until.0);
        let sums = sqlx::query(endangered!("SELECT count(*), max(o.offset), min(o.record_time)", ""))
            .bind(position.0)
            .bind(near.from.0)
            .bind(near.below.0)
            .bind(recorded_until)
            .fetch_one(&self.connections.readers)
            .await
            .map_err(fault)?;
        let mut columns = Columns::of(&sums);
        let (count, last): (i64, Option<i64>) = (columns.take()?, columns.take()?);
        let oldest: Option<i64> = columns.take()?;
        if count == 0 {
            return Ok(Endangered::default());
        }
        let first: Vec<i64> = sqlx::query_scalar(endangered!("SELECT o.offset", " ORDER BY o.offset LIMIT ?5"))
            .bind(position.0)
            .bind(near.from.0)
            .bind(near.below.0)
            .bind(recorded_until)
            .bind(limit)
            .fetch_all(&self.connections.readers)
            .await
            .map_err(fault)?;
        Ok(Endangered {
            first: first.into_iter().map(Offset).collect(),
            count: u64::try_from(count).unwrap_or_default(),
            last: last.map(Offset),
            oldest: oldest.map(Timestamp),
        })
    }

    // The index is named, since the planner would read all open rows of the position.
    async fn copies(&self, position: PositionId) -> Result<Copies, StoreError> {
        let (count, bytes): (i64, i64) = sqlx::query_as(
            "SELECT count(*), coalesce(sum(copied_bytes), 0) FROM open_delivery INDEXED BY open_delivery_copied
             WHERE position = ? AND copied_bytes > 0",
        )
        .bind(position.0)
        .fetch_one(&self.connections.readers)
        .await
        .map_err(fault)?;
        Ok(Copies { count: u64::try_from(count).unwrap_or_default(), bytes: u64::try_from(bytes).unwrap_or_default() })
    }

    async fn copy_records(
        &self,
        position: PositionId,
        epoch: i64,
        records: &[(Offset, Bytes)],
        max_copied_bytes: u64,
    ) -> Result<usize, StoreError> {
        let mut tx = self.connections.write().await?;
        let found: Option<(i64, i64)> = sqlx::query_as(
            "SELECT p.epoch, (SELECT coalesce(sum(o.copied_bytes), 0) FROM open_delivery o INDEXED BY open_delivery_copied
                              WHERE o.position = p.id AND o.copied_bytes > 0)
             FROM position p WHERE p.id = ?",
        )
        .bind(position.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(fault)?;
        let copied_bytes = match found {
            Some((now, copied_bytes)) if now == epoch => copied_bytes,
            _ => return Err(fenced(position, epoch)),
        };
        let fit = fitting(copied_bytes, records, max_copied_bytes);
        for (offset, record) in fit {
            let kept = sqlx::query(
                "INSERT INTO kept_record (position, offset, record)
                 SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM open_delivery WHERE position = ?1 AND offset = ?2)
                 ON CONFLICT DO NOTHING",
            )
            .bind(position.0)
            .bind(offset.0)
            .bind(record.as_ref())
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
            if kept.rows_affected() == 0 {
                continue;
            }
            sqlx::query("UPDATE open_delivery SET copied_bytes = ?3 WHERE position = ?1 AND offset = ?2")
                .bind(position.0)
                .bind(offset.0)
                .bind(i64::try_from(record.len()).unwrap_or(i64::MAX))
                .execute(&mut *tx)
                .await
                .map_err(fault)?;
        }
        tx.commit().await.map_err(commit_fault)?;
        Ok(fit.len())
    }
}
