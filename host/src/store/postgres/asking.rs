//! Open deliveries by themselves, and asking that one runs again.

use std::collections::HashMap;

use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;
use sqlx::postgres::{PgConnection, PgRow};

use super::columns::Columns;
use super::error::at_statement;
use super::settle_open::{Class, Deltas, PEOPLE};
use super::{PostgresStore, commit, text};
use crate::store::{DeliveryKey, OpenRecord, OpenRow, PositionId, StoreError};

/// Names the lock under which people's requests get their times.
const ASK_LOCK: i64 = 0x636f_7572_6173_6b00;

pub(super) fn open_row(row: &PgRow) -> Result<OpenRow, StoreError> {
    Ok(OpenRow {
        position: PositionId(row.take("position_id")?),
        offset: row.offset("record_offset")?,
        key: row.bytes("key")?,
        message_id: row.take("message_id")?,
        state: text::state(row.take("state")?)?,
        next_attempt_at: row.time_opt("next_attempt_at")?,
        held: row.take("held")?,
        number: row.count("number")?,
        counted: row.count("counted")?,
        received_at: row.time("received_at")?,
        record_bytes: usize::try_from(row.take::<i32>("record_bytes")?).unwrap_or(0),
        asked_at: row.time_opt("asked_at")?,
    })
}

pub(super) async fn open_records(
    store: &PostgresStore,
    position: PositionId,
    offsets: &[Offset],
) -> Result<Vec<Option<OpenRecord>>, StoreError> {
    let wanted: Vec<i64> = offsets.iter().map(|offset| offset.0).collect();
    let rows = sqlx::query(
        "SELECT o.position_id, o.record_offset, o.key, o.message_id, o.state, o.next_attempt_at, o.held, o.number, o.counted,
             o.received_at, o.asked_at, coalesce(octet_length(o.record), 0) AS record_bytes, o.record
         FROM open_delivery o WHERE o.position_id = $1 AND o.record_offset = ANY($2)",
    )
    .bind(position.0)
    .bind(&wanted)
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let record = row.bytes("record")?;
        found.insert(row.take::<i64>("record_offset")?, OpenRecord { row: open_row(row)?, record });
    }
    Ok(wanted.iter().map(|offset| found.get(offset).cloned()).collect())
}

pub(super) async fn asked(
    store: &PostgresStore,
    positions: &[PositionId],
    since: Timestamp,
    limit: u32,
) -> Result<Vec<OpenRow>, StoreError> {
    let positions: Vec<i64> = positions.iter().map(|position| position.0).collect();
    let rows = sqlx::query(
        "SELECT position_id, record_offset, key, message_id, state, next_attempt_at, held, number, counted, received_at,
             asked_at,
             coalesce(octet_length(record), 0) AS record_bytes
         FROM open_delivery WHERE position_id = ANY($1) AND asked_at > $2
         ORDER BY asked_at, position_id, record_offset LIMIT $3",
    )
    .bind(&positions)
    .bind(since.0)
    .bind(i64::from(limit))
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    rows.iter().map(open_row).collect()
}

pub(super) async fn ask(store: &PostgresStore, delivery: &DeliveryKey) -> Result<(), StoreError> {
    let mut tx = store.begin_tx().await?;
    let position = sqlx::query("SELECT group_id, next, current FROM position WHERE id = $1 FOR UPDATE")
        .bind(delivery.position.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(at_statement)?
        .ok_or_else(|| unknown(delivery))?;
    super::broadcast::refuse_gone_listener(&mut tx, delivery).await?;
    let asked_at = asking_time(&mut tx).await?;
    let mut deltas = Deltas::default();
    let of_group = deltas.of(position.take("group_id")?);
    let before = sqlx::query("SELECT state, held FROM open_delivery WHERE position_id = $1 AND record_offset = $2")
        .bind(delivery.position.0)
        .bind(delivery.offset.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(at_statement)?;
    if let Some(before) = before {
        of_group.add(Class::of_row(&before)?, -1);
        let state = text::state(before.take("state")?)?;
        of_group.add(Class::of(state, false), 1);
        wake_open(&mut tx, delivery, asked_at).await?;
    } else {
        let state = reopen(&mut tx, delivery, asked_at).await?;
        let Some(state) = state else {
            return Err(if delivery.offset.0 >= position.take::<i64>("next")? {
                StoreError::Conflict(format!(
                    "delivery {} runs for the first time or was not received yet",
                    name(delivery)
                ))
            } else {
                unknown(delivery)
            });
        };
        if !position.take::<bool>("current")? {
            return Err(StoreError::Conflict(format!("the topic of delivery {} was created anew", name(delivery))));
        }
        of_group.ended(state, -1);
        of_group.add(Class::of(State::Committed, false), 1);
    }
    deltas.write(&mut tx, PEOPLE).await?;
    commit(tx).await
}

/// Makes an open delivery due. One that waits behind its lane's head
/// (COMMITTED) runs in its turn, and has no time to be brought forward.
async fn wake_open(tx: &mut PgConnection, delivery: &DeliveryKey, asked_at: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE open_delivery SET held = false, asked_at = $3,
             next_attempt_at = CASE WHEN state = 2 AND NOT held THEN next_attempt_at ELSE $3 END
         WHERE position_id = $1 AND record_offset = $2",
    )
    .bind(delivery.position.0)
    .bind(delivery.offset.0)
    .bind(asked_at.0)
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok(())
}

/// Turns a final row into an open one; answers the state it had, if there was
/// such a row.
///
/// A delivery that was handled at once has no row in `attempt`: its final row
/// stood for it, and leaves one behind as it goes.
async fn reopen(
    tx: &mut PgConnection,
    delivery: &DeliveryKey,
    asked_at: Timestamp,
) -> Result<Option<State>, StoreError> {
    let row = sqlx::query(
        "WITH final AS (
             DELETE FROM delivery WHERE position_id = $1 AND record_offset = $2 RETURNING *
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
                 message_id, key, type_name, reason, fingerprint, record)
             SELECT position_id, record_offset, record_time, received_at, $3, started_at, $3, group_id,
                 node_id, version_id, number, 0, 2, verdict, false, message_id, key, type_name, reason, fingerprint,
                 record
             FROM final
         )
         SELECT state FROM final",
    )
    .bind(delivery.position.0)
    .bind(delivery.offset.0)
    .bind(asked_at.0)
    .fetch_optional(tx)
    .await
    .map_err(at_statement)?;
    row.map(|row| text::state(row.take(0)?)).transpose()
}

/// The time of this wish.
///
/// Owners read `asked_at > since`, a page at a time, so no two wishes may have
/// the same, and they must become visible in their order: whoever asks takes
/// his time only when the one before has committed.
async fn asking_time(tx: &mut PgConnection) -> Result<Timestamp, StoreError> {
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
