//! Slots of final rows: runs of time that keep the indexes by message and key
//! small where they are written.
//!
//! Message ids and keys come in no order. In one index over millions of rows,
//! a settle of a thousand rows would change a thousand pages and write four
//! megabytes for them. In an index that begins with the slot it changes the
//! few pages of the newest slot, whatever the size of the table, and retention
//! empties the oldest slot in the same way. The price is that a look-up probes
//! every slot, some microseconds each, which only people pay.

use courier_core::message::Timestamp;
use sqlx::SqliteConnection;

use super::fault::fault;
use super::values::Columns;
use crate::store::StoreError;

/// Rows after which the next slot begins. Twice as many would halve the probes
/// of a look-up, and double the pages that a settle changes.
const SLOT_ROWS: i64 = 4_096;

/// The slots that some final rows fall in.
pub(super) struct Slots {
    /// Starts, newest first.
    starts: Vec<i64>,
}

impl Slots {
    /// Finds the slots for rows that were settled at `times`, and begins the
    /// next slot behind them if the newest is full now.
    pub async fn fill(tx: &mut SqliteConnection, times: &[Timestamp]) -> Result<Self, StoreError> {
        let (Some(oldest), Some(latest)) = (times.iter().min(), times.iter().max()) else {
            return Ok(Self { starts: Vec::new() });
        };
        let starts = sqlx::query_scalar(
            "SELECT start_at FROM slot WHERE start_at >= (SELECT max(start_at) FROM slot WHERE start_at <= ?)
             ORDER BY start_at DESC",
        )
        .bind(oldest.0)
        .fetch_all(&mut *tx)
        .await
        .map_err(fault)?;
        // Rows of an older slot are counted here as well; they are few, and
        // the size of a slot is a rule of thumb.
        let filled = sqlx::query(
            "UPDATE slot SET rows = rows + ?, last_at = max(last_at, ?)
             WHERE start_at = (SELECT max(start_at) FROM slot) RETURNING rows, last_at",
        )
        .bind(super::slices::rows(times.len()))
        .bind(latest.0)
        .fetch_one(&mut *tx)
        .await
        .map_err(fault)?;
        let mut columns = Columns::of(&filled);
        let (rows, last_at): (i64, i64) = (columns.take()?, columns.take()?);
        if rows >= SLOT_ROWS {
            // After everything in the full slot, so that no row of it would
            // fall in the new one. At the end of time none can begin.
            sqlx::query("INSERT INTO slot (start_at, last_at, rows) VALUES (?1, ?1, 0) ON CONFLICT DO NOTHING")
                .bind(last_at.saturating_add(1))
                .execute(tx)
                .await
                .map_err(fault)?;
        }
        Ok(Self { starts })
    }

    /// The start of the slot that `time` falls in.
    pub fn start_of(&self, time: Timestamp) -> i64 {
        // The first slot begins at the beginning of time.
        self.starts.iter().copied().find(|start| *start <= time.0).unwrap_or(i64::MIN)
    }
}
