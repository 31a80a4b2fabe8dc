//! Leases on relay shards.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, commit, micros, prompt};
use crate::store::{ShardStore, StoreError, WriterId};

#[async_trait]
impl ShardStore for PostgresStore {
    async fn lease_shards(
        &self,
        writer: WriterId,
        want: u32,
        kept: &[i32],
        lease: Duration,
    ) -> Result<Vec<(i32, i64)>, StoreError> {
        prompt(lease_shards(self, writer, want, kept, lease)).await
    }
}

/// Leases shards. A host takes no more than `want`, so that shards are left for the
/// others, and frees those beyond that unless they are `kept`. With `SKIP LOCKED` hosts that lease at the
/// same moment take other rows and do not wait for each other.
async fn lease_shards(
    store: &PostgresStore,
    writer: WriterId,
    want: u32,
    kept: &[i32],
    lease: Duration,
) -> Result<Vec<(i32, i64)>, StoreError> {
    let mut tx = store.begin_tx().await?;
    // A lease that ran out and that no host took is renewed under its epoch, under which
    // no other host can have written.
    let renewed = sqlx::query(
        "WITH mine AS (
             SELECT shard, row_number() OVER (ORDER BY shard) <= $2 OR shard = ANY ($4) AS keep
             FROM relay_shard WHERE writer_id = $1
         )
         UPDATE relay_shard s SET
             writer_id = CASE WHEN mine.keep THEN s.writer_id END,
             lease_until = CASE WHEN mine.keep THEN courier_now() + $3 ELSE 0 END
         FROM mine WHERE s.shard = mine.shard AND s.writer_id = $1
         RETURNING s.shard, s.epoch, mine.keep",
    )
    .bind(writer.0)
    .bind(i64::from(want))
    .bind(micros(lease))
    .bind(kept)
    .fetch_all(&mut *tx)
    .await
    .map_err(at_statement)?;
    let mut shards: Vec<(i32, i64)> = Vec::new();
    for row in &renewed {
        if row.take("keep")? {
            shards.push((row.take("shard")?, row.take("epoch")?));
        }
    }
    let missing = i64::from(want) - i64::try_from(shards.len()).unwrap_or(i64::MAX);
    if missing > 0 {
        let taken = sqlx::query(
            "WITH free AS (
                 SELECT shard FROM relay_shard
                 WHERE (writer_id IS NULL OR lease_until <= courier_now()) AND writer_id IS DISTINCT FROM $1
                 ORDER BY shard LIMIT $2 FOR UPDATE SKIP LOCKED
             )
             UPDATE relay_shard s SET writer_id = $1, epoch = s.epoch + 1, lease_until = courier_now() + $3
             FROM free WHERE s.shard = free.shard
             RETURNING s.shard, s.epoch",
        )
        .bind(writer.0)
        .bind(missing)
        .bind(micros(lease))
        .fetch_all(&mut *tx)
        .await
        .map_err(at_statement)?;
        for row in &taken {
            shards.push((row.take("shard")?, row.take("epoch")?));
        }
    }
    commit(tx).await?;
    shards.sort_unstable();
    Ok(shards)
}

/// Splits shards and epochs into two arrays.
pub(super) fn shard_columns(shards: &[(i32, i64)]) -> (Vec<i32>, Vec<i64>) {
    shards.iter().copied().unzip()
}

/// Locks the shards that still have these epochs against a new lease, and returns them.
pub(super) async fn lock_shards(
    tx: &mut PgConnection,
    shards: &[i32],
    epochs: &[i64],
) -> Result<HashSet<i32>, StoreError> {
    let rows = sqlx::query(
        "SELECT s.shard FROM unnest($1::integer[], $2::bigint[]) AS l (shard, epoch)
         JOIN relay_shard s ON s.shard = l.shard AND s.epoch = l.epoch ORDER BY s.shard FOR SHARE OF s",
    )
    .bind(shards)
    .bind(epochs)
    .fetch_all(tx)
    .await
    .map_err(at_statement)?;
    rows.iter().map(|row| row.take("shard")).collect()
}
