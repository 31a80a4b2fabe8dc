//! Attempts: those that have rows, and those that only final rows contain.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use courier_core::message::Offset;
use sqlx::postgres::{PgConnection, PgRow};

use super::PostgresStore;
use super::columns::{self, PgRowExt};
use super::error::at_statement;
use crate::store::{AttemptRow, DeliveryKey, PositionId, StoreError};

/// Removes the attempts of deliveries without a row. Each range is a position, its first
/// offset and the offset after its last.
///
/// Retention removes a delivery some time before its attempts. When a seek or a replay runs
/// the delivery anew in between, the numbers of its new attempts would be taken, and the
/// store would refuse its outcome.
pub(super) async fn remove_left_over(tx: &mut PgConnection, ranges: &[(i64, i64, i64)]) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM attempt a USING unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS r (position_id, first, past)
         WHERE a.position_id = r.position_id AND a.record_offset >= r.first AND a.record_offset < r.past
             AND NOT EXISTS (SELECT FROM delivery d
                 WHERE d.position_id = a.position_id AND d.record_offset = a.record_offset)
             AND NOT EXISTS (SELECT FROM open_delivery o
                 WHERE o.position_id = a.position_id AND o.record_offset = a.record_offset)",
    )
    .bind(ranges.iter().map(|range| range.0).collect::<Vec<_>>())
    .bind(ranges.iter().map(|range| range.1).collect::<Vec<_>>())
    .bind(ranges.iter().map(|range| range.2).collect::<Vec<_>>())
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok(())
}

/// Reads the attempts that have rows. The last attempt of a delivery that was handled at
/// once and logged nothing has none, and is read from its final row.
pub(super) async fn attempts(store: &PostgresStore, keys: &[DeliveryKey]) -> Result<Vec<Vec<AttemptRow>>, StoreError> {
    let (positions, offsets): (Vec<i64>, Vec<i64>) = keys.iter().map(|key| (key.position.0, key.offset.0)).unzip();
    let rows = sqlx::query(
        "SELECT a.position_id, a.record_offset, a.number, a.counted, a.started_at, a.finished_at, a.verdict, a.reason,
             a.fingerprint, a.log, n.word AS node, v.word AS version
         FROM (
             SELECT t.position_id, t.record_offset, t.number, t.counted, t.started_at, t.finished_at, t.verdict,
                 t.reason, t.fingerprint, t.log, t.node_id, t.version_id
             FROM unnest($1::bigint[], $2::bigint[]) AS k (position_id, record_offset)
             JOIN attempt t ON t.position_id = k.position_id AND t.record_offset = k.record_offset
             UNION ALL
             SELECT d.position_id, d.record_offset, d.number, d.counted > 0, d.started_at, d.settled_at, d.verdict,
                 d.reason, d.fingerprint, NULL, d.node_id, d.version_id
             FROM unnest($1::bigint[], $2::bigint[]) AS k (position_id, record_offset)
             JOIN delivery d ON d.position_id = k.position_id AND d.record_offset = k.record_offset
             WHERE d.number > 0 AND d.started_at IS NOT NULL AND d.verdict IS NOT NULL
                 AND NOT EXISTS (SELECT FROM attempt t WHERE t.position_id = d.position_id
                     AND t.record_offset = d.record_offset AND t.number = d.number)
         ) AS a
         LEFT JOIN word n ON n.id = a.node_id
         LEFT JOIN word v ON v.id = a.version_id
         ORDER BY a.position_id, a.record_offset, a.number",
    )
    .bind(&positions)
    .bind(&offsets)
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let mut found: HashMap<DeliveryKey, Vec<AttemptRow>> = HashMap::new();
    let mut seen = HashSet::new();
    for row in &rows {
        let key =
            DeliveryKey { position: PositionId(row.take("position_id")?), offset: Offset(row.take("record_offset")?) };
        let attempt = attempt_row(row)?;
        // A key that the caller named twice is joined twice.
        if seen.insert((key, attempt.number)) {
            found.entry(key).or_default().push(attempt);
        }
    }
    Ok(keys.iter().map(|key| found.get(key).cloned().unwrap_or_default()).collect())
}

fn attempt_row(row: &PgRow) -> Result<AttemptRow, StoreError> {
    Ok(AttemptRow {
        number: row.count("number")?,
        counted: row.take("counted")?,
        version: row.take::<Option<&str>>("version")?.map(Arc::from),
        node: Arc::from(row.take::<Option<&str>>("node")?.unwrap_or_default()),
        started_at: row.time("started_at")?,
        finished_at: row.time("finished_at")?,
        verdict: columns::verdict(row.take("verdict")?)?,
        reason: row.take("reason")?,
        fingerprint: row.take("fingerprint")?,
        log: row.take("log")?,
    })
}
