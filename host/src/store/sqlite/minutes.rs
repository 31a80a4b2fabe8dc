//! Sums of minutes, and histograms of how long attempts took.

use async_trait::async_trait;
use courier_core::message::Timestamp;

use super::SqliteStore;
use super::columns::{Columns, json, now};
use super::error::{commit_fault, fault};
use crate::store::shared::text::clean;
use crate::store::{MinuteRow, MinuteStore, PaceRow, StoreError, WriterId};

#[async_trait]
impl MinuteStore for SqliteStore {
    async fn put_minutes(&self, writer: WriterId, minutes: &[MinuteRow], paces: &[PaceRow]) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        for row in minutes {
            sqlx::query(
                "INSERT INTO minute (minute, writer_id, group_name, published, send_fail, handled, failed,
                     given_up)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (minute, writer_id, group_name) DO UPDATE SET published = excluded.published,
                     send_fail = excluded.send_fail, handled = excluded.handled, failed = excluded.failed,
                     given_up = excluded.given_up",
            )
            .bind(row.minute.0)
            .bind(writer.0)
            .bind(clean(&row.group))
            .bind(row.published.cast_signed())
            .bind(row.send_fail.cast_signed())
            .bind(row.handled.cast_signed())
            .bind(row.failed.cast_signed())
            .bind(row.given_up.cast_signed())
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        }
        for pace in paces {
            sqlx::query(
                "INSERT INTO pace (writer_id, group_name, buckets, at) VALUES (?, ?, ?, ?)
                 ON CONFLICT (writer_id, group_name) DO UPDATE SET buckets = excluded.buckets, at = excluded.at",
            )
            .bind(writer.0)
            .bind(clean(&pace.group))
            .bind(json(&pace.buckets)?)
            .bind(now().0)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        }
        tx.commit().await.map_err(commit_fault)
    }

    async fn minutes(&self, since: Timestamp) -> Result<Vec<MinuteRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT minute, group_name, sum(published), sum(send_fail), sum(handled), sum(failed),
                 sum(given_up)
             FROM minute WHERE minute >= ? GROUP BY minute, group_name ORDER BY minute, group_name",
        )
        .bind(since.0)
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok(MinuteRow {
                    minute: columns.time()?,
                    group: columns.take()?,
                    published: columns.number()?,
                    send_fail: columns.number()?,
                    handled: columns.number()?,
                    failed: columns.number()?,
                    given_up: columns.number()?,
                })
            })
            .collect()
    }

    async fn paces(&self, since: Timestamp) -> Result<Vec<PaceRow>, StoreError> {
        let rows = sqlx::query("SELECT group_name, buckets FROM pace WHERE at >= ?")
            .bind(since.0)
            .fetch_all(&self.connections.readers)
            .await
            .map_err(fault)?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                let (group, buckets): (String, String) = (columns.take()?, columns.take()?);
                let buckets = serde_json::from_str(&buckets)
                    .map_err(|error| StoreError::Bug(format!("the pace of a group is not JSON: {error}")))?;
                Ok(PaceRow { group, buckets })
            })
            .collect()
    }
}
