//! Reading columns of rows: a column that is not as expected is an error, where the
//! driver's `get` would panic.

use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use sqlx::postgres::{PgRow, Postgres};
use sqlx::{ColumnIndex, Decode, Row, Type};

use super::error::at_statement;
use crate::store::StoreError;
use courier_core::status::State;
use courier_core::verdict::Verdict;

/// Reads columns by name or index as the types of this program.
pub(super) trait PgRowExt {
    /// Reads a column as the driver does.
    fn take<'r, T>(&'r self, column: impl ColumnIndex<PgRow>) -> Result<T, StoreError>
    where
        T: Decode<'r, Postgres> + Type<Postgres>;

    /// Reads a count.
    fn count(&self, column: &str) -> Result<u32, StoreError> {
        Ok(count(self.take(column)?))
    }

    /// Reads bytes that may be absent.
    fn bytes(&self, column: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.take::<Option<Vec<u8>>>(column)?.map(Bytes::from))
    }

    /// Reads a time.
    fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        self.take(column).map(Timestamp)
    }

    /// Reads a time that may be absent.
    fn time_opt(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.take::<Option<i64>>(column)?.map(Timestamp))
    }

    /// Reads an offset.
    fn offset(&self, column: &str) -> Result<Offset, StoreError> {
        self.take(column).map(Offset)
    }
}

impl PgRowExt for PgRow {
    fn take<'r, T>(&'r self, column: impl ColumnIndex<PgRow>) -> Result<T, StoreError>
    where
        T: Decode<'r, Postgres> + Type<Postgres>,
    {
        self.try_get(column).map_err(at_statement)
    }
}

/// The state with the code that a row holds.
pub(super) fn state(code: i16) -> Result<State, StoreError> {
    State::from_code(code).ok_or_else(|| StoreError::Bug(format!("a row holds the unknown state {code}")))
}

/// The verdict with the code that a row holds.
pub(super) fn verdict(code: i16) -> Result<Verdict, StoreError> {
    Verdict::from_code(code).ok_or_else(|| StoreError::Bug(format!("a row holds the unknown verdict {code}")))
}

/// The number of a group as its column holds it.
pub(super) fn group_id(group: i64) -> Result<i32, StoreError> {
    i32::try_from(group).map_err(|_| StoreError::Bug(format!("no group has the number {group}")))
}

/// Reads a count from its column.
pub(super) fn count(stored: i32) -> u32 {
    u32::try_from(stored).unwrap_or(0)
}

/// Writes a count to its column.
pub(super) fn stored(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
