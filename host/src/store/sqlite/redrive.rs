//! What [`shared::redrive`](crate::store::shared::redrive) leaves to SQLite.

use async_trait::async_trait;
use courier_core::message::Timestamp;
use sqlx::SqliteConnection;

use super::columns::now;
use super::error::fault;
use super::{SqliteStore, redrive_items, redrive_plan};
use crate::store::StoreError;
use crate::store::redrive::{DueItem, ItemAsk, NewRedrive, RedriveId, RedriveLease};
use crate::store::shared::redrive::RedriveDialect;

#[async_trait]
impl RedriveDialect for SqliteStore {
    async fn insert_planned(
        connection: &mut SqliteConnection,
        group: i64,
        id: RedriveId,
        plan: &NewRedrive,
    ) -> Result<(u64, bool), StoreError> {
        redrive_plan::insert(connection, group, id, plan).await
    }

    async fn due(&self, id: RedriveId, limit: u32) -> Result<Vec<DueItem>, StoreError> {
        redrive_items::due(self, id, limit).await
    }

    async fn ask(&self, lease: &RedriveLease, asks: &[(i64, ItemAsk)]) -> Result<u64, StoreError> {
        redrive_items::ask(self, lease, asks).await
    }

    async fn retrying(&self, id: RedriveId) -> Result<u64, StoreError> {
        redrive_items::retrying(self, id).await
    }

    async fn collect(&self, lease: &RedriveLease) -> Result<(), StoreError> {
        redrive_items::collect(self, lease).await
    }
}

/// Removes redrives that ended before `before`, and plans that were made before
/// `plans_before` and never ran. Such a plan is cancelled first, so that nobody runs it
/// while its items are removed, at most `chunk` a call. Returns whether more may be left.
pub(super) async fn prune(
    tx: &mut SqliteConnection,
    before: Timestamp,
    plans_before: Timestamp,
    chunk: usize,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE redrive SET state = 5, skipped = matched, finished_at = ?2 WHERE state = 1 AND created_at < ?1",
    )
    .bind(plans_before.0)
    .bind(now().0)
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    let items = sqlx::query(
        "DELETE FROM redrive_item WHERE (redrive, seq) IN (
             SELECT i.redrive, i.seq FROM redrive r CROSS JOIN redrive_item i ON i.redrive = r.id
             WHERE (r.finished_at < ?1 OR r.state = 5 AND r.started_at IS NULL) AND r.running = 0 LIMIT ?2)",
    )
    .bind(before.0)
    .bind(super::slices::rows(chunk))
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    sqlx::query(
        "DELETE FROM redrive
         WHERE (finished_at < ?1 OR state = 5 AND started_at IS NULL AND created_at < ?2) AND running = 0
             AND NOT EXISTS (SELECT 1 FROM redrive_item i WHERE i.redrive = redrive.id)",
    )
    .bind(before.0)
    .bind(plans_before.0)
    .execute(tx)
    .await
    .map_err(fault)?;
    Ok(items.rows_affected() >= chunk as u64)
}
