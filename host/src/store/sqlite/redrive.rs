//! Redrives: their plans, their states, and the steps in which a host works through one.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::Timestamp;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::columns::{Columns, expect_rows, now, optional_json};
use super::error::{commit_fault, fault};
use super::{SqliteStore, audits, redrive_items};
use crate::store::redrive::{
    CANCELLED, DueItem, ItemAsk, ItemState, NewRedrive, RedriveFilter, RedriveId, RedriveItemRow, RedriveLease,
    RedriveRow, RedriveState, RedriveStore, RedriveWish,
};
use crate::store::shared::paging::{number_of, page_of};
use crate::store::{DeliveryKey, Listing, MAX_PAGE, Page, PositionId, StoreError, WriterId};

/// A statement for the columns of a [`RedriveRow`] from `redrive r`.
macro_rules! select_redrive {
    ($which:literal) => {
        concat!(
            "SELECT r.id, g.name, r.topic, r.asked_for, r.replay, r.rate, r.state, r.matched, r.running, r.handled,
                 r.failed, r.skipped, r.truncated, r.actor, r.created_at, r.started_at, r.finished_at,
                 (SELECT w.node FROM writer w WHERE w.id = r.writer_id)
             FROM redrive r JOIN consumer_group g ON g.id = r.group_id ",
            $which
        )
    };
}

fn redrive_row(row: &SqliteRow) -> Result<RedriveRow, StoreError> {
    let mut columns = Columns::of(row);
    Ok(RedriveRow {
        id: RedriveId(columns.take()?),
        group: columns.take()?,
        topic: columns.take()?,
        asked_for: columns.take()?,
        replay: columns.flag()?,
        rate: columns.number()?,
        state: RedriveState::from_code(columns.number()?)?,
        matched: columns.number()?,
        running: columns.number()?,
        handled: columns.number()?,
        failed: columns.number()?,
        skipped: columns.number()?,
        truncated: columns.flag()?,
        by: columns.take()?,
        created_at: columns.time()?,
        started_at: columns.time_option()?,
        finished_at: columns.time_option()?,
        node: columns.take()?,
    })
}

async fn find(connection: &mut SqliteConnection, id: RedriveId) -> Result<Option<RedriveRow>, StoreError> {
    let row =
        sqlx::query(select_redrive!("WHERE r.id = ?")).bind(id.0).fetch_optional(connection).await.map_err(fault)?;
    row.as_ref().map(redrive_row).transpose()
}

pub(super) fn unknown(id: RedriveId) -> StoreError {
    StoreError::NotFound(format!("there is no redrive {id}: it is past retention, or the id is none"))
}

#[async_trait]
impl RedriveStore for SqliteStore {
    async fn plan_redrive(&self, plan: &NewRedrive) -> Result<RedriveRow, StoreError> {
        let mut tx = self.connections.write().await?;
        let id = super::redrive_plan::write(&mut tx, plan).await?;
        let row = find(&mut tx, id).await?.ok_or_else(|| unknown(id))?;
        audits::note_as(&mut tx, |deed| row.tell(deed)).await?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(row)
    }

    async fn redrive(&self, id: RedriveId) -> Result<Option<RedriveRow>, StoreError> {
        find(&mut *self.connections.readers.acquire().await.map_err(fault)?, id).await
    }

    async fn redrives(&self, filter: &RedriveFilter, page: &Page) -> Result<Listing<RedriveRow>, StoreError> {
        let limit = page.limit.clamp(1, MAX_PAGE) as usize;
        let rows = sqlx::query(select_redrive!(
            "WHERE r.id < ?1 AND NOT (r.state = 5 AND r.started_at IS NULL)
                 AND (?2 IS NULL OR g.name IN (SELECT value FROM json_each(?2)))
                 AND (?4 IS NULL OR r.topic IN (SELECT value FROM json_each(?4)))
             ORDER BY r.id DESC LIMIT ?3"
        ))
        .bind(number_of(page.cursor.as_deref())?.unwrap_or(i64::MAX))
        .bind(optional_json(filter.groups.as_deref())?)
        .bind(super::slices::rows(limit + 1))
        .bind(optional_json(filter.topics.as_deref())?)
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        let items = rows.iter().map(redrive_row).collect::<Result<_, _>>()?;
        Ok(page_of(items, limit, |row: &RedriveRow| row.id.to_string()))
    }

    async fn redrive_items(&self, id: RedriveId, page: &Page) -> Result<Listing<RedriveItemRow>, StoreError> {
        let limit = page.limit.clamp(1, MAX_PAGE) as usize;
        let rows = sqlx::query(
            "SELECT i.seq, i.position, i.offset, i.message_id, p.topic, p.partition, i.state, i.reason, i.asked_at,
                 i.finished_at
             FROM redrive_item i JOIN position p ON p.id = i.position
             WHERE i.redrive = ? AND i.seq > ? ORDER BY i.seq LIMIT ?",
        )
        .bind(id.0)
        .bind(number_of(page.cursor.as_deref())?.unwrap_or(0))
        .bind(super::slices::rows(limit + 1))
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        let item = |row: &SqliteRow| {
            let mut columns = Columns::of(row);
            Ok::<_, StoreError>(RedriveItemRow {
                seq: columns.take()?,
                key: DeliveryKey { position: PositionId(columns.take()?), offset: columns.offset()? },
                message_id: columns.take()?,
                topic: columns.take()?,
                partition: columns.number()?,
                state: ItemState::from_code(columns.number()?)?,
                reason: columns.take()?,
                asked_at: columns.time_option()?,
                finished_at: columns.time_option()?,
            })
        };
        let items = rows.iter().map(item).collect::<Result<_, _>>()?;
        Ok(page_of(items, limit, |row: &RedriveItemRow| row.seq.to_string()))
    }

    async fn wish_redrive(&self, id: RedriveId, wish: RedriveWish) -> Result<RedriveRow, StoreError> {
        let mut tx = self.connections.write().await?;
        let row = find(&mut tx, id).await?.ok_or_else(|| unknown(id))?;
        let next = row.state.after(wish)?;
        if next != row.state {
            let mut skipped = 0;
            if wish == RedriveWish::Cancel {
                let waiting = match row.state {
                    RedriveState::Planned => sqlx::query("DELETE FROM redrive_item WHERE redrive = ?1").bind(id.0),
                    _ => sqlx::query(
                        "UPDATE redrive_item SET state = 5, reason = ?2, finished_at = ?3
                         WHERE redrive = ?1 AND state = 1",
                    )
                    .bind(id.0)
                    .bind(CANCELLED)
                    .bind(now().0),
                };
                let waiting = waiting.execute(&mut *tx).await.map_err(fault)?;
                skipped = i64::try_from(waiting.rows_affected()).unwrap_or(0);
            }
            let moved = sqlx::query(
                "UPDATE redrive SET state = ?2, skipped = skipped + ?3,
                     started_at = iif(?2 = 2, coalesce(started_at, ?4), started_at),
                     finished_at = iif(?2 = 5, ?4, finished_at)
                 WHERE id = ?1 AND state = ?5",
            )
            .bind(id.0)
            .bind(next.code())
            .bind(skipped)
            .bind(now().0)
            .bind(row.state.code())
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
            expect_rows("moving a redrive", 1, moved.rows_affected())?;
        }
        let row = find(&mut tx, id).await?.ok_or_else(|| unknown(id))?;
        audits::note(&mut tx).await?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(row)
    }

    async fn lease_redrives(
        &self,
        writer: WriterId,
        most: u32,
        lease: Duration,
    ) -> Result<Vec<RedriveLease>, StoreError> {
        // Checked by a reader first: mostly there is nothing to do.
        let work: i64 = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM redrive WHERE state = 2 OR running > 0)")
            .fetch_one(&self.connections.readers)
            .await
            .map_err(fault)?;
        if work == 0 {
            return Ok(Vec::new());
        }
        let mut tx = self.connections.write().await?;
        let rows = sqlx::query(
            "UPDATE redrive SET epoch = epoch + iif(writer_id IS ?1, 0, 1), writer_id = ?1, lease_until = ?3
             WHERE id IN (
                 SELECT id FROM redrive
                 WHERE (state = 2 OR running > 0) AND (writer_id IS NULL OR writer_id = ?1 OR lease_until <= ?4)
                 ORDER BY row_number() OVER (PARTITION BY group_id ORDER BY id), writer_id IS NOT ?1, id LIMIT ?2)
             RETURNING id, epoch, rate, running, state",
        )
        .bind(writer.0)
        .bind(most)
        .bind(now().after(lease).0)
        .bind(now().0)
        .fetch_all(&mut *tx)
        .await
        .map_err(fault)?;
        let leased = |row: &SqliteRow| {
            let mut columns = Columns::of(row);
            Ok::<_, StoreError>(RedriveLease {
                id: RedriveId(columns.take()?),
                epoch: columns.take()?,
                rate: columns.number()?,
                running: columns.number()?,
                asks: RedriveState::from_code(columns.number()?)? == RedriveState::Running,
            })
        };
        let leases = rows.iter().map(leased).collect::<Result<_, _>>()?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(leases)
    }

    async fn due_items(&self, id: RedriveId, limit: u32) -> Result<Vec<DueItem>, StoreError> {
        redrive_items::due(self, id, limit).await
    }

    async fn ask_items(&self, lease: &RedriveLease, asks: &[(i64, ItemAsk)]) -> Result<u64, StoreError> {
        redrive_items::ask(self, lease, asks).await
    }

    async fn retrying_items(&self, id: RedriveId) -> Result<u64, StoreError> {
        redrive_items::retrying(self, id).await
    }

    async fn collect_items(&self, lease: &RedriveLease) -> Result<(), StoreError> {
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
