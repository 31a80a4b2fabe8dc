//! Binding values and reading columns.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;
use courier_core::verdict::Verdict;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use super::error::fault;
use crate::store::StoreError;

/// The store's clock, which is the host's, since SQLite runs in this process.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::default().after(since)
}

/// Encodes a list as one parameter for `json_each`.
pub fn json(list: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(list).map_err(|error| StoreError::Bug(format!("a parameter is not JSON: {error}")))
}

/// Encodes a list that may be absent as one parameter for `json_each`, or null.
pub fn optional_json(list: Option<&[String]>) -> Result<Option<String>, StoreError> {
    list.map(|list| json(&list)).transpose()
}

/// Checks the row count of a statement that names the state which it expects.
pub fn expect_rows(what: &str, expected: usize, found: u64) -> Result<(), StoreError> {
    if u64::try_from(expected) == Ok(found) {
        return Ok(());
    }
    Err(StoreError::Bug(format!("{what}: {found} rows where there have to be {expected}")))
}

/// The columns of a row, taken from left to right.
pub struct Columns<'r> {
    row: &'r SqliteRow,
    at: usize,
}

impl<'r> Columns<'r> {
    /// Starts at the first column.
    pub fn of(row: &'r SqliteRow) -> Self {
        Self { row, at: 0 }
    }

    /// The next column, as the driver reads it.
    pub fn take<T>(&mut self) -> Result<T, StoreError>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite>,
    {
        self.at += 1;
        self.row.try_get(self.at - 1).map_err(fault)
    }

    /// A number that is narrower than SQLite's.
    pub fn number<T: TryFrom<i64>>(&mut self) -> Result<T, StoreError> {
        let number: i64 = self.take()?;
        T::try_from(number).map_err(|_| StoreError::Bug(format!("the number {number} is out of its column's range")))
    }

    /// A number that may be absent.
    pub fn number_option<T: TryFrom<i64>>(&mut self) -> Result<Option<T>, StoreError> {
        let number: Option<i64> = self.take()?;
        number
            .map(|number| {
                T::try_from(number)
                    .map_err(|_| StoreError::Bug(format!("the number {number} is out of its column's range")))
            })
            .transpose()
    }

    /// A flag, which is stored as 0 or 1.
    pub fn flag(&mut self) -> Result<bool, StoreError> {
        Ok(self.take::<i64>()? != 0)
    }

    /// A time.
    pub fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.take().map(Timestamp)
    }

    /// A time that may be absent.
    pub fn time_option(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.take::<Option<i64>>()?.map(Timestamp))
    }

    /// An offset.
    pub fn offset(&mut self) -> Result<Offset, StoreError> {
        self.take().map(Offset)
    }

    /// Bytes that may be absent.
    pub fn bytes_option(&mut self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.take::<Option<Vec<u8>>>()?.map(Bytes::from))
    }

    /// A state.
    pub fn state(&mut self) -> Result<State, StoreError> {
        let code = self.number()?;
        State::from_code(code).ok_or_else(|| StoreError::Bug(format!("no state has the code {code}")))
    }

    /// A verdict that may be absent.
    pub fn verdict_option(&mut self) -> Result<Option<Verdict>, StoreError> {
        let code: Option<i16> = self.number_option()?;
        code.map(|code| {
            Verdict::from_code(code).ok_or_else(|| StoreError::Bug(format!("no verdict has the code {code}")))
        })
        .transpose()
    }
}
