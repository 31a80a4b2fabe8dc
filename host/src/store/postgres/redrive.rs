//! What [`shared::redrive`](crate::store::shared::redrive) leaves to PostgreSQL.

use async_trait::async_trait;
use sqlx::PgConnection;

use super::columns::group_id;
use super::error::at_statement;
use super::{PostgresStore, redrive_items, redrive_plan};
use crate::store::StoreError;
use crate::store::redrive::{DueItem, ItemAsk, NewRedrive, RedriveId, RedriveLease};
use crate::store::shared::redrive::RedriveDialect;

#[async_trait]
impl RedriveDialect for PostgresStore {
    async fn insert_planned(
        connection: &mut PgConnection,
        group: i64,
        id: RedriveId,
        plan: &NewRedrive,
    ) -> Result<(u64, bool), StoreError> {
        redrive_plan::insert(connection, group_id(group)?, id, plan).await
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
    store: &PostgresStore,
    before: i64,
    plans_before: i64,
    chunk: i64,
) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE redrive SET state = 5, skipped = matched, finished_at = courier_now()
         WHERE state = 1 AND created_at < $1",
    )
    .bind(plans_before)
    .execute(&store.pool)
    .await
    .map_err(at_statement)?;
    let items = sqlx::query(
        "DELETE FROM redrive_item WHERE ctid = ANY (ARRAY (
             SELECT i.ctid FROM redrive r JOIN redrive_item i ON i.redrive_id = r.id
             WHERE (r.finished_at < $1 OR r.state = 5 AND r.started_at IS NULL) AND r.running = 0 LIMIT $2))",
    )
    .bind(before)
    .bind(chunk)
    .execute(&store.pool)
    .await
    .map_err(at_statement)?;
    let redrives = sqlx::query(
        "DELETE FROM redrive WHERE id IN (
             SELECT r.id FROM redrive r
             WHERE (r.finished_at < $1 OR r.state = 5 AND r.started_at IS NULL AND r.created_at < $2) AND r.running = 0
                 AND NOT EXISTS (SELECT FROM redrive_item i WHERE i.redrive_id = r.id) ORDER BY r.id LIMIT $3)",
    )
    .bind(before)
    .bind(plans_before)
    .bind(chunk)
    .execute(&store.pool)
    .await
    .map_err(at_statement)?;
    let full = |rows: u64| i64::try_from(rows).unwrap_or(chunk) >= chunk;
    Ok(full(items.rows_affected()) || full(redrives.rows_affected()))
}
