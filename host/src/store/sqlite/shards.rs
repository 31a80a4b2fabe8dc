//! Leases on relay shards.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::columns::{Columns, json, now};
use super::error::{commit_fault, fault};
use crate::store::{ShardStore, StoreError, WriterId};

#[async_trait]
impl ShardStore for SqliteStore {
    async fn lease_shards(
        &self,
        writer: WriterId,
        want: u32,
        kept: &[i32],
        lease: Duration,
    ) -> Result<Vec<(i32, i64)>, StoreError> {
        let mut tx = self.connections.write().await?;
        let now = now();
        let want = i64::from(want);
        // A shard that still has this writer was taken by no other host, also when its lease ran
        // out, and goes on under the same epoch.
        sqlx::query(
            "UPDATE relay_shard SET writer_id = NULL, lease_until = 0
             WHERE shard IN (SELECT shard FROM relay_shard WHERE writer_id = ? ORDER BY shard LIMIT -1 OFFSET ?)
                 AND shard NOT IN (SELECT value FROM json_each(?))",
        )
        .bind(writer.0)
        .bind(want)
        .bind(json(&kept)?)
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
}

/// Reads which of `shards` still have these epochs.
pub(super) async fn held_shards(tx: &mut SqliteConnection, shards: &[(i32, i64)]) -> Result<Vec<i32>, StoreError> {
    sqlx::query_scalar(
        "SELECT s.shard FROM relay_shard s
         JOIN json_each(?) h ON s.shard = h.value ->> 0 AND s.epoch = h.value ->> 1",
    )
    .bind(json(&shards)?)
    .fetch_all(tx)
    .await
    .map_err(fault)
}
