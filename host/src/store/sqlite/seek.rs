//! Moving positions, and what owners read to notice it.

use async_trait::async_trait;
use courier_core::message::Offset;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::columns::{Columns, expect_rows, json, now};
use super::error::{commit_fault, fault};
use super::open_rows::{open_row, select_open};
use super::positions::{cut_lost, record_lost};
use super::reruns::{asking_time, is_current, reopen_many};
use crate::store::seek::{MAX_SOUGHT, SeekMove, SeekStore};
use crate::store::shared::dialect::StatementConnection as _;
use crate::store::{DeliveryKey, OpenRow, PositionId, StoreError};

#[async_trait]
impl SeekStore for SqliteStore {
    async fn seek(&self, moves: &[SeekMove], why: &str) -> Result<Vec<Offset>, StoreError> {
        let mut tx = self.connections.write().await?;
        let (mut before, mut again) = (Vec::with_capacity(moves.len()), Vec::new());
        for one in moves {
            before.push(move_one(&mut tx, one, why, &mut again).await?);
        }
        let at = asking_time(&mut tx).await?;
        reopen_many(&mut tx, &again, at).await?;
        tx.note().await?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(before)
    }

    async fn epochs(&self, positions: &[PositionId]) -> Result<Vec<(PositionId, i64)>, StoreError> {
        let ids: Vec<i64> = positions.iter().map(|position| position.0).collect();
        let rows = sqlx::query("SELECT id, epoch FROM position WHERE id IN (SELECT value FROM json_each(?))")
            .bind(json(&ids)?)
            .fetch_all(&self.connections.readers)
            .await
            .map_err(fault)?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok((PositionId(columns.take()?), columns.take()?))
            })
            .collect()
    }

    async fn open_page(&self, position: PositionId, after: Offset, limit: u32) -> Result<Vec<OpenRow>, StoreError> {
        let rows = sqlx::query(select_open!("", "WHERE o.position = ? AND o.offset > ? ORDER BY o.offset LIMIT ?"))
            .bind(position.0)
            .bind(after.0)
            .bind(limit)
            .fetch_all(&self.connections.readers)
            .await
            .map_err(fault)?;
        rows.iter().map(open_row).collect()
    }
}

/// Moves a position and fences its owner, and adds the deliveries that are to run again.
async fn move_one(
    tx: &mut SqliteConnection,
    one: &SeekMove,
    why: &str,
    again: &mut Vec<DeliveryKey>,
) -> Result<Offset, StoreError> {
    let next: Option<i64> = sqlx::query_scalar("SELECT next FROM position WHERE id = ?")
        .bind(one.position.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(fault)?;
    let next = next.ok_or_else(|| StoreError::NotFound(format!("there is no position {}", one.position.0)))?;
    if !is_current(tx, one.position.0).await? {
        return Err(StoreError::Conflict("the topic was created anew meanwhile: seek again".to_owned()));
    }
    let moved = sqlx::query("UPDATE position SET next = ?, epoch = epoch + 1 WHERE id = ?")
        .bind(one.to.0)
        .bind(one.position.0)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
    expect_rows("moving a position", 1, moved.rows_affected())?;
    if one.to.0 > next {
        record_lost(tx, one.position, Offset(next), one.to, why, now()).await?;
        return Ok(Offset(next));
    }
    cut_lost(tx, one.position, one.to).await?;
    // A delivery that ended above the old position does not run again; the next owner knows it
    // as settled.
    let offsets: Vec<i64> = sqlx::query_scalar(
        "SELECT offset FROM delivery WHERE position = ? AND offset >= ? AND offset < ? ORDER BY offset LIMIT ?",
    )
    .bind(one.position.0)
    .bind(one.to.0)
    .bind(next)
    .bind(MAX_SOUGHT + 1)
    .fetch_all(&mut *tx)
    .await
    .map_err(fault)?;
    let ended: Vec<Offset> = offsets.into_iter().map(Offset).collect();
    again.extend(ended.iter().map(|offset| DeliveryKey { position: one.position, offset: *offset }));
    too_many(again.len())?;
    super::handled_sets::forget(tx, one.position.0, one.to, Offset(next), ended).await?;
    Ok(Offset(next))
}

/// Refuses a seek that would open more rows than a partition may hold.
fn too_many(again: usize) -> Result<(), StoreError> {
    if again <= MAX_SOUGHT as usize {
        return Ok(());
    }
    Err(StoreError::Conflict(format!(
        "more than {MAX_SOUGHT} finished deliveries would run again at once: seek less far back, or one partition at a \
         time, or replay the range in parts"
    )))
}
