//! Asking that a delivery runs again: the one door back into a lane.

use courier_core::message::Timestamp;
use courier_core::status::State;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::attempts::SINGLE_ATTEMPT;
use super::fault::{commit_fault, fault};
use super::values::{Columns, expect_rows, now};
use crate::store::{DeliveryKey, StoreError};

impl SqliteStore {
    pub(super) async fn ask_delivery(&self, delivery: &DeliveryKey) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let asked_at = asking_time(&mut tx).await?;
        if !ask_open(&mut tx, delivery, asked_at).await? {
            reopen(&mut tx, delivery, asked_at).await?;
        }
        tx.commit().await.map_err(commit_fault)
    }
}

/// The time of this wish. Owners read wishes by `asked_at > since`, a page at
/// a time, so that no two may have the same.
async fn asking_time(tx: &mut SqliteConnection) -> Result<Timestamp, StoreError> {
    let last: Option<i64> = sqlx::query_scalar("SELECT max(asked_at) FROM open_delivery WHERE asked_at IS NOT NULL")
        .fetch_one(tx)
        .await
        .map_err(fault)?;
    Ok(last.map_or(now(), |last| now().max(Timestamp(last.saturating_add(1)))))
}

/// Makes an open delivery due, if it is open. One that waits behind its lane's
/// head (COMMITTED) runs in its turn, and has no time to be brought forward.
async fn ask_open(tx: &mut SqliteConnection, delivery: &DeliveryKey, asked_at: Timestamp) -> Result<bool, StoreError> {
    let asked = sqlx::query(
        "UPDATE open_delivery SET asked_at = ?1,
             next_attempt_at = iif(state = ?2 AND held = 0, next_attempt_at, ?1), held = 0
         WHERE position = ?3 AND offset = ?4",
    )
    .bind(asked_at.0)
    .bind(State::Committed.code())
    .bind(delivery.position.0)
    .bind(delivery.offset.0)
    .execute(tx)
    .await
    .map_err(fault)?;
    Ok(asked.rows_affected() == 1)
}

/// Turns a final delivery into an open one that is due. Its attempts stay, and
/// the one that only its final row tells of is written down before that row
/// goes; its record stays where it is.
async fn reopen(tx: &mut SqliteConnection, delivery: &DeliveryKey, asked_at: Timestamp) -> Result<(), StoreError> {
    let (position, offset) = (delivery.position.0, delivery.offset.0);
    let row = sqlx::query("SELECT group_id, node, state FROM delivery WHERE position = ? AND offset = ?")
        .bind(position)
        .bind(offset)
        .fetch_optional(&mut *tx)
        .await
        .map_err(fault)?;
    let Some(row) = row else { return Err(absent(tx, delivery).await?) };
    let mut columns = Columns::of(&row);
    let (group, node, state): (i64, i64, State) = (columns.take()?, columns.take()?, columns.state()?);
    refuse_old_incarnation(tx, delivery).await?;
    super::broadcast::refuse_gone_listener(tx, delivery).await?;
    sqlx::query(SINGLE_ATTEMPT).bind(position).bind(offset).execute(&mut *tx).await.map_err(fault)?;
    let opened = sqlx::query(
        "INSERT INTO open_delivery (position, offset, group_id, state, next_attempt_at, held, asked_at, record_time,
             received_at, started_at, number, counted, verdict, node, version, message_id, key, type_name, reason,
             fingerprint)
         SELECT position, offset, group_id, ?, ?, 0, ?, record_time, received_at, started_at, number, 0, verdict, node,
             version, message_id, key, type_name, reason, fingerprint
         FROM delivery WHERE position = ? AND offset = ?",
    )
    .bind(State::Committed.code())
    .bind(asked_at.0)
    .bind(asked_at.0)
    .bind(position)
    .bind(offset)
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    expect_rows("opening a delivery again", 1, opened.rows_affected())?;
    let removed = sqlx::query("DELETE FROM delivery WHERE position = ? AND offset = ? AND state = ?")
        .bind(position)
        .bind(offset)
        .bind(state.code())
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
    expect_rows("removing the final row of a delivery that is open again", 1, removed.rows_affected())?;
    let handled = i64::from(state == State::Handled);
    let counted =
        sqlx::query("UPDATE counter SET handled = handled - ?, failed = failed - ? WHERE group_id = ? AND node = ?")
            .bind(handled)
            .bind(1 - handled)
            .bind(group)
            .bind(node)
            .execute(tx)
            .await
            .map_err(fault)?;
    expect_rows("counting a delivery that is open again", 1, counted.rows_affected())
}

/// Why a delivery without any row cannot be asked for: it is on its first
/// flight when its offset is at or past the position.
async fn absent(tx: &mut SqliteConnection, delivery: &DeliveryKey) -> Result<StoreError, StoreError> {
    let next: Option<i64> = sqlx::query_scalar("SELECT next FROM position WHERE id = ?")
        .bind(delivery.position.0)
        .fetch_optional(tx)
        .await
        .map_err(fault)?;
    let offset = delivery.offset;
    Ok(match next {
        Some(next) if next <= offset.0 => {
            StoreError::Conflict(format!("the delivery of offset {offset} has not finished yet"))
        }
        _ => {
            StoreError::NotFound(format!("there is no delivery of offset {offset} in position {}", delivery.position.0))
        }
    })
}

/// A delivery of a topic that was deleted has no partition whose owner could
/// run it; as an open row it would stay for ever.
async fn refuse_old_incarnation(tx: &mut SqliteConnection, delivery: &DeliveryKey) -> Result<(), StoreError> {
    let newer: i64 = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM position p JOIN position n ON n.group_id = p.group_id AND n.topic = p.topic
                        AND n.partition = p.partition AND n.listener = p.listener
                        AND n.incarnation > p.incarnation WHERE p.id = ?)",
    )
    .bind(delivery.position.0)
    .fetch_one(tx)
    .await
    .map_err(fault)?;
    if newer == 0 {
        return Ok(());
    }
    Err(StoreError::Conflict(format!("the topic of offset {} was created anew since", delivery.offset)))
}
