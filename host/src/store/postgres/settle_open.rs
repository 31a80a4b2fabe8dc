//! The statements of a settle on open rows, and the groups' totals.

use std::collections::BTreeMap;

use courier_core::status::State;
use sqlx::postgres::{PgConnection, PgRow};

use super::columns::{self, PgRowExt};
use super::error::at_statement;
use super::settle_rows::{FinalColumns, OpenColumns};
use crate::store::StoreError;

/// The node number of totals that a person changed and no node.
pub(super) const PEOPLE: i32 = 0;

/// The total of its group in which an open row counts.
#[derive(Clone, Copy)]
pub(super) enum Class {
    /// Behind its lane's head, or to be run again and not yet begun.
    Waiting,
    PushFail,
    Retrying,
    Held,
}

impl Class {
    pub(super) fn of(state: State, held: bool) -> Self {
        match state {
            _ if held => Self::Held,
            State::PushFail => Self::PushFail,
            State::HandleFail => Self::Retrying,
            State::SendFail | State::Committed | State::Handled => Self::Waiting,
        }
    }

    /// The class of a row with the columns `state` and `held`.
    pub(super) fn of_row(row: &PgRow) -> Result<Self, StoreError> {
        Ok(Self::of(columns::state(row.take("state")?)?, row.take("held")?))
    }
}

/// Changes of the totals of one group.
#[derive(Clone, Copy, Default)]
pub(super) struct Delta {
    handled: i64,
    failed: i64,
    waiting: i64,
    push_fail: i64,
    retrying: i64,
    held: i64,
}

impl Delta {
    /// Counts open rows that were added or, if negative, removed.
    pub(super) fn add(&mut self, class: Class, count: i64) {
        match class {
            Class::Waiting => self.waiting += count,
            Class::PushFail => self.push_fail += count,
            Class::Retrying => self.retrying += count,
            Class::Held => self.held += count,
        }
    }

    /// Counts final rows that were added or, if negative, removed.
    pub(super) fn ended(&mut self, state: State, count: i64) {
        if state == State::Handled { self.handled += count } else { self.failed += count }
    }
}

/// Changes of the totals by group. The map is ordered, so that transactions which write
/// the same node's rows lock them in one order.
#[derive(Default)]
pub(super) struct Deltas(BTreeMap<i32, Delta>);

/// [`Deltas`] as arrays.
pub(super) struct DeltaColumns {
    pub(super) group: Vec<i32>,
    pub(super) sums: [Vec<i64>; 6],
}

impl Deltas {
    pub(super) fn of(&mut self, group: i32) -> &mut Delta {
        self.0.entry(group).or_default()
    }

    pub(super) fn columns(&self) -> DeltaColumns {
        let sum = |pick: fn(&Delta) -> i64| self.0.values().map(pick).collect();
        DeltaColumns {
            group: self.0.keys().copied().collect(),
            sums: [
                sum(|d| d.handled),
                sum(|d| d.failed),
                sum(|d| d.waiting),
                sum(|d| d.push_fail),
                sum(|d| d.retrying),
                sum(|d| d.held),
            ],
        }
    }

    /// Adds them to the rows of `node`. It is the last statement of a transaction.
    pub(super) async fn write(&self, tx: &mut PgConnection, node: i32) -> Result<(), StoreError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let DeltaColumns { group, sums: [handled, failed, waiting, push_fail, retrying, held] } = self.columns();
        sqlx::query(
            "INSERT INTO counter AS c (group_id, node_id, handled, failed, waiting, push_fail, retrying, held)
             SELECT d.group_id, $1, d.handled, d.failed, d.waiting, d.push_fail, d.retrying, d.held
             FROM unnest($2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
                 AS d (group_id, handled, failed, waiting, push_fail, retrying, held)
             ORDER BY d.group_id
             ON CONFLICT (group_id, node_id) DO UPDATE SET
                 handled = c.handled + excluded.handled, failed = c.failed + excluded.failed,
                 waiting = c.waiting + excluded.waiting, push_fail = c.push_fail + excluded.push_fail,
                 retrying = c.retrying + excluded.retrying, held = c.held + excluded.held",
        )
        .bind(node)
        .bind(group)
        .bind(handled)
        .bind(failed)
        .bind(waiting)
        .bind(push_fail)
        .bind(retrying)
        .bind(held)
        .execute(tx)
        .await
        .map_err(at_statement)?;
        Ok(())
    }
}

/// Counts the deliveries of `$deliveries` (arrays of positions and offsets) that have an
/// open row. They are looked up one by one only when `$ranges` (arrays of positions, first
/// and last offsets) has an open row at all: most batches meet none, and a look-up for each
/// delivery costs as much as a tenth of its row.
///
/// `LATERAL` and `LIMIT` make both of them look-ups by the primary key, whatever the table
/// held when the plan was made. A plan from an empty table would otherwise read all open
/// rows into a hash table for each settle: 40 ms with 100,000 parked ones.
macro_rules! count_open_rows {
    ($ranges:literal, $deliveries:literal) => {
        concat!(
            "CASE WHEN EXISTS (
                 SELECT FROM unnest(",
            $ranges,
            ") AS r (position_id, first, last), LATERAL (
                     SELECT FROM open_delivery o
                     WHERE o.position_id = r.position_id AND o.record_offset BETWEEN r.first AND r.last LIMIT 1
                 ) AS found
             ) THEN (
                 SELECT count(*) FROM unnest(",
            $deliveries,
            ") AS f (position_id, record_offset), LATERAL (
                     SELECT FROM open_delivery o
                     WHERE o.position_id = f.position_id AND o.record_offset = f.record_offset LIMIT 1
                 ) AS found
             ) ELSE 0 END"
        )
    };
}
pub(super) use count_open_rows;

/// Checks that every delivery which had an open row still has it, and subtracts those rows
/// from the totals.
///
/// No row lock is needed: a transaction that changes open rows of a position has locked
/// the position, and this one has.
pub(super) async fn check_rows(
    tx: &mut PgConnection,
    positions: &[i64],
    offsets: &[i64],
    deltas: &mut Deltas,
) -> Result<(), StoreError> {
    if offsets.is_empty() {
        return Ok(());
    }
    let found = sqlx::query(
        "SELECT o.group_id, o.state, o.held, count(*) AS count
         FROM unnest($1::bigint[], $2::bigint[]) AS had (position_id, record_offset)
         JOIN open_delivery o ON o.position_id = had.position_id AND o.record_offset = had.record_offset
         GROUP BY o.group_id, o.state, o.held",
    )
    .bind(positions)
    .bind(offsets)
    .fetch_all(tx)
    .await
    .map_err(at_statement)?;
    let mut count = 0;
    for row in &found {
        let rows: i64 = row.take("count")?;
        deltas.of(row.take("group_id")?).add(Class::of_row(row)?, -rows);
        count += rows;
    }
    expect(usize::try_from(count).unwrap_or(0), offsets.len(), "open rows to replace")
}

/// Replaces open rows by final ones. The columns of the message are those of the open row:
/// a delivery whose record Kafka removed ends without knowing its message. A failed
/// delivery without a record keeps that of its open row.
pub(super) async fn close(tx: &mut PgConnection, rows: &FinalColumns<'_>) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let written = rows
        .bind(sqlx::query(
            "INSERT INTO delivery (position_id, record_offset, record_time, received_at, started_at, settled_at, day,
                 group_id, node_id, version_id, number, counted, state, verdict, message_id, key, type_name, reason,
                 fingerprint, record, source_hash)
             SELECT r.position_id, r.record_offset, o.record_time, o.received_at, r.started_at, r.settled_at,
                 floor(o.record_time / 86400000000.0)::integer,
                 r.group_id, r.node_id, r.version_id, r.number, r.counted, r.state, r.verdict, o.message_id, o.key,
                 o.type_name, r.reason, r.fingerprint,
                 CASE WHEN r.state = 4 THEN coalesce(r.record, o.record) END,
                 coalesce(o.source_hash, r.source_hash)
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                 $7::integer[], $8::integer[], $9::integer[], $10::integer[], $11::integer[], $12::integer[],
                 $13::smallint[], $14::smallint[], $15::text[], $16::bytea[], $17::text[], $18::text[], $19::text[],
                 $20::bytea[], $21::bigint[])
                 AS r (position_id, record_offset, record_time, received_at, started_at, settled_at, day, group_id,
                     node_id, version_id, number, counted, state, verdict, message_id, key, type_name, reason,
                     fingerprint, record, source_hash)
             JOIN open_delivery o ON o.position_id = r.position_id AND o.record_offset = r.record_offset",
        ))
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
    expect(count(written.rows_affected()), rows.len(), "final rows")?;
    let gone = sqlx::query(
        "DELETE FROM open_delivery o USING unnest($1::bigint[], $2::bigint[]) AS r (position_id, record_offset)
         WHERE o.position_id = r.position_id AND o.record_offset = r.record_offset",
    )
    .bind(&rows.position)
    .bind(&rows.offset)
    .execute(tx)
    .await
    .map_err(at_statement)?;
    expect(count(gone.rows_affected()), rows.len(), "open rows that end")
}

/// Inserts open rows of deliveries that had none. A row that exists after all violates the
/// primary key and fails the settle, and so does a delivery that is final already.
pub(super) async fn insert(tx: &mut PgConnection, rows: &OpenColumns<'_>) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let ended = sqlx::query(
        "SELECT count(*) FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS o (position_id, record_offset, at)
         WHERE EXISTS (SELECT FROM delivery d WHERE d.position_id = o.position_id
             AND d.record_offset = o.record_offset AND d.day = floor(o.at / 86400000000.0)::integer)",
    )
    .bind(&rows.position)
    .bind(&rows.offset)
    .bind(&rows.record_time)
    .fetch_one(&mut *tx)
    .await
    .map_err(at_statement)?;
    expect(usize::try_from(ended.take::<i64>(0)?).unwrap_or(0), 0, "deliveries that are final already to be parked")?;
    rows.bind(sqlx::query(
        "INSERT INTO open_delivery (position_id, record_offset, record_time, received_at, next_attempt_at, started_at,
             group_id, node_id, version_id, number, counted, state, verdict, held, message_id, key, type_name, reason,
             fingerprint, record, source_hash)
         SELECT unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::bigint[]), unnest($4::bigint[]),
             unnest($5::bigint[]), unnest($6::bigint[]), unnest($7::integer[]), unnest($8::integer[]),
             unnest($9::integer[]), unnest($10::integer[]), unnest($11::integer[]), unnest($12::smallint[]),
             unnest($13::smallint[]), unnest($14::boolean[]), unnest($15::text[]), unnest($16::bytea[]),
             unnest($17::text[]), unnest($18::text[]), unnest($19::text[]), unnest($20::bytea[]),
             unnest($21::bigint[])",
    ))
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok(())
}

/// Updates open rows that stay open. The columns of the message do not change, and a
/// record that is not given stays.
pub(super) async fn update(tx: &mut PgConnection, rows: &OpenColumns<'_>) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let done = rows
        .bind(sqlx::query(
            "UPDATE open_delivery o SET next_attempt_at = r.next_attempt_at, started_at = r.started_at,
                 node_id = r.node_id, version_id = r.version_id, number = r.number, counted = r.counted,
                 state = r.state, verdict = r.verdict, held = r.held, reason = r.reason, fingerprint = r.fingerprint,
                 record = coalesce(r.record, o.record), source_hash = coalesce(o.source_hash, r.source_hash)
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                 $7::integer[], $8::integer[], $9::integer[], $10::integer[], $11::integer[], $12::smallint[],
                 $13::smallint[], $14::boolean[], $15::text[], $16::bytea[], $17::text[], $18::text[], $19::text[],
                 $20::bytea[], $21::bigint[])
                 AS r (position_id, record_offset, record_time, received_at, next_attempt_at, started_at, group_id,
                     node_id, version_id, number, counted, state, verdict, held, message_id, key, type_name, reason,
                     fingerprint, record, source_hash)
             WHERE o.position_id = r.position_id AND o.record_offset = r.record_offset",
        ))
        .execute(tx)
        .await
        .map_err(at_statement)?;
    expect(count(done.rows_affected()), rows.len(), "open rows that stay")
}

fn count(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}

/// Checks the row count of a statement that names the state which it expects.
pub(super) fn expect(found: usize, expected: usize, what: &str) -> Result<(), StoreError> {
    if found == expected {
        return Ok(());
    }
    Err(StoreError::Bug(format!("{expected} {what} expected, {found} found")))
}
