//! Reading columns of rows without a panic when one is not what was expected.

use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use sqlx::postgres::{PgRow, Postgres};
use sqlx::{ColumnIndex, Decode, Row, Type};

use super::error::at_statement;
use super::text;
use crate::store::StoreError;

/// Columns by name or place, in the program's own types.
pub(super) trait Columns {
    /// A column as the driver reads it.
    fn take<'r, T>(&'r self, column: impl ColumnIndex<PgRow>) -> Result<T, StoreError>
    where
        T: Decode<'r, Postgres> + Type<Postgres>;

    /// A count, kept as an integer.
    fn count(&self, column: &str) -> Result<u32, StoreError> {
        Ok(text::count(self.take(column)?))
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

impl Columns for PgRow {
    fn take<'r, T>(&'r self, column: impl ColumnIndex<PgRow>) -> Result<T, StoreError>
    where
        T: Decode<'r, Postgres> + Type<Postgres>,
    {
        self.try_get(column).map_err(at_statement)
    }
}
