//! Reading attempts: those that have rows, and those that only final rows contain.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use courier_core::message::Offset;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::columns::{self, PgRowExt};
use super::error::at_statement;
use crate::store::{AttemptRow, DeliveryKey, PositionId, StoreError};

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
