//! What [`shared::audits`](crate::store::shared::audits) leaves to SQLite, and the writing of the chain.

use sqlx::SqliteConnection;

use super::SqliteStore;
use super::columns::{Columns, now};
use super::error::fault;
use super::slices::{SLICE_ROWS, rows};
use crate::store::StoreError;
use crate::store::audits::AuditEntry;
use crate::store::shared::audits::AuditDialect;
use crate::store::shared::text::clean;

impl AuditDialect for SqliteStore {
    fn slice_rows() -> i64 {
        rows(SLICE_ROWS)
    }
}

/// Appends an entry to the log and its chain. The one writing transaction is the lock of the
/// chain's head.
pub(super) async fn append(tx: &mut SqliteConnection, deed: &AuditEntry) -> Result<(), StoreError> {
    let chain = sqlx::query("SELECT head_id, head_hash FROM audit_chain").fetch_one(&mut *tx).await.map_err(fault)?;
    let mut columns = Columns::of(&chain);
    let (id, previous): (i64, Vec<u8>) = (columns.take()?, columns.take()?);
    let sealed = deed.sealed(id + 1, now(), previous, clean);
    sqlx::query(
        "INSERT INTO audit (id, at, actor, action, subject, detail, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(sealed.id)
    .bind(sealed.at.0)
    .bind(&sealed.by)
    .bind(&sealed.action)
    .bind(&sealed.subject)
    .bind(&sealed.detail)
    .bind(sealed.previous.as_deref())
    .bind(sealed.hash.as_deref())
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    sqlx::query("UPDATE audit_chain SET head_id = ?, head_hash = ?")
        .bind(sealed.id)
        .bind(sealed.hash.as_deref())
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
    Ok(())
}

/// Removes the oldest entries and moves the anchor to the last of them. They are removed by
/// number and not by time: after a clock that went back, removal by time would leave a gap
/// in the chain.
pub(super) async fn prune(tx: &mut SqliteConnection, before: i64, chunk: usize) -> Result<(), StoreError> {
    let last: Option<i64> = sqlx::query_scalar(
        "SELECT max(id) FROM (SELECT id FROM audit ORDER BY id LIMIT ?2)
         WHERE id < (SELECT coalesce(min(id), 9223372036854775807) FROM audit WHERE at >= ?1)",
    )
    .bind(before)
    .bind(rows(chunk))
    .fetch_one(&mut *tx)
    .await
    .map_err(fault)?;
    let Some(last) = last else { return Ok(()) };
    sqlx::query(
        "UPDATE audit_chain SET anchor_id = a.id, anchor_hash = a.hash FROM audit a
         WHERE a.id = ? AND a.id > anchor_id AND a.hash IS NOT NULL",
    )
    .bind(last)
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    sqlx::query("DELETE FROM audit WHERE id <= ?").bind(last).execute(&mut *tx).await.map_err(fault)?;
    Ok(())
}
