//! Redrives: their plans, their states, and the steps in which a host works through one.
//!
//! The row of a redrive is locked before any position, and no transaction that has locked a
//! position locks a redrive, so that none wait for each other in a circle.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow};

use super::columns::PgRowExt;
use super::error::at_statement;
use super::settle_open::expect;
use super::{PostgresStore, audits, bounded, commit, micros, redrive_items};
use crate::store::redrive::{
    CANCELLED, DueItem, ItemAsk, ItemState, NewRedrive, RedriveFilter, RedriveId, RedriveItemRow, RedriveLease,
    RedriveRow, RedriveState, RedriveStore, RedriveWish,
};
use crate::store::shared::paging::{number_of, page_of};
use crate::store::{Listing, MAX_PAGE, Page, StoreError, WriterId};

/// A statement for the columns of a [`RedriveRow`] from `redrive r`.
macro_rules! select_redrive {
    ($which:literal) => {
        concat!(
            "SELECT r.id, g.name AS group_name, r.topic, r.asked_for, r.replay, r.rate, r.state, r.matched, r.running,
                 r.handled, r.failed, r.skipped, r.truncated, r.by, r.created_at, r.started_at, r.finished_at,
                 (SELECT w.node FROM writer w WHERE w.id = r.writer_id) AS node
             FROM redrive r JOIN consumer_group g ON g.id = r.group_id ",
            $which
        )
    };
}

fn redrive_row(row: &PgRow) -> Result<RedriveRow, StoreError> {
    let sum = |column: &str| Ok::<_, StoreError>(row.take::<i64>(column)?.max(0).unsigned_abs());
    Ok(RedriveRow {
        id: RedriveId(row.take("id")?),
        group: row.take("group_name")?,
        topic: row.take("topic")?,
        asked_for: row.take("asked_for")?,
        replay: row.take("replay")?,
        rate: row.count("rate")?,
        state: RedriveState::from_code(row.take("state")?)?,
        matched: sum("matched")?,
        running: sum("running")?,
        handled: sum("handled")?,
        failed: sum("failed")?,
        skipped: sum("skipped")?,
        truncated: row.take("truncated")?,
        by: row.take("by")?,
        created_at: row.time("created_at")?,
        started_at: row.time_opt("started_at")?,
        finished_at: row.time_opt("finished_at")?,
        node: row.take("node")?,
    })
}

async fn find(connection: &mut PgConnection, id: RedriveId) -> Result<Option<RedriveRow>, StoreError> {
    let row = sqlx::query(select_redrive!("WHERE r.id = $1"))
        .bind(id.0)
        .fetch_optional(connection)
        .await
        .map_err(at_statement)?;
    row.as_ref().map(redrive_row).transpose()
}

fn unknown(id: RedriveId) -> StoreError {
    StoreError::NotFound(format!("there is no redrive {id}: it is past retention, or the id is none"))
}

#[async_trait]
impl RedriveStore for PostgresStore {
    async fn plan_redrive(&self, plan: &NewRedrive) -> Result<RedriveRow, StoreError> {
        bounded(async {
            let group = self.groups.id(&self.pool, plan.filter.group.as_deref().unwrap_or_default()).await?;
            let mut tx = self.begin_tx().await?;
            let id = super::redrive_plan::write(&mut tx, group, plan).await?;
            let row = find(&mut tx, id).await?.ok_or_else(|| unknown(id))?;
            audits::note_as(&mut tx, |deed| row.tell(deed)).await?;
            commit(tx).await?;
            Ok(row)
        })
        .await
    }

    async fn redrive(&self, id: RedriveId) -> Result<Option<RedriveRow>, StoreError> {
        bounded(async { find(&mut *self.pool.acquire().await.map_err(at_statement)?, id).await }).await
    }

    async fn redrives(&self, filter: &RedriveFilter, page: &Page) -> Result<Listing<RedriveRow>, StoreError> {
        bounded(redrives(self, filter, page)).await
    }

    async fn redrive_items(&self, id: RedriveId, page: &Page) -> Result<Listing<RedriveItemRow>, StoreError> {
        bounded(items(self, id, page)).await
    }

    async fn wish_redrive(&self, id: RedriveId, wish: RedriveWish) -> Result<RedriveRow, StoreError> {
        bounded(move_by(self, id, wish)).await
    }

    async fn lease_redrives(
        &self,
        writer: WriterId,
        most: u32,
        lease: Duration,
    ) -> Result<Vec<RedriveLease>, StoreError> {
        bounded(lease_work(self, writer, most, lease)).await
    }

    async fn due_items(&self, id: RedriveId, limit: u32) -> Result<Vec<DueItem>, StoreError> {
        bounded(redrive_items::due(self, id, limit)).await
    }

    async fn ask_items(&self, lease: &RedriveLease, asks: &[(i64, ItemAsk)]) -> Result<u64, StoreError> {
        bounded(redrive_items::ask(self, lease, asks)).await
    }

    async fn retrying_items(&self, id: RedriveId) -> Result<u64, StoreError> {
        bounded(redrive_items::retrying(self, id)).await
    }

    async fn collect_items(&self, lease: &RedriveLease) -> Result<(), StoreError> {
        bounded(redrive_items::collect(self, lease)).await
    }
}

async fn redrives(
    store: &PostgresStore,
    filter: &RedriveFilter,
    page: &Page,
) -> Result<Listing<RedriveRow>, StoreError> {
    let limit = page.limit.clamp(1, MAX_PAGE) as usize;
    let rows = sqlx::query(select_redrive!(
        "WHERE r.id < $1 AND NOT (r.state = 5 AND r.started_at IS NULL)
             AND ($2::text[] IS NULL OR g.name = ANY($2)) AND ($4::text[] IS NULL OR r.topic = ANY($4))
         ORDER BY r.id DESC LIMIT $3"
    ))
    .bind(number_of(page.cursor.as_deref())?.unwrap_or(i64::MAX))
    .bind(filter.groups.as_deref())
    .bind(i64::try_from(limit + 1).unwrap_or(i64::MAX))
    .bind(filter.topics.as_deref())
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let items = rows.iter().map(redrive_row).collect::<Result<_, _>>()?;
    Ok(page_of(items, limit, |row: &RedriveRow| row.id.to_string()))
}

async fn items(store: &PostgresStore, id: RedriveId, page: &Page) -> Result<Listing<RedriveItemRow>, StoreError> {
    let limit = page.limit.clamp(1, MAX_PAGE) as usize;
    let rows = sqlx::query(
        "SELECT i.seq, i.position_id, i.record_offset, i.message_id, p.topic, p.partition, i.state, i.reason,
             i.asked_at, i.finished_at
         FROM redrive_item i JOIN position p ON p.id = i.position_id
         WHERE i.redrive_id = $1 AND i.seq > $2 ORDER BY i.seq LIMIT $3",
    )
    .bind(id.0)
    .bind(number_of(page.cursor.as_deref())?.unwrap_or(0))
    .bind(i64::try_from(limit + 1).unwrap_or(i64::MAX))
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let item = |row: &PgRow| {
        Ok::<_, StoreError>(RedriveItemRow {
            seq: row.take("seq")?,
            key: redrive_items::key_of(row)?,
            message_id: row.take("message_id")?,
            topic: row.take("topic")?,
            partition: row.take("partition")?,
            state: ItemState::from_code(row.take("state")?)?,
            reason: row.take("reason")?,
            asked_at: row.time_opt("asked_at")?,
            finished_at: row.time_opt("finished_at")?,
        })
    };
    let items = rows.iter().map(item).collect::<Result<_, _>>()?;
    Ok(page_of(items, limit, |row: &RedriveItemRow| row.seq.to_string()))
}

async fn move_by(store: &PostgresStore, id: RedriveId, wish: RedriveWish) -> Result<RedriveRow, StoreError> {
    let mut tx = store.begin_tx().await?;
    let state = sqlx::query("SELECT state FROM redrive WHERE id = $1 FOR UPDATE")
        .bind(id.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(at_statement)?
        .ok_or_else(|| unknown(id))?;
    let state = RedriveState::from_code(state.take(0)?)?;
    let next = state.after(wish)?;
    if next != state {
        let mut skipped = 0;
        if wish == RedriveWish::Cancel {
            let waiting = match state {
                RedriveState::Planned => sqlx::query("DELETE FROM redrive_item WHERE redrive_id = $1").bind(id.0),
                _ => sqlx::query(
                    "UPDATE redrive_item SET state = 5, reason = $2, finished_at = courier_now()
                     WHERE redrive_id = $1 AND state = 1 AND state < 3",
                )
                .bind(id.0)
                .bind(CANCELLED),
            };
            let waiting = waiting.execute(&mut *tx).await.map_err(at_statement)?;
            skipped = i64::try_from(waiting.rows_affected()).unwrap_or(0);
        }
        let moved = sqlx::query(
            "UPDATE redrive SET state = $2, skipped = skipped + $3,
                 started_at = CASE WHEN $2 = 2 THEN coalesce(started_at, courier_now()) ELSE started_at END,
                 finished_at = CASE WHEN $2 = 5 THEN courier_now() ELSE finished_at END
             WHERE id = $1 AND state = $4",
        )
        .bind(id.0)
        .bind(next.code())
        .bind(skipped)
        .bind(state.code())
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
        expect(usize::try_from(moved.rows_affected()).unwrap_or(0), 1, "redrives to move")?;
    }
    let row = find(&mut tx, id).await?.ok_or_else(|| unknown(id))?;
    audits::note(&mut tx).await?;
    commit(tx).await?;
    Ok(row)
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

async fn lease_work(
    store: &PostgresStore,
    writer: WriterId,
    most: u32,
    lease: Duration,
) -> Result<Vec<RedriveLease>, StoreError> {
    let rows = sqlx::query(
        "WITH ready AS (
             SELECT id, row_number() OVER (PARTITION BY group_id ORDER BY id) AS turn FROM redrive
             WHERE (state = 2 OR running > 0)
                 AND (writer_id IS NULL OR writer_id = $1 OR lease_until <= courier_now())
         ), work AS (
             SELECT r.id FROM redrive r JOIN ready USING (id)
             WHERE r.writer_id IS NULL OR r.writer_id = $1 OR r.lease_until <= courier_now()
             ORDER BY ready.turn, r.writer_id IS DISTINCT FROM $1, r.id LIMIT $2 FOR UPDATE OF r SKIP LOCKED
         )
         UPDATE redrive r SET epoch = r.epoch + CASE WHEN r.writer_id IS NOT DISTINCT FROM $1 THEN 0 ELSE 1 END,
             writer_id = $1, lease_until = courier_now() + $3
         FROM work WHERE r.id = work.id RETURNING r.id, r.epoch, r.rate, r.running, r.state",
    )
    .bind(writer.0)
    .bind(i64::from(most))
    .bind(micros(lease))
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    rows.iter()
        .map(|row| {
            Ok(RedriveLease {
                id: RedriveId(row.take("id")?),
                epoch: row.take("epoch")?,
                rate: row.count("rate")?,
                running: row.take::<i64>("running")?.max(0).unsigned_abs(),
                asks: RedriveState::from_code(row.take("state")?)? == RedriveState::Running,
            })
        })
        .collect()
}
