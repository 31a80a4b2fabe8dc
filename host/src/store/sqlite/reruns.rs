//! Requesting reruns of deliveries. Nothing else brings a delivery back into its lane.
//!
//! A delivery that waits for a retry or for a person becomes due. A final one becomes an open
//! row that is due, in the state in which it failed, or COMMITTED if it was handled, with its
//! attempts and their numbers.

use async_trait::async_trait;
use courier_core::message::Timestamp;
use courier_core::status::State;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::columns::{expect_rows, json, now};
use super::error::{commit_fault, fault};
use crate::store::handled_sets::IN_SET;
use crate::store::shared::broadcast::refuse_gone_listener;
use crate::store::shared::dialect::StatementConnection as _;
use crate::store::shared::tables::DeliveryTable;
use crate::store::shared::text::clean;
use crate::store::{DeliveryKey, GiveUp, GiveUpStore, RerunStore, StoreError};

#[async_trait]
impl RerunStore for SqliteStore {
    async fn ask(&self, delivery: &DeliveryKey) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let asked_at = asking_time(&mut tx).await?;
        match table_of(&mut tx, delivery).await? {
            Some(DeliveryTable::Open) => wake_many(&mut tx, &[*delivery], asked_at).await?,
            Some(DeliveryTable::Final) => {
                refuse_old_incarnation(&mut tx, delivery).await?;
                refuse_gone_listener(&mut *tx, delivery).await?;
                reopen_many(&mut tx, &[*delivery], asked_at).await?;
            }
            None => return Err(absent(&mut tx, delivery).await?),
        }
        tx.note().await?;
        tx.commit().await.map_err(commit_fault)
    }
}

#[async_trait]
impl GiveUpStore for SqliteStore {
    async fn give_up(&self, delivery: &DeliveryKey, give_up: &GiveUp) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        match table_of(&mut tx, delivery).await? {
            Some(DeliveryTable::Open) => {}
            Some(DeliveryTable::Final) => {
                return Err(StoreError::Conflict("the delivery is final: there is nothing to give up".to_owned()));
            }
            None => return Err(absent(&mut tx, delivery).await?),
        }
        refuse_old_incarnation(&mut tx, delivery).await?;
        refuse_gone_listener(&mut *tx, delivery).await?;
        let asked_at = asking_time(&mut tx).await?;
        let marked = sqlx::query(
            "UPDATE open_delivery SET asked_at = ?, give_up_reason = ?, give_up_letter = ?
             WHERE position = ? AND offset = ?",
        )
        .bind(asked_at.0)
        .bind(clean(&give_up.reason))
        .bind(i64::from(give_up.dead_letter))
        .bind(delivery.position.0)
        .bind(delivery.offset.0)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        expect_rows("giving a delivery up", 1, marked.rows_affected())?;
        tx.note().await?;
        tx.commit().await.map_err(commit_fault)
    }
}

/// Reads which table a delivery stands in; `None` for an unknown one.
async fn table_of(tx: &mut SqliteConnection, delivery: &DeliveryKey) -> Result<Option<DeliveryTable>, StoreError> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM open_delivery WHERE position = ?1 AND offset = ?2
         UNION ALL SELECT 0 FROM delivery WHERE position = ?1 AND offset = ?2",
    )
    .bind(delivery.position.0)
    .bind(delivery.offset.0)
    .fetch_optional(tx)
    .await
    .map_err(fault)?;
    Ok(found.map(|open| if open == 1 { DeliveryTable::Open } else { DeliveryTable::Final }))
}

/// The time of the first of some requests; each one after it has the next microsecond. Owners
/// read `asked_at > since`, a page at a time, so that no two requests may have the same time.
pub(super) async fn asking_time(tx: &mut SqliteConnection) -> Result<Timestamp, StoreError> {
    let last: Option<i64> = sqlx::query_scalar("SELECT max(asked_at) FROM open_delivery WHERE asked_at IS NOT NULL")
        .fetch_one(tx)
        .await
        .map_err(fault)?;
    Ok(last.map_or(now(), |last| now().max(Timestamp(last.saturating_add(1)))))
}

/// Encodes keys with the times of their requests as one parameter.
fn wishes(deliveries: &[DeliveryKey], from: Timestamp) -> Result<String, StoreError> {
    let wishes: Vec<(i64, i64, i64)> =
        (from.0..).zip(deliveries).map(|(at, key)| (key.position.0, key.offset.0, at)).collect();
    json(&wishes)
}

/// Makes open deliveries due, with all their attempts unused. A delivery that waits behind its
/// lane's head (COMMITTED) runs in its turn, and has no due time to be brought forward.
pub(super) async fn wake_many(
    tx: &mut SqliteConnection,
    deliveries: &[DeliveryKey],
    from: Timestamp,
) -> Result<(), StoreError> {
    if deliveries.is_empty() {
        return Ok(());
    }
    let asked = sqlx::query(
        "UPDATE open_delivery SET asked_at = w.value ->> 2, counted = 0, give_up_reason = NULL, give_up_letter = 0,
             next_attempt_at = iif(state = ?2 AND held = 0, next_attempt_at, w.value ->> 2), held = 0
         FROM json_each(?1) w WHERE position = w.value ->> 0 AND offset = w.value ->> 1",
    )
    .bind(wishes(deliveries, from)?)
    .bind(State::Committed.code())
    .execute(tx)
    .await
    .map_err(fault)?;
    expect_rows("asking for open deliveries", deliveries.len(), asked.rows_affected())
}

/// Makes final deliveries open ones that are due. Their attempts and records stay. An attempt
/// that only the final row has is inserted before that row is deleted.
pub(super) async fn reopen_many(
    tx: &mut SqliteConnection,
    deliveries: &[DeliveryKey],
    from: Timestamp,
) -> Result<(), StoreError> {
    if deliveries.is_empty() {
        return Ok(());
    }
    let wishes = wishes(deliveries, from)?;
    // A delivery that was handled at once has no row in `attempt`, since its final row has the
    // same columns.
    sqlx::query(
        "INSERT INTO attempt (position, offset, number, counted, version, node, started_at, finished_at, verdict,
             reason, fingerprint)
         SELECT d.position, d.offset, d.number, d.counted > 0, d.version, d.node, d.started_at, d.settled_at, d.verdict,
             d.reason, d.fingerprint
         FROM json_each(?) w CROSS JOIN delivery d ON d.position = w.value ->> 0 AND d.offset = w.value ->> 1
         WHERE d.number > 0 AND d.started_at IS NOT NULL AND d.verdict IS NOT NULL
         ON CONFLICT (position, offset, number) DO NOTHING",
    )
    .bind(&wishes)
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    let opened = sqlx::query(
        "INSERT INTO open_delivery (position, offset, group_id, state, next_attempt_at, held, asked_at, record_time,
             received_at, started_at, number, counted, verdict, node, version, message_id, source_hash, key, type_name,
             reason, fingerprint)
         SELECT d.position, d.offset, d.group_id, iif(d.state = ?2, ?3, d.state), w.value ->> 2, 0, w.value ->> 2,
             d.record_time, d.received_at, d.started_at, d.number, 0, d.verdict, d.node, d.version, d.message_id,
             d.source_hash, d.key, d.type_name, d.reason, d.fingerprint
         FROM json_each(?1) w CROSS JOIN delivery d ON d.position = w.value ->> 0 AND d.offset = w.value ->> 1",
    )
    .bind(&wishes)
    .bind(State::Handled.code())
    .bind(State::Committed.code())
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    expect_rows("opening deliveries again", deliveries.len(), opened.rows_affected())?;
    sqlx::query(
        "UPDATE counter SET handled = counter.handled - gone.handled, failed = counter.failed - gone.failed
         FROM (SELECT d.group_id, d.node, sum(d.state = ?2) AS handled, sum(d.state <> ?2) AS failed
               FROM json_each(?1) w CROSS JOIN delivery d ON d.position = w.value ->> 0 AND d.offset = w.value ->> 1
               GROUP BY d.group_id, d.node) AS gone
         WHERE counter.group_id = gone.group_id AND counter.node = gone.node",
    )
    .bind(&wishes)
    .bind(State::Handled.code())
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    let removed = sqlx::query(
        "DELETE FROM delivery WHERE (position, offset) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))",
    )
    .bind(&wishes)
    .execute(tx)
    .await
    .map_err(fault)?;
    expect_rows("removing the final rows of deliveries that are open again", deliveries.len(), removed.rows_affected())
}

/// The error for a delivery without any row. Its first attempt has not ended when its offset is
/// at or past the position.
async fn absent(tx: &mut SqliteConnection, delivery: &DeliveryKey) -> Result<StoreError, StoreError> {
    let next: Option<i64> = sqlx::query_scalar("SELECT next FROM position WHERE id = ?")
        .bind(delivery.position.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(fault)?;
    let offset = delivery.offset;
    if super::handled_sets::find(tx, std::slice::from_ref(delivery)).await?.iter().any(Option::is_some) {
        return Ok(StoreError::Conflict(IN_SET.to_owned()));
    }
    Ok(match next {
        Some(next) if next <= offset.0 => {
            StoreError::Conflict(format!("the delivery of offset {offset} has not finished yet"))
        }
        _ => {
            StoreError::NotFound(format!("there is no delivery of offset {offset} in position {}", delivery.position.0))
        }
    })
}

/// Refuses a delivery of a topic that was deleted. Its partition has no owner that could run it,
/// and as an open row it would stay for ever.
async fn refuse_old_incarnation(tx: &mut SqliteConnection, delivery: &DeliveryKey) -> Result<(), StoreError> {
    if is_current(tx, delivery.position.0).await? {
        return Ok(());
    }
    Err(StoreError::Conflict(format!("the topic of offset {} was created anew since", delivery.offset)))
}

/// Whether a position belongs to the present topic and to a partition that this topic has.
pub(super) async fn is_current(tx: &mut SqliteConnection, position: i64) -> Result<bool, StoreError> {
    let newer: i64 = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM position p JOIN position n ON n.group_id = p.group_id AND n.topic = p.topic
                        AND n.partition = p.partition AND n.listener = p.listener
                        AND (n.incarnation > p.incarnation OR (n.id = p.id AND p.gone)) WHERE p.id = ?)",
    )
    .bind(position)
    .fetch_one(tx)
    .await
    .map_err(fault)?;
    Ok(newer == 0)
}
