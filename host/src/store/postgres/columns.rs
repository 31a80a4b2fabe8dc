//! Reading columns of rows without a panic when one is not what was expected.

use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use sqlx::postgres::{PgRow, Postgres};
use sqlx::{ColumnIndex, Decode, Row, Type};

use super::error::at_statement;
use crate::store::StoreError;
use courier_core::status::State;
use courier_core::verdict::Verdict;

/// Columns by name or place, in the program's own types.
pub(super) trait PgRowExt {
    /// A column as the driver reads it.
    fn take<'r, T>(&'r self, column: impl ColumnIndex<PgRow>) -> Result<T, StoreError>
    where
        T: Decode<'r, Postgres> + Type<Postgres>;

    /// A count, kept as an integer.
    fn count(&self, column: &str) -> Result<u32, StoreError> {
        Ok(count(self.take(column)?))
    }

    /// Raw bytes.
    fn bytes(&self, column: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.take::<Option<Vec<u8>>>(column)?.map(Bytes::from))
    }

    /// A time.
    fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        self.take(column).map(Timestamp)
    }

    /// A time that may be absent.
    fn time_opt(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.take::<Option<i64>>(column)?.map(Timestamp))
    }

    /// An offset.
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

/// The state that a row holds.
pub(super) fn state(code: i16) -> Result<State, StoreError> {
    State::from_code(code).ok_or_else(|| StoreError::Bug(format!("a row holds the unknown state {code}")))
}

/// The verdict that a row holds.
pub(super) fn verdict(code: i16) -> Result<Verdict, StoreError> {
    Verdict::from_code(code).ok_or_else(|| StoreError::Bug(format!("a row holds the unknown verdict {code}")))
}

/// A count that a row holds.
pub(super) fn count(stored: i32) -> u32 {
    u32::try_from(stored).unwrap_or(0)
}

/// A count as a row holds it.
pub(super) fn stored(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
