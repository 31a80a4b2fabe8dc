//! Reading attempts: those that have rows, and those that only final rows contain.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::columns::{Columns, json};
use super::error::fault;
use crate::store::{AttemptRow, DeliveryKey, StoreError};

impl SqliteStore {
    pub(super) async fn load_attempts(&self, keys: &[DeliveryKey]) -> Result<Vec<Vec<AttemptRow>>, StoreError> {
        let wanted: Vec<_> = keys.iter().map(|key| (key.position.0, key.offset.0)).collect();
        // The last attempt of a final row comes second in the union, and is
        // left out where the first part has one of that number.
        let rows = sqlx::query(
            "WITH wanted (at, position, offset) AS MATERIALIZED (
                 SELECT key, value ->> 0, value ->> 1 FROM json_each(?)
             )
             SELECT w.at, a.number, a.counted, v.text, n.text, a.started_at, a.finished_at, a.verdict, a.reason,
                 a.fingerprint, a.log
             FROM wanted w CROSS JOIN attempt a ON a.position = w.position AND a.offset = w.offset
             JOIN word n ON n.id = a.node LEFT JOIN word v ON v.id = a.version
             UNION ALL
             SELECT w.at, d.number, d.counted > 0, v.text, n.text, d.started_at, d.settled_at, d.verdict, d.reason,
                 d.fingerprint, NULL
             FROM wanted w CROSS JOIN delivery d ON d.position = w.position AND d.offset = w.offset
             JOIN word n ON n.id = d.node LEFT JOIN word v ON v.id = d.version
             WHERE d.number > 0 AND d.started_at IS NOT NULL AND d.verdict IS NOT NULL
                 AND NOT EXISTS (SELECT 1 FROM attempt a
                                 WHERE a.position = d.position AND a.offset = d.offset AND a.number = d.number)
             ORDER BY 1, 2",
        )
        .bind(json(&wanted)?)
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        // Many rows have the same few names, which are then allocated once.
        let mut names = HashMap::new();
        let mut attempts = vec![Vec::new(); keys.len()];
        for row in &rows {
            let (at, attempt) = attempt_row(row, &mut names)?;
            if let Some(list) = attempts.get_mut(at) {
                list.push(attempt);
            }
        }
        Ok(attempts)
    }
}

fn attempt_row(row: &SqliteRow, names: &mut HashMap<String, Arc<str>>) -> Result<(usize, AttemptRow), StoreError> {
    let mut shared = |name: String| Arc::clone(names.entry(name).or_insert_with_key(|name| name.as_str().into()));
    let mut columns = Columns::of(row);
    let at = columns.number()?;
    let attempt = AttemptRow {
        number: columns.number()?,
        counted: columns.flag()?,
        version: columns.take::<Option<String>>()?.map(&mut shared),
        node: shared(columns.take()?),
        started_at: columns.time()?,
        finished_at: columns.time()?,
        verdict: columns.verdict_option()?.ok_or_else(|| StoreError::Bug("an attempt without a verdict".to_owned()))?,
        reason: columns.take()?,
        fingerprint: columns.take()?,
        log: columns.take()?,
    };
    Ok((at, attempt))
}
