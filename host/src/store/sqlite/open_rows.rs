//! Reading open deliveries.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::{Attempts, Offset, Timestamp};
use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::columns::{Columns, json, now};
use super::error::fault;
use crate::store::{AskedLately, GiveUp, OpenRecord, OpenRow, OpenRowStore, PositionId, StoreError};

/// A statement that reads open rows; `and` adds columns. Of the record only the length is
/// read, for which SQLite does not read its bytes.
macro_rules! select_open {
    ($and:literal, $which:literal) => {
        concat!(
            "SELECT o.position, o.offset, o.key, o.message_id, o.state, o.next_attempt_at, o.held, o.number, o.counted,
                 o.received_at, iif(o.copied_bytes > 0, 0, coalesce(length(r.record), 0)), o.asked_at, o.give_up_reason, o.give_up_letter",
            $and,
            " FROM open_delivery o LEFT JOIN kept_record r ON r.position = o.position AND r.offset = o.offset ",
            $which
        )
    };
}
pub(super) use select_open;

/// Reads the columns of [`select_open`].
pub(super) fn open_row(row: &SqliteRow) -> Result<OpenRow, StoreError> {
    let mut columns = Columns::of(row);
    Ok(OpenRow {
        position: PositionId(columns.take()?),
        offset: columns.offset()?,
        key: columns.bytes_option()?,
        message_id: columns.take()?,
        state: columns.state()?,
        next_attempt_at: columns.time_option()?,
        held: columns.flag()?,
        attempts: Attempts { invoked: columns.number()?, used: columns.number()? },
        received_at: columns.time()?,
        record_bytes: columns.number()?,
        asked_at: columns.time_option()?,
        give_up: give_up(&mut columns)?,
    })
}

fn give_up(columns: &mut Columns<'_>) -> Result<Option<GiveUp>, StoreError> {
    let (reason, dead_letter): (Option<String>, bool) = (columns.take()?, columns.flag()?);
    Ok(reason.map(|reason| GiveUp { reason, dead_letter }))
}

#[async_trait]
impl OpenRowStore for SqliteStore {
    async fn open_records(
        &self,
        position: PositionId,
        offsets: &[Offset],
    ) -> Result<Vec<Option<OpenRecord>>, StoreError> {
        let wanted: Vec<i64> = offsets.iter().map(|offset| offset.0).collect();
        let rows = sqlx::query(select_open!(
            ", r.record AS record",
            "WHERE o.position = ? AND o.offset IN (SELECT value FROM json_each(?))"
        ))
        .bind(position.0)
        .bind(json(&wanted)?)
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        let mut found = HashMap::with_capacity(rows.len());
        for sqlite_row in &rows {
            let row = open_row(sqlite_row)?;
            let record: Option<Vec<u8>> = sqlx::Row::try_get(sqlite_row, "record").map_err(fault)?;
            found.insert(row.offset, OpenRecord { row, record: record.map(Into::into) });
        }
        Ok(offsets.iter().map(|offset| found.get(offset).cloned()).collect())
    }

    async fn asked(&self, positions: &[PositionId], since: Timestamp, limit: u32) -> Result<Vec<OpenRow>, StoreError> {
        let positions: Vec<i64> = positions.iter().map(|position| position.0).collect();
        let rows = sqlx::query(select_open!(
            "",
            "WHERE o.asked_at > ? AND o.position IN (SELECT value FROM json_each(?)) ORDER BY o.asked_at LIMIT ?"
        ))
        .bind(since.0)
        .bind(json(&positions)?)
        .bind(limit)
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        rows.iter().map(open_row).collect()
    }

    async fn asked_lately(&self, window: Duration) -> Result<AskedLately, StoreError> {
        let since = now().0.saturating_sub(i64::try_from(window.as_micros()).unwrap_or(i64::MAX));
        let (rows, newest): (i64, Option<i64>) =
            sqlx::query_as("SELECT count(*), max(asked_at) FROM open_delivery WHERE asked_at > ?")
                .bind(since)
                .fetch_one(&self.connections.readers)
                .await
                .map_err(fault)?;
        Ok(AskedLately { rows, newest: newest.map(Timestamp) })
    }
}
