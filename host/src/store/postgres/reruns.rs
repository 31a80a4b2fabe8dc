//! Requesting reruns of deliveries. Nothing else brings a delivery back into its lane.

use async_trait::async_trait;
use courier_core::message::Timestamp;
use courier_core::status::State;
use sqlx::postgres::PgConnection;

use super::columns::{self, PgRowExt};
use super::error::at_statement;
use super::settle_open::{Class, Deltas, PEOPLE};
use super::{PostgresStore, bounded, commit};
use crate::store::handled_sets::IN_SET;
use crate::store::shared::broadcast::refuse_gone_listener;
use crate::store::shared::dialect::StatementConnection as _;
use crate::store::shared::text::clean;
use crate::store::{DeliveryKey, GiveUp, GiveUpStore, RerunStore, StoreError};

#[async_trait]
impl RerunStore for PostgresStore {
    async fn ask(&self, delivery: &DeliveryKey) -> Result<(), StoreError> {
        bounded(ask(self, delivery)).await
    }
}

/// The key of the lock under which requests get their times.
const ASK_LOCK: i64 = 0x636f_7572_6173_6b00;

async fn ask(store: &PostgresStore, delivery: &DeliveryKey) -> Result<(), StoreError> {
    let mut tx = store.begin_tx().await?;
    let position = sqlx::query("SELECT next, current FROM position WHERE id = $1 FOR UPDATE")
        .bind(delivery.position.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(at_statement)?
        .ok_or_else(|| unknown(delivery))?;
    refuse_gone_listener(&mut *tx, delivery).await?;
    let asked_at = asking_time(&mut tx).await?;
    let mut deltas = Deltas::default();
    let one = std::slice::from_ref(delivery);
    if wake_many(&mut tx, one, asked_at, &mut deltas).await? == 0 {
        if reopen_many(&mut tx, one, asked_at, &mut deltas).await? == 0 {
            let in_set = super::handled_sets::find(&mut tx, one).await?.iter().any(Option::is_some);
            return Err(if in_set {
                StoreError::Conflict(IN_SET.to_owned())
            } else if delivery.offset.0 >= position.take::<i64>("next")? {
                in_first_flight(delivery)
            } else {
                unknown(delivery)
            });
        }
        if !position.take::<bool>("current")? {
            return Err(StoreError::Conflict(format!("the topic of delivery {} was created anew", name(delivery))));
        }
    }
    deltas.write(&mut tx, PEOPLE).await?;
    tx.note().await?;
    commit(tx).await
}

#[async_trait]
impl GiveUpStore for PostgresStore {
    async fn give_up(&self, delivery: &DeliveryKey, give_up: &GiveUp) -> Result<(), StoreError> {
        bounded(mark_given_up(self, delivery, give_up)).await
    }
}

async fn mark_given_up(store: &PostgresStore, delivery: &DeliveryKey, give_up: &GiveUp) -> Result<(), StoreError> {
    let mut tx = store.begin_tx().await?;
    let position = sqlx::query("SELECT next, current FROM position WHERE id = $1 FOR UPDATE")
        .bind(delivery.position.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(at_statement)?
        .ok_or_else(|| unknown(delivery))?;
    refuse_gone_listener(&mut *tx, delivery).await?;
    let asked_at = asking_time(&mut tx).await?;
    let marked = sqlx::query(
        "UPDATE open_delivery SET asked_at = $3, give_up_reason = $4, give_up_letter = $5
         WHERE position_id = $1 AND record_offset = $2",
    )
    .bind(delivery.position.0)
    .bind(delivery.offset.0)
    .bind(asked_at.0)
    .bind(clean(&give_up.reason))
    .bind(give_up.dead_letter)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    if marked.rows_affected() == 0 {
        let ended = sqlx::query("SELECT 1 FROM delivery WHERE position_id = $1 AND record_offset = $2")
            .bind(delivery.position.0)
            .bind(delivery.offset.0)
            .fetch_optional(&mut *tx)
            .await
            .map_err(at_statement)?;
        let in_set = super::handled_sets::find(&mut tx, std::slice::from_ref(delivery)).await?;
        return Err(if in_set.iter().any(Option::is_some) {
            StoreError::Conflict(IN_SET.to_owned())
        } else if ended.is_some() {
            StoreError::Conflict("the delivery is final: there is nothing to give up".to_owned())
        } else if delivery.offset.0 >= position.take::<i64>("next")? {
            in_first_flight(delivery)
        } else {
            unknown(delivery)
        });
    }
    if !position.take::<bool>("current")? {
        return Err(StoreError::Conflict(format!("the topic of delivery {} was created anew", name(delivery))));
    }
    tx.note().await?;
    commit(tx).await
}

fn in_first_flight(delivery: &DeliveryKey) -> StoreError {
    StoreError::Conflict(format!("delivery {} runs for the first time or was not received yet", name(delivery)))
}

/// Keys as arrays.
fn columns(deliveries: &[DeliveryKey]) -> (Vec<i64>, Vec<i64>) {
    deliveries.iter().map(|key| (key.position.0, key.offset.0)).unzip()
}

/// Makes open deliveries due, each with a request of its own time from `from` on and with
/// all its attempts unused; returns how many there were. A delivery that waits behind its
/// lane's head (COMMITTED) runs in its turn, and has no due time to be brought forward.
///
/// The caller has locked their positions.
pub(super) async fn wake_many(
    tx: &mut PgConnection,
    deliveries: &[DeliveryKey],
    from: Timestamp,
    deltas: &mut Deltas,
) -> Result<u64, StoreError> {
    if deliveries.is_empty() {
        return Ok(0);
    }
    let (positions, offsets) = columns(deliveries);
    let held = sqlx::query(
        "SELECT o.group_id, o.state, o.held, count(*) AS count
         FROM unnest($1::bigint[], $2::bigint[]) AS w (position_id, record_offset)
         JOIN open_delivery o ON o.position_id = w.position_id AND o.record_offset = w.record_offset
         GROUP BY o.group_id, o.state, o.held",
    )
    .bind(&positions)
    .bind(&offsets)
    .fetch_all(&mut *tx)
    .await
    .map_err(at_statement)?;
    for row in &held {
        let count: i64 = row.take("count")?;
        let of_group = deltas.of(row.take("group_id")?);
        of_group.add(Class::of_row(row)?, -count);
        of_group.add(Class::of(columns::state(row.take("state")?)?, false), count);
    }
    let woken = sqlx::query(
        "UPDATE open_delivery o SET held = false, counted = 0, asked_at = $3 + w.place - 1,
             give_up_reason = NULL, give_up_letter = false,
             next_attempt_at = CASE WHEN o.state = 2 AND NOT o.held THEN o.next_attempt_at ELSE $3 + w.place - 1 END
         FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS w (position_id, record_offset, place)
         WHERE o.position_id = w.position_id AND o.record_offset = w.record_offset",
    )
    .bind(&positions)
    .bind(&offsets)
    .bind(from.0)
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok(woken.rows_affected())
}

/// Makes final deliveries open ones that are due, in the state in which they failed, or
/// COMMITTED if they were handled; returns how many there were.
///
/// A delivery that was handled at once has no row in `attempt`, since its final row has the
/// same columns. The row is written here before the final one is deleted.
///
/// The caller has locked their positions.
pub(super) async fn reopen_many(
    tx: &mut PgConnection,
    deliveries: &[DeliveryKey],
    from: Timestamp,
    deltas: &mut Deltas,
) -> Result<u64, StoreError> {
    if deliveries.is_empty() {
        return Ok(0);
    }
    let (positions, offsets) = columns(deliveries);
    let rows = sqlx::query(
        "WITH wish AS (
             SELECT * FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS w (position_id, record_offset, place)
         ), final AS (
             DELETE FROM delivery d USING wish w
             WHERE d.position_id = w.position_id AND d.record_offset = w.record_offset
             RETURNING d.*, w.place
         ), kept AS (
             INSERT INTO attempt (position_id, record_offset, number, node_id, version_id, started_at, finished_at,
                 verdict, counted, reason, fingerprint)
             SELECT position_id, record_offset, number, node_id, version_id, started_at, settled_at, verdict,
                 counted > 0, reason, fingerprint
             FROM final WHERE number > 0 AND started_at IS NOT NULL AND verdict IS NOT NULL
             ON CONFLICT DO NOTHING
         ), open AS (
             INSERT INTO open_delivery (position_id, record_offset, record_time, received_at, next_attempt_at,
                 started_at, asked_at, group_id, node_id, version_id, number, counted, state, verdict, held,
                 message_id, key, type_name, reason, fingerprint, record, source_hash)
             SELECT position_id, record_offset, record_time, received_at, $3 + place - 1, started_at, $3 + place - 1,
                 group_id, node_id, version_id, number, 0, CASE WHEN state = 5 THEN 2 ELSE state END, verdict, false,
                 message_id, key, type_name, reason, fingerprint, record, source_hash
             FROM final
         )
         SELECT group_id, state, count(*) AS count FROM final GROUP BY group_id, state",
    )
    .bind(&positions)
    .bind(&offsets)
    .bind(from.0)
    .fetch_all(tx)
    .await
    .map_err(at_statement)?;
    let mut opened = 0;
    for row in &rows {
        let (count, state): (i64, State) = (row.take("count")?, columns::state(row.take("state")?)?);
        let of_group = deltas.of(row.take("group_id")?);
        of_group.ended(state, -count);
        let shown = if state == State::Handled { State::Committed } else { state };
        of_group.add(Class::of(shown, false), count);
        opened += count.unsigned_abs();
    }
    Ok(opened)
}

/// The time of the first of some requests; each one after it has the next microsecond.
///
/// Owners read `asked_at > since`, a page at a time. So no two requests may have the same
/// time, and they have to become visible in their order: a transaction gets its time only
/// when the one before has committed.
pub(super) async fn asking_time(tx: &mut PgConnection) -> Result<Timestamp, StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(ASK_LOCK).execute(&mut *tx).await.map_err(at_statement)?;
    sqlx::query(
        "SELECT greatest(courier_now(), (SELECT max(asked_at) + 1 FROM open_delivery WHERE asked_at IS NOT NULL)) AS at",
    )
    .fetch_one(tx)
    .await
    .map_err(at_statement)?
    .time("at")
}

fn name(delivery: &DeliveryKey) -> String {
    format!("{}/{}", delivery.position.0, delivery.offset)
}

fn unknown(delivery: &DeliveryKey) -> StoreError {
    StoreError::NotFound(format!("no delivery {}", name(delivery)))
}
