//! The audit log and its chain.

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::SqliteStore;
use super::columns::{Columns, now};
use super::error::{commit_fault, fault};
use super::slices::{SLICE_ROWS, rows};
use crate::store::audits::{AuditEntry, AuditFilter, AuditLinks, AuditRow, AuditStore, ChainEnd, LINKS_STEP, deed};
use crate::store::shared::paging::number_of;
use crate::store::shared::text::clean;
use crate::store::{Listing, MAX_PAGE, Page, StoreError};

const ENTRY: &str = "id, at, actor, action, subject, detail, previous, hash";

fn entry(row: &SqliteRow) -> Result<AuditRow, StoreError> {
    let mut columns = Columns::of(row);
    Ok(AuditRow {
        id: columns.take()?,
        at: columns.time()?,
        by: columns.take()?,
        action: columns.take()?,
        subject: columns.take()?,
        detail: columns.take()?,
        previous: columns.bytes_option()?,
        hash: columns.bytes_option()?,
    })
}

#[async_trait]
impl AuditStore for SqliteStore {
    async fn audit_entries(&self, filter: &AuditFilter, page: &Page) -> Result<Listing<AuditRow>, StoreError> {
        let before = number_of(page.cursor.as_deref())?.unwrap_or(i64::MAX);
        let limit = page.limit.clamp(1, MAX_PAGE) as usize;
        let end: Option<i64> =
            sqlx::query_scalar("SELECT id FROM audit WHERE id < ? ORDER BY id DESC LIMIT 1 OFFSET ?")
                .bind(before)
                .bind(rows(SLICE_ROWS))
                .fetch_optional(&self.connections.readers)
                .await
                .map_err(fault)?;
        let mut query = QueryBuilder::<Sqlite>::new("SELECT ");
        query.push(ENTRY).push(" FROM audit WHERE id < ").push_bind(before);
        if let Some(end) = end {
            query.push(" AND id > ").push_bind(end);
        }
        for (column, value) in [("actor", &filter.by), ("action", &filter.action), ("subject", &filter.subject)] {
            if let Some(value) = value {
                query.push(" AND ").push(column).push(" = ").push_bind(clean(value).into_owned());
            }
        }
        if let Some(from) = filter.from {
            query.push(" AND at >= ").push_bind(from.0);
        }
        if let Some(to) = filter.to {
            query.push(" AND at < ").push_bind(to.0);
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(rows(limit + 1));
        let found = query.build().fetch_all(&self.connections.readers).await.map_err(fault)?;
        let mut items: Vec<AuditRow> = found.iter().map(entry).collect::<Result<_, _>>()?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(|last| last.id) } else { end.map(|end| end + 1) };
        Ok(Listing { items, next: next.map(|id| id.to_string()), truncated: !more && end.is_some() })
    }

    async fn record_deed(&self, deed: &AuditEntry) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        append(&mut tx, deed).await?;
        tx.commit().await.map_err(commit_fault)
    }

    async fn audit_links(&self, after: i64) -> Result<AuditLinks, StoreError> {
        let mut tx = self.connections.readers.begin().await.map_err(fault)?;
        let chain = sqlx::query("SELECT anchor_id, anchor_hash, head_id, head_hash FROM audit_chain")
            .fetch_one(&mut *tx)
            .await
            .map_err(fault)?;
        let mut columns = Columns::of(&chain);
        let mut end =
            || Ok::<_, StoreError>(ChainEnd { id: columns.take()?, hash: Bytes::from(columns.take::<Vec<u8>>()?) });
        let (anchor, head) = (end()?, end()?);
        let found = sqlx::query(
            "SELECT id, at, actor, action, subject, detail, previous, hash FROM audit WHERE id > ? ORDER BY id LIMIT ?",
        )
        .bind(after.max(anchor.id))
        .bind(i64::from(LINKS_STEP))
        .fetch_all(&mut *tx)
        .await
        .map_err(fault)?;
        tx.rollback().await.map_err(fault)?;
        Ok(AuditLinks { anchor, head, entries: found.iter().map(entry).collect::<Result<_, _>>()? })
    }
}

/// Appends the audit entry of the verb, if it runs for a person. It is the last statement
/// of its transaction.
pub(super) async fn note(tx: &mut SqliteConnection) -> Result<(), StoreError> {
    note_as(tx, |_| ()).await
}

/// Does what [`note`] does, and lets the transaction complete the entry with what its
/// caller could not know. The one writing transaction is the lock of the chain's head.
pub(super) async fn note_as(tx: &mut SqliteConnection, tell: impl FnOnce(&mut AuditEntry)) -> Result<(), StoreError> {
    let Some(mut deed) = deed() else { return Ok(()) };
    tell(&mut deed);
    append(tx, &deed).await
}

async fn append(tx: &mut SqliteConnection, deed: &AuditEntry) -> Result<(), StoreError> {
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
