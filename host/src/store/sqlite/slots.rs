//! Slots of final rows: spans of time by which the indexes by message and key are divided, so that
//! their writes stay local.
//!
//! Message ids and keys come in no order. In one index over millions of rows, a settle of a
//! thousand rows would change a thousand pages and write four megabytes. In an index that begins
//! with the slot it changes the few pages of the newest slot, whatever the size of the table, and
//! retention empties the oldest slot in the same way. The price is that a look-up searches every
//! slot, at some microseconds each, which only lists and searches do.

use courier_core::message::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::error::fault;
use super::script::Script;
use crate::store::StoreError;

/// Rows after which the next slot begins. Twice as many would halve the slots that a look-up
/// searches, and double the pages that a settle changes.
const SLOT_ROWS: i64 = 4_096;

/// The slots that some final rows fall in.
pub(super) struct Slots {
    /// Starts, newest first.
    starts: Vec<i64>,
}

impl Slots {
    /// Asks for the slots of rows that were settled at `oldest` and later.
    pub fn ask(script: &mut Script, oldest: Timestamp) -> Result<(), StoreError> {
        script.push(
            "SELECT start_at FROM slot WHERE start_at >= (SELECT max(start_at) FROM slot WHERE start_at <= ?)
             ORDER BY start_at DESC",
        );
        script.bind(oldest.0)
    }

    /// Reads the answer of [`ask`](Self::ask).
    pub fn of(rows: &[SqliteRow]) -> Result<Self, StoreError> {
        let starts = rows.iter().map(|row| row.try_get(0).map_err(fault)).collect::<Result<_, _>>()?;
        Ok(Self { starts })
    }

    /// Counts `rows` into the newest slot, and begins the next slot if that is full. The next one
    /// begins after every row of the full slot, so that none of them falls into it. At the end of
    /// time no slot can begin.
    ///
    /// Rows of an older slot are counted in the newest as well; they are few, and the size of a
    /// slot need not be exact.
    pub fn fill(script: &mut Script, rows: usize, latest: Timestamp) -> Result<(), StoreError> {
        script.push(
            "UPDATE slot SET rows = rows + ?, last_at = max(last_at, ?)
             WHERE start_at = (SELECT max(start_at) FROM slot)",
        );
        script.bind(super::slices::rows(rows))?;
        script.bind(latest.0)?;
        script.push(
            "INSERT INTO slot (start_at, last_at, rows) SELECT last_at + 1, last_at + 1, 0 FROM slot
             WHERE start_at = (SELECT max(start_at) FROM slot) AND rows >= ? AND last_at < ? ON CONFLICT DO NOTHING",
        );
        script.bind(SLOT_ROWS)?;
        script.bind(i64::MAX)
    }

    /// The start of the slot that `time` falls in.
    pub fn start_of(&self, time: Timestamp) -> i64 {
        // The first slot begins at the least time.
        self.starts.iter().copied().find(|start| *start <= time.0).unwrap_or(i64::MIN)
    }
}
