//! The audit log and its chain.

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow, Postgres};
use sqlx::query_builder::QueryBuilder;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, SLICE_ROWS, bounded, commit};
use crate::store::audits::{AuditEntry, AuditFilter, AuditLinks, AuditRow, AuditStore, ChainEnd, LINKS_STEP, deed};
use crate::store::shared::paging::number_of;
use crate::store::shared::text::clean;
use crate::store::{Listing, MAX_PAGE, Page, StoreError};

const ENTRY: &str = "id, at, by, action, subject, detail, previous, hash";

fn entry(row: &PgRow) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        id: row.take("id")?,
        at: row.time("at")?,
        by: row.take("by")?,
        action: row.take("action")?,
        subject: row.take("subject")?,
        detail: row.take("detail")?,
        previous: row.bytes("previous")?,
        hash: row.bytes("hash")?,
    })
}

#[async_trait]
impl AuditStore for PostgresStore {
    async fn audit_entries(&self, filter: &AuditFilter, page: &Page) -> Result<Listing<AuditRow>, StoreError> {
        bounded(entries(self, filter, page)).await
    }

    async fn record_deed(&self, deed: &AuditEntry) -> Result<(), StoreError> {
        bounded(async {
            let mut tx = self.begin_tx().await?;
            append(&mut tx, deed).await?;
            commit(tx).await
        })
        .await
    }

    async fn audit_links(&self, after: i64) -> Result<AuditLinks, StoreError> {
        bounded(links(self, after)).await
    }
}

/// Appends the audit entry of the verb, if it runs for a person. It is the last statement
/// of its transaction.
pub(super) async fn note(tx: &mut PgConnection) -> Result<(), StoreError> {
    note_as(tx, |_| ()).await
}

/// Does what [`note`] does, and lets the transaction complete the entry with what its
/// caller could not know.
pub(super) async fn note_as(tx: &mut PgConnection, tell: impl FnOnce(&mut AuditEntry)) -> Result<(), StoreError> {
    let Some(mut deed) = deed() else { return Ok(()) };
    tell(&mut deed);
    append(tx, &deed).await
}

async fn append(tx: &mut PgConnection, deed: &AuditEntry) -> Result<(), StoreError> {
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

async fn entries(store: &PostgresStore, filter: &AuditFilter, page: &Page) -> Result<Listing<AuditRow>, StoreError> {
    let before = number_of(page.cursor.as_deref())?.unwrap_or(i64::MAX);
    let limit = page.limit.clamp(1, MAX_PAGE) as usize;
    let end = sqlx::query("SELECT id FROM audit WHERE id < $1 ORDER BY id DESC OFFSET $2 LIMIT 1")
        .bind(before)
        .bind(SLICE_ROWS)
        .fetch_optional(&store.pool)
        .await
        .map_err(at_statement)?;
    let end: Option<i64> = end.map(|row| row.take("id")).transpose()?;
    let mut query = QueryBuilder::<Postgres>::new("SELECT ");
    query.push(ENTRY).push(" FROM audit WHERE id < ").push_bind(before);
    if let Some(end) = end {
        query.push(" AND id > ").push_bind(end);
    }
    for (column, value) in [("by", &filter.by), ("action", &filter.action), ("subject", &filter.subject)] {
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
    query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::try_from(limit + 1).unwrap_or(i64::MAX));
    let rows = query.build().persistent(false).fetch_all(&store.pool).await.map_err(at_statement)?;
    let mut items: Vec<AuditRow> = rows.iter().map(entry).collect::<Result<_, _>>()?;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(|last| last.id) } else { end.map(|end| end + 1) };
    Ok(Listing { items, next: next.map(|id| id.to_string()), truncated: !more && end.is_some() })
}

async fn links(store: &PostgresStore, after: i64) -> Result<AuditLinks, StoreError> {
    let mut tx = store.begin_tx().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut *tx).await.map_err(at_statement)?;
    let chain = sqlx::query("SELECT anchor_id, anchor_hash, head_id, head_hash FROM audit_chain")
        .fetch_one(&mut *tx)
        .await
        .map_err(at_statement)?;
    let end = |id: &str, hash: &str| {
        Ok::<_, StoreError>(ChainEnd { id: chain.take(id)?, hash: chain.take::<Vec<u8>>(hash)?.into() })
    };
    let (anchor, head) = (end("anchor_id", "anchor_hash")?, end("head_id", "head_hash")?);
    let rows = sqlx::query(
        "SELECT id, at, by, action, subject, detail, previous, hash FROM audit WHERE id > $1 ORDER BY id LIMIT $2",
    )
    .bind(after.max(anchor.id))
    .bind(i64::from(LINKS_STEP))
    .fetch_all(&mut *tx)
    .await
    .map_err(at_statement)?;
    tx.rollback().await.map_err(at_statement)?;
    Ok(AuditLinks { anchor, head, entries: rows.iter().map(entry).collect::<Result<_, _>>()? })
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
