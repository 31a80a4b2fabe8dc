//! Redrives: their plans, their states, and the leases under which hosts work through them.
//!
//! The row of a redrive is locked before any position, and no transaction that has locked a
//! position locks a redrive, so that none wait for each other in a circle.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::Offset;

use super::dialect::{StatementConnection, StoreDialect};
use super::paging::{number_of, page_of};
use super::statement::{SharedRow, Statement};
use crate::store::redrive::{
    CANCELLED, DueItem, ItemAsk, ItemState, NewRedrive, RedriveFilter, RedriveId, RedriveItemRow, RedriveLease,
    RedriveRow, RedriveState, RedriveStore, RedriveWish, Unfinished, check_room,
};
use crate::store::{DeliveryKey, Listing, MAX_PAGE, Page, PositionId, StoreError, WriterId};

/// A statement for the columns that [`redrive_row`] reads, in its order, from `redrive r`.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT r.id, g.name, r.topic, r.asked_for, r.replay, r.rate, r.state, r.matched, r.running, r.handled,
                 r.failed, r.skipped, r.truncated, r.{actor}, r.created_at, r.started_at, r.finished_at,
                 (SELECT w.node FROM writer w WHERE w.id = r.writer_id)
             FROM redrive r JOIN consumer_group g ON g.id = r.group_id ",
            $rest
        )
    };
}

/// What each dialect writes by itself: the plans and the steps of a redrive, which go
/// through the tables of deliveries.
#[async_trait]
pub(in crate::store) trait RedriveDialect: StoreDialect {
    /// Inserts the items of a plan for the group of this number. Returns how many there are
    /// and whether more matched than a plan holds.
    async fn insert_planned(
        connection: &mut Self::Connection,
        group: i64,
        id: RedriveId,
        plan: &NewRedrive,
    ) -> Result<(u64, bool), StoreError>;

    /// See [`RedriveStore::due_items`].
    async fn due(&self, id: RedriveId, limit: u32) -> Result<Vec<DueItem>, StoreError>;

    /// See [`RedriveStore::ask_items`].
    async fn ask(&self, lease: &RedriveLease, asks: &[(i64, ItemAsk)]) -> Result<u64, StoreError>;

    /// See [`RedriveStore::retrying_items`].
    async fn retrying(&self, id: RedriveId) -> Result<u64, StoreError>;

    /// See [`RedriveStore::collect_items`].
    async fn collect(&self, lease: &RedriveLease) -> Result<(), StoreError>;
}

#[async_trait]
impl<D: RedriveDialect> RedriveStore for D {
    async fn plan_redrive(&self, plan: &NewRedrive) -> Result<RedriveRow, StoreError> {
        D::limited(async {
            let group = plan.filter.group.as_deref().unwrap_or_default();
            let (mut tx, group) = self.begin_for_group(group).await?;
            let id = write_plan::<D>(&mut tx, group, plan).await?;
            let row = find(&mut *tx, id).await?.ok_or_else(|| unknown(id))?;
            tx.note_as(|deed| row.tell(deed)).await?;
            D::commit_writing(tx).await?;
            Ok(row)
        })
        .await
    }

    async fn redrive(&self, id: RedriveId) -> Result<Option<RedriveRow>, StoreError> {
        D::limited(async { find(&mut *self.begin_reading().await?, id).await }).await
    }

    async fn redrives(&self, filter: &RedriveFilter, page: &Page) -> Result<Listing<RedriveRow>, StoreError> {
        let limit = page.limit.clamp(1, MAX_PAGE);
        let mut select = Statement::new(select!("WHERE r.id < $1 AND NOT (r.state = 5 AND r.started_at IS NULL)"))
            .bind(number_of(page.cursor.as_deref())?.unwrap_or(i64::MAX));
        for (column, names) in [(" AND g.name", &filter.groups), (" AND r.topic", &filter.topics)] {
            if let Some(names) = names {
                select.push(column).push_in(names);
            }
        }
        select.push(" ORDER BY r.id DESC LIMIT ").push_bind(i64::from(limit) + 1);
        let rows = D::limited(self.read(select)).await?;
        let items = rows.into_iter().map(redrive_row).collect::<Result<_, _>>()?;
        Ok(page_of(items, limit as usize, |row: &RedriveRow| row.id.to_string()))
    }

    async fn redrive_items(&self, id: RedriveId, page: &Page) -> Result<Listing<RedriveItemRow>, StoreError> {
        let limit = page.limit.clamp(1, MAX_PAGE);
        let select = Statement::new(
            "SELECT i.seq, i.{position}, i.{offset}, i.message_id, p.topic, p.partition, i.state, i.reason, i.asked_at,
                 i.finished_at
             FROM redrive_item i JOIN position p ON p.id = i.{position}
             WHERE i.{redrive} = $1 AND i.seq > $2 ORDER BY i.seq LIMIT $3",
        )
        .bind(id.0)
        .bind(number_of(page.cursor.as_deref())?.unwrap_or(0))
        .bind(i64::from(limit) + 1);
        let item = |mut row: SharedRow| {
            Ok::<_, StoreError>(RedriveItemRow {
                seq: row.number()?,
                key: DeliveryKey { position: PositionId(row.number()?), offset: Offset(row.number()?) },
                message_id: row.text_option()?,
                topic: row.text()?,
                partition: row.number()?,
                state: ItemState::from_code(row.number()?)?,
                reason: row.text_option()?,
                asked_at: row.time_option()?,
                finished_at: row.time_option()?,
            })
        };
        let items = D::limited(self.read(select)).await?.into_iter().map(item).collect::<Result<_, _>>()?;
        Ok(page_of(items, limit as usize, |row: &RedriveItemRow| row.seq.to_string()))
    }

    async fn wish_redrive(&self, id: RedriveId, wish: RedriveWish) -> Result<RedriveRow, StoreError> {
        D::limited(async {
            let mut tx = self.begin_writing().await?;
            let lock = Statement::new("SELECT state FROM redrive WHERE id = $1 FOR UPDATE").bind(id.0);
            let mut locked = tx.row(lock).await?.ok_or_else(|| unknown(id))?;
            let state = RedriveState::from_code(locked.number()?)?;
            let next = state.after(wish)?;
            if next != state {
                let skipped = if wish == RedriveWish::Cancel { end_waiting(&mut *tx, id, state).await? } else { 0 };
                move_redrive(&mut *tx, id, (state, next), skipped).await?;
            }
            let row = find(&mut *tx, id).await?.ok_or_else(|| unknown(id))?;
            tx.note().await?;
            D::commit_writing(tx).await?;
            Ok(row)
        })
        .await
    }

    async fn lease_redrives(
        &self,
        writer: WriterId,
        most: u32,
        lease: Duration,
    ) -> Result<Vec<RedriveLease>, StoreError> {
        D::limited(lease_work(self, writer, most, lease)).await
    }

    async fn due_items(&self, id: RedriveId, limit: u32) -> Result<Vec<DueItem>, StoreError> {
        D::limited(self.due(id, limit)).await
    }

    async fn ask_items(&self, lease: &RedriveLease, asks: &[(i64, ItemAsk)]) -> Result<u64, StoreError> {
        D::limited(self.ask(lease, asks)).await
    }

    async fn retrying_items(&self, id: RedriveId) -> Result<u64, StoreError> {
        D::limited(self.retrying(id)).await
    }

    async fn collect_items(&self, lease: &RedriveLease) -> Result<(), StoreError> {
        D::limited(self.collect(lease)).await
    }
}

fn redrive_row(mut row: SharedRow) -> Result<RedriveRow, StoreError> {
    Ok(RedriveRow {
        id: RedriveId(row.number()?),
        group: row.text()?,
        topic: row.text_option()?,
        asked_for: row.text()?,
        replay: row.flag()?,
        rate: row.number()?,
        state: RedriveState::from_code(row.number()?)?,
        matched: row.number()?,
        running: row.number()?,
        handled: row.number()?,
        failed: row.number()?,
        skipped: row.number()?,
        truncated: row.flag()?,
        by: row.text()?,
        created_at: row.time()?,
        started_at: row.time_option()?,
        finished_at: row.time_option()?,
        node: row.text_option()?,
    })
}

async fn find(connection: &mut impl StatementConnection, id: RedriveId) -> Result<Option<RedriveRow>, StoreError> {
    let found = connection.row(Statement::new(select!("WHERE r.id = $1")).bind(id.0)).await?;
    found.map(redrive_row).transpose()
}

fn unknown(id: RedriveId) -> StoreError {
    StoreError::NotFound(format!("there is no redrive {id}: it is past retention, or the id is none"))
}

/// Writes a plan with its items.
async fn write_plan<D: RedriveDialect>(
    tx: &mut D::Connection,
    group: i64,
    plan: &NewRedrive,
) -> Result<RedriveId, StoreError> {
    let count = Statement::new(
        "SELECT count(*), count(*) FILTER (WHERE {actor} = $2) FROM redrive
         WHERE group_id = $1 AND state IN (1, 2, 3)",
    );
    let counted = tx.row(count.bind(group).bind(&plan.by)).await?;
    let mut counted = counted.ok_or_else(|| StoreError::Bug("nothing was counted".to_owned()))?;
    let unfinished = Unfinished { of_all: counted.number()?, of_token: counted.number()? };
    check_room(plan.filter.group.as_deref().unwrap_or_default(), &unfinished)?;
    let insert = Statement::new(
        "INSERT INTO redrive (group_id, topic, asked_for, replay, rate, state, matched, truncated, {actor}, created_at)
         VALUES ($1, $2, $3, $4, $5, 1, 0, false, $6, courier_now()) RETURNING id",
    )
    .bind(group)
    .bind(plan.filter.topic.as_deref())
    .bind(&plan.asked_for)
    .bind(plan.ranges.is_some())
    .bind(i32::try_from(plan.rate).unwrap_or(i32::MAX))
    .bind(&plan.by);
    let mut inserted = tx.row(insert).await?.ok_or_else(|| StoreError::Bug("a redrive was not inserted".to_owned()))?;
    let id = RedriveId(inserted.number()?);
    let (matched, truncated) = D::insert_planned(tx, group, id, plan).await?;
    let update = Statement::new("UPDATE redrive SET matched = $2, truncated = $3 WHERE id = $1")
        .bind(id.0)
        .bind(i64::try_from(matched).unwrap_or(i64::MAX))
        .bind(truncated);
    tx.execute(update).await?;
    Ok(id)
}

/// Removes the items of a plan, or skips those that a redrive has not run, and returns how
/// many.
async fn end_waiting(tx: &mut impl StatementConnection, id: RedriveId, state: RedriveState) -> Result<i64, StoreError> {
    let waiting = match state {
        RedriveState::Planned => Statement::new("DELETE FROM redrive_item WHERE {redrive} = $1").bind(id.0),
        _ => Statement::new(
            "UPDATE redrive_item SET state = 5, reason = $2, finished_at = courier_now()
             WHERE {redrive} = $1 AND state = 1 AND state < 3",
        )
        .bind(id.0)
        .bind(CANCELLED),
    };
    Ok(i64::try_from(tx.execute(waiting).await?).unwrap_or(0))
}

/// Moves a redrive from one state to the next.
async fn move_redrive(
    tx: &mut impl StatementConnection,
    id: RedriveId,
    (state, next): (RedriveState, RedriveState),
    skipped: i64,
) -> Result<(), StoreError> {
    let update = Statement::new(
        "UPDATE redrive SET state = $2, skipped = skipped + $3,
             started_at = CASE WHEN $2 = 2 THEN coalesce(started_at, courier_now()) ELSE started_at END,
             finished_at = CASE WHEN $2 = 5 THEN courier_now() ELSE finished_at END
         WHERE id = $1 AND state = $4",
    )
    .bind(id.0)
    .bind(i64::from(next.code()))
    .bind(skipped)
    .bind(i64::from(state.code()));
    match tx.execute(update).await? {
        1 => Ok(()),
        rows => Err(StoreError::Bug(format!("moving redrive {id}: {rows} rows where there has to be 1"))),
    }
}

async fn lease_work<D: StoreDialect>(
    store: &D,
    writer: WriterId,
    most: u32,
    lease: Duration,
) -> Result<Vec<RedriveLease>, StoreError> {
    // Checked by a reader first: mostly there is nothing to do.
    let select = "SELECT 1 FROM redrive WHERE state = 2 OR running > 0 LIMIT 1";
    if store.read(Statement::new(select)).await?.is_empty() {
        return Ok(Vec::new());
    }
    let update = Statement::new(
        "WITH ready (ready_id, turn) AS (
             SELECT id, row_number() OVER (PARTITION BY group_id ORDER BY id) FROM redrive
             WHERE (state = 2 OR running > 0)
                 AND (writer_id IS NULL OR writer_id = $1 OR lease_until <= courier_now())
         ), work (work_id) AS (
             SELECT r.id FROM redrive r JOIN ready ON ready_id = r.id
             WHERE r.writer_id IS NULL OR r.writer_id = $1 OR r.lease_until <= courier_now()
             ORDER BY turn, r.writer_id IS DISTINCT FROM $1, r.id LIMIT $2 FOR UPDATE OF r SKIP LOCKED
         )
         UPDATE redrive SET epoch = epoch + CASE WHEN writer_id IS NOT DISTINCT FROM $1 THEN 0 ELSE 1 END,
             writer_id = $1, lease_until = courier_now() + $3
         FROM work WHERE id = work_id RETURNING id, epoch, rate, running, state",
    )
    .bind(writer.0)
    .bind(i64::from(most))
    .bind(lease);
    let mut tx = store.begin_writing().await?;
    let leased = tx.rows(update).await?;
    D::commit_writing(tx).await?;
    let lease = |mut row: SharedRow| {
        Ok(RedriveLease {
            id: RedriveId(row.number()?),
            epoch: row.number()?,
            rate: row.number()?,
            running: row.number()?,
            asks: RedriveState::from_code(row.number()?)? == RedriveState::Running,
        })
    };
    leased.into_iter().map(lease).collect()
}
