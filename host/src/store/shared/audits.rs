//! Reading the audit log and its chain.

use async_trait::async_trait;

use super::dialect::{StatementConnection as _, StoreDialect};
use super::paging::number_of;
use super::statement::{SharedRow, Statement};
use crate::store::audits::{AuditEntry, AuditFilter, AuditLinks, AuditRow, AuditStore, ChainEnd, LINKS_STEP};
use crate::store::{Listing, MAX_PAGE, Page, StoreError};

/// What each dialect sets by itself.
pub(in crate::store) trait AuditDialect: StoreDialect {
    /// Most entries that one page of the list reads.
    fn slice_rows() -> i64;
}

#[async_trait]
impl<D: AuditDialect> AuditStore for D {
    async fn audit_entries(&self, filter: &AuditFilter, page: &Page) -> Result<Listing<AuditRow>, StoreError> {
        let before = number_of(page.cursor.as_deref())?.unwrap_or(i64::MAX);
        let limit = page.limit.clamp(1, MAX_PAGE);
        D::limited(async {
            let mut reading = self.begin_reading().await?;
            let select_end = Statement::new("SELECT id FROM audit WHERE id < $1 ORDER BY id DESC LIMIT 1 OFFSET $2")
                .bind(before)
                .bind(D::slice_rows());
            let end: Option<i64> = reading.row(select_end).await?.map(|mut row| row.number()).transpose()?;
            let rows = reading.rows(select_entries(filter, (before, end), limit)).await?;
            let mut items: Vec<AuditRow> = rows.into_iter().map(|mut row| entry(&mut row)).collect::<Result<_, _>>()?;
            let more = items.len() > limit as usize;
            items.truncate(limit as usize);
            let next = if more { items.last().map(|last| last.id) } else { end.map(|end| end + 1) };
            Ok(Listing { items, next: next.map(|id| id.to_string()), truncated: !more && end.is_some() })
        })
        .await
    }

    async fn record_deed(&self, deed: &AuditEntry) -> Result<(), StoreError> {
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            tx.append_entry(deed).await?;
            D::commit_writing(tx).await
        })
        .await
    }

    async fn audit_links(&self, after: i64) -> Result<AuditLinks, StoreError> {
        // One statement, so that the ends of the chain and its entries are of one moment.
        let select = Statement::new(
            "SELECT c.anchor_id, c.anchor_hash, c.head_id, c.head_hash, a.id, a.at, a.{actor}, a.action, a.subject,
                 a.detail, a.previous, a.hash
             FROM audit_chain c LEFT JOIN (
                 SELECT id, at, {actor}, action, subject, detail, previous, hash FROM audit
                 WHERE id > $1 AND id > (SELECT anchor_id FROM audit_chain) ORDER BY id LIMIT $2) a ON true
             ORDER BY a.id",
        )
        .bind(after)
        .bind(i64::from(LINKS_STEP));
        let mut links = None;
        for mut row in D::limited(self.read(select)).await? {
            let mut end = || Ok::<_, StoreError>(ChainEnd { id: row.number()?, hash: row.bytes()? });
            let (anchor, head) = (end()?, end()?);
            let links = links.get_or_insert_with(|| AuditLinks { anchor, head, entries: Vec::new() });
            links.entries.extend(entry_option(&mut row)?);
        }
        links.ok_or_else(|| StoreError::Bug("the audit log has no chain".to_owned()))
    }
}

/// The statement for entries that match, newest first: of those before the first bound, and
/// after the second if there is one.
fn select_entries(filter: &AuditFilter, (before, end): (i64, Option<i64>), limit: u32) -> Statement<'_> {
    let select = "SELECT id, at, {actor}, action, subject, detail, previous, hash FROM audit WHERE id < $1";
    let mut select = Statement::new(select).bind(before);
    if let Some(end) = end {
        select.push(" AND id > ").push_bind(end);
    }
    let equal =
        [(" AND {actor} = ", &filter.by), (" AND action = ", &filter.action), (" AND subject = ", &filter.subject)];
    for (column, value) in equal {
        if let Some(value) = value {
            select.push(column).push_bind(value);
        }
    }
    if let Some(from) = filter.from {
        select.push(" AND at >= ").push_bind(from.0);
    }
    if let Some(to) = filter.to {
        select.push(" AND at < ").push_bind(to.0);
    }
    select.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit) + 1);
    select
}

fn entry(row: &mut SharedRow) -> Result<AuditRow, StoreError> {
    entry_option(row)?.ok_or_else(|| StoreError::Bug("an audit entry has no id".to_owned()))
}

fn entry_option(row: &mut SharedRow) -> Result<Option<AuditRow>, StoreError> {
    let Some(id) = row.number_option()? else { return Ok(None) };
    Ok(Some(AuditRow {
        id,
        at: row.time()?,
        by: row.text()?,
        action: row.text()?,
        subject: row.text()?,
        detail: row.text()?,
        previous: row.bytes_option()?,
        hash: row.bytes_option()?,
    }))
}
