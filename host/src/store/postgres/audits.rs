//! What [`shared::audits`](crate::store::shared::audits) leaves to PostgreSQL, and the writing of the chain.

use sqlx::PgConnection;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, SLICE_ROWS, commit};
use crate::store::StoreError;
use crate::store::audits::AuditEntry;
use crate::store::shared::audits::AuditDialect;
use crate::store::shared::text::clean;

impl AuditDialect for PostgresStore {
    fn slice_rows() -> i64 {
        SLICE_ROWS
    }
}

/// Appends an entry to the log and its chain.
pub(super) async fn append(tx: &mut PgConnection, deed: &AuditEntry) -> Result<(), StoreError> {
    // The lock is a statement of its own and comes first, so that the entries' numbers and
    // times are in the order of the chain.
    let head =
        sqlx::query("SELECT head_hash FROM audit_chain FOR UPDATE").fetch_one(&mut *tx).await.map_err(at_statement)?;
    let previous: Vec<u8> = head.take("head_hash")?;
    let turn = sqlx::query("SELECT nextval(pg_get_serial_sequence('audit', 'id')) AS id, courier_now() AS at")
        .fetch_one(&mut *tx)
        .await
        .map_err(at_statement)?;
    let sealed = deed.sealed(turn.take("id")?, turn.time("at")?, previous, clean);
    sqlx::query(
        "WITH moved AS (UPDATE audit_chain SET head_id = $1, head_hash = $8)
         INSERT INTO audit (id, at, by, action, subject, detail, previous, hash) OVERRIDING SYSTEM VALUE
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
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
    .map_err(at_statement)?;
    Ok(())
}

/// Removes the oldest entries and moves the anchor to the last of them.
pub(super) async fn prune(store: &PostgresStore, cutoff: i64, chunk: i64) -> Result<bool, StoreError> {
    let mut tx = store.begin_tx().await?;
    sqlx::query("SELECT FROM audit_chain FOR UPDATE").execute(&mut *tx).await.map_err(at_statement)?;
    // By number and not by time: after a clock that went back, removal by time would leave
    // a gap in the chain.
    let gone = sqlx::query(
        "WITH old AS (
             SELECT max(id) AS id FROM (SELECT id, at FROM audit ORDER BY id LIMIT $2) AS oldest
             WHERE id < (SELECT coalesce(min(id), 9223372036854775807) FROM audit WHERE at >= $1)
         ), anchored AS (
             UPDATE audit_chain c SET anchor_id = a.id, anchor_hash = a.hash FROM audit a, old
             WHERE a.id = old.id AND a.id > c.anchor_id AND a.hash IS NOT NULL
         )
         DELETE FROM audit USING old WHERE audit.id <= old.id",
    )
    .bind(cutoff)
    .bind(chunk)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    commit(tx).await?;
    Ok(i64::try_from(gone.rows_affected()).unwrap_or(chunk) >= chunk)
}
