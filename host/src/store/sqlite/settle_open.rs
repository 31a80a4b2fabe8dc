//! The statements of a settle on open rows.

use std::collections::{BTreeSet, HashMap};

use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;
use sqlx::sqlite::SqliteRow;
use sqlx::{Arguments, Row, SqliteConnection};

use super::bulk::Bulk;
use super::columns::{expect_rows, json};
use super::error::fault;
use super::settle_rows::{Line, MessageColumns};
use crate::store::{Becomes, OutcomeRow, Part, StoreError};

/// A part that its writer still owns.
pub(super) struct Owned<'p> {
    pub(super) part: &'p Part,
    pub(super) group: i64,
    /// Whether the position has open rows. Most have none, and then single rows need no check.
    pub(super) has_open: bool,
}

/// Checks that each delivery has an open row or none, as its outcome says, so that an owner which
/// is wrong about its deliveries writes nothing.
pub(super) async fn check_open_rows(tx: &mut SqliteConnection, owned: &Owned<'_>) -> Result<(), StoreError> {
    let outcomes = &owned.part.outcomes;
    let wrong = |outcome: &OutcomeRow| {
        let (is, says) = if outcome.had_row { ("no", "one") } else { ("an", "none") };
        StoreError::Bug(format!(
            "{} {}[{}] offset {}: there is {is} open row where the outcome knows of {says}",
            owned.part.group, owned.part.topic, owned.part.partition, outcome.offset
        ))
    };
    check_not_final(tx, owned).await?;
    if !owned.has_open {
        return outcomes.iter().find(|outcome| outcome.had_row).map_or(Ok(()), |outcome| Err(wrong(outcome)));
    }
    let offsets: Vec<i64> = outcomes.iter().map(|outcome| outcome.offset.0).collect();
    let open: Vec<i64> = sqlx::query_scalar(
        "SELECT offset FROM open_delivery WHERE position = ? AND offset IN (SELECT value FROM json_each(?))",
    )
    .bind(owned.part.position.0)
    .bind(json(&offsets)?)
    .fetch_all(tx)
    .await
    .map_err(fault)?;
    let open: BTreeSet<i64> = open.into_iter().collect();
    let misled = outcomes.iter().find(|outcome| outcome.had_row != open.contains(&outcome.offset.0));
    misled.map_or(Ok(()), |outcome| Err(wrong(outcome)))
}

/// Checks that no delivery that is parked is final already: it would be twice in the lists, and
/// run a second time.
async fn check_not_final(tx: &mut SqliteConnection, owned: &Owned<'_>) -> Result<(), StoreError> {
    let is_new = |outcome: &&OutcomeRow| !outcome.had_row && matches!(outcome.to, Becomes::Open { .. });
    let offsets: Vec<i64> = owned.part.outcomes.iter().filter(is_new).map(|outcome| outcome.offset.0).collect();
    if offsets.is_empty() {
        return Ok(());
    }
    let ended: Option<i64> = sqlx::query_scalar(
        "SELECT d.offset FROM json_each(?2) o CROSS JOIN delivery d ON d.position = ?1 AND d.offset = o.value LIMIT 1",
    )
    .bind(owned.part.position.0)
    .bind(json(&offsets)?)
    .fetch_optional(tx)
    .await
    .map_err(fault)?;
    let Some(offset) = ended else { return Ok(()) };
    Err(StoreError::Bug(format!(
        "{} {}[{}] offset {offset} is final and would become open without having been asked for",
        owned.part.group, owned.part.topic, owned.part.partition
    )))
}

/// Removes the open rows of deliveries that become final, and the records of
/// those that are HANDLED. A failed one keeps the record it has.
///
/// Returns what the rows said of their messages, by offset: a delivery whose record Kafka
/// removed ends without knowing its message.
pub(super) async fn remove_finished(
    tx: &mut SqliteConnection,
    owned: &Owned<'_>,
) -> Result<HashMap<Offset, MessageColumns>, StoreError> {
    let (mut finished, mut handled) = (Vec::new(), Vec::new());
    for outcome in owned.part.outcomes.iter().filter(|outcome| outcome.had_row) {
        if let Becomes::Final { state, .. } = outcome.to {
            finished.push(outcome.offset.0);
            if state == State::Handled {
                handled.push(outcome.offset.0);
            }
        }
    }
    if finished.is_empty() {
        return Ok(HashMap::new());
    }
    let removed = sqlx::query(
        "DELETE FROM open_delivery WHERE position = ? AND offset IN (SELECT value FROM json_each(?))
         RETURNING offset, record_time, received_at, message_id, source_hash, key, type_name",
    )
    .bind(owned.part.position.0)
    .bind(json(&finished)?)
    .fetch_all(&mut *tx)
    .await
    .map_err(fault)?;
    expect_rows("removing open rows of finished deliveries", finished.len(), removed.len() as u64)?;
    sqlx::query("DELETE FROM kept_record WHERE position = ? AND offset IN (SELECT value FROM json_each(?))")
        .bind(owned.part.position.0)
        .bind(json(&handled)?)
        .execute(tx)
        .await
        .map_err(fault)?;
    removed.iter().map(|row| message_columns(row).map_err(fault)).collect()
}

fn message_columns(row: &SqliteRow) -> Result<(Offset, MessageColumns), sqlx::Error> {
    let columns = MessageColumns {
        record_time: Timestamp(row.try_get(1)?),
        received_at: row.try_get(2)?,
        message_id: row.try_get(3)?,
        source_hash: row.try_get(4)?,
        key: row.try_get(5)?,
        type_name: row.try_get(6)?,
    };
    Ok((Offset(row.try_get(0)?), columns))
}

/// Inserts open rows or updates those that exist, which was checked before. The time of a request
/// stays: it may have come while the attempt ran, and the owner reads requests by time.
pub(super) async fn write_open(tx: &mut SqliteConnection, lines: &[Line<'_>]) -> Result<(), StoreError> {
    const UPSERT: Bulk = Bulk {
        insert: "INSERT INTO open_delivery (position, offset, group_id, state, next_attempt_at, held, record_time,
                 received_at, started_at, number, counted, verdict, node, version, message_id, source_hash, key,
                 type_name, reason, fingerprint)",
        columns: 20,
        then: "ON CONFLICT (position, offset) DO UPDATE SET
                   state = excluded.state, next_attempt_at = excluded.next_attempt_at, held = excluded.held,
                   started_at = excluded.started_at, number = excluded.number, counted = excluded.counted,
                   verdict = excluded.verdict, node = excluded.node, version = excluded.version,
                   reason = excluded.reason, fingerprint = excluded.fingerprint,
                   source_hash = coalesce(source_hash, excluded.source_hash)",
    };
    let rows: Vec<(&Line<'_>, State, Option<Timestamp>, bool)> = lines
        .iter()
        .filter_map(|line| match line.outcome.to {
            Becomes::Open { state, next_attempt_at, held, .. } => Some((line, state, next_attempt_at, held)),
            Becomes::Final { .. } | Becomes::InHandledSet { .. } => None,
        })
        .collect();
    let written = UPSERT
        .run(tx, &rows, |arguments, (line, state, due, held)| {
            arguments.add(line.position.0)?;
            arguments.add(line.outcome.offset.0)?;
            arguments.add(line.group)?;
            arguments.add(state.code())?;
            arguments.add(due.map(|due| due.0))?;
            arguments.add(i64::from(*held))?;
            line.bind_rest(arguments)
        })
        .await?;
    expect_rows("writing open rows", rows.len(), written)
}
