//! Statements that are the same in both dialects, and the rows that they return.
//!
//! A statement numbers its parameters as PostgreSQL does (`$1`), which SQLite
//! understands. Five things are written in one way here and run in another by a
//! dialect: `courier_now()` is the store's clock, `each($1)` the items of a list,
//! locks of rows (`FOR SHARE`, `FOR UPDATE`, `FOR NO KEY UPDATE`, `SKIP LOCKED`) are
//! left out where one connection writes, `INDEXED BY` is left out where the server
//! chooses the index, and a name in braces (`{actor}`) is that of a column with another
//! name in one of them. The columns of a row are read from left to right, so that they
//! need no names.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use courier_core::message::Timestamp;

use super::text::clean;
use crate::store::StoreError;

/// A value that a statement binds.
pub(in crate::store) enum SqlValue<'v> {
    Number(Option<i64>),
    Text(Option<Cow<'v, str>>),
    Bytes(Option<&'v [u8]>),
    Flag(bool),
    /// A list of texts, whose items `each($n)` gives.
    List(Vec<String>),
}

impl From<i64> for SqlValue<'_> {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<i32> for SqlValue<'_> {
    fn from(number: i32) -> Self {
        Self::Number(Some(number.into()))
    }
}

impl From<Option<i64>> for SqlValue<'_> {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

impl From<Option<Timestamp>> for SqlValue<'_> {
    fn from(time: Option<Timestamp>) -> Self {
        Self::Number(time.map(|time| time.0))
    }
}

/// Microseconds, far enough below the largest number that a time can be added.
impl From<Duration> for SqlValue<'_> {
    fn from(duration: Duration) -> Self {
        let longest = i64::MAX / 4;
        Self::Number(Some(i64::try_from(duration.as_micros()).map_or(longest, |micros| micros.min(longest))))
    }
}

impl From<bool> for SqlValue<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl<'v> From<&'v str> for SqlValue<'v> {
    fn from(text: &'v str) -> Self {
        Self::Text(Some(clean(text)))
    }
}

impl<'v> From<&'v String> for SqlValue<'v> {
    fn from(text: &'v String) -> Self {
        text.as_str().into()
    }
}

impl<'v> From<Option<&'v str>> for SqlValue<'v> {
    fn from(text: Option<&'v str>) -> Self {
        Self::Text(text.map(clean))
    }
}

impl From<String> for SqlValue<'_> {
    fn from(text: String) -> Self {
        Self::Text(Some(clean(&text).into_owned().into()))
    }
}

impl<'v> From<&'v [u8]> for SqlValue<'v> {
    fn from(bytes: &'v [u8]) -> Self {
        Self::Bytes(Some(bytes))
    }
}

impl<'v> From<Option<&'v [u8]>> for SqlValue<'v> {
    fn from(bytes: Option<&'v [u8]>) -> Self {
        Self::Bytes(bytes)
    }
}

/// A statement with its values. Every text among them is stored without NUL, see
/// [`clean`].
pub(in crate::store) struct Statement<'v> {
    pub(in crate::store) sql: Cow<'static, str>,
    pub(in crate::store) values: Vec<SqlValue<'v>>,
}

impl<'v> Statement<'v> {
    /// A statement without values.
    pub(in crate::store) fn new(sql: &'static str) -> Self {
        Self { sql: Cow::Borrowed(sql), values: Vec::new() }
    }

    /// Adds the value of the next `$n`.
    pub(in crate::store) fn bind(mut self, value: impl Into<SqlValue<'v>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Appends text.
    pub(in crate::store) fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.to_mut().push_str(sql);
        self
    }

    /// Appends a parameter and its value.
    pub(in crate::store) fn push_bind(&mut self, value: impl Into<SqlValue<'v>>) -> &mut Self {
        self.values.push(value.into());
        let parameter = format!("${}", self.values.len());
        self.push(&parameter)
    }

    /// Appends that the column before it is one of a list.
    pub(in crate::store) fn push_in(&mut self, list: &[String]) -> &mut Self {
        self.push(" IN (each(");
        self.push_bind(SqlValue::List(list.iter().map(|text| clean(text).into_owned()).collect()));
        self.push("))")
    }
}

/// A column of a row.
pub(in crate::store) enum SqlCell {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A row, whose columns are taken from left to right.
pub(in crate::store) struct SharedRow(std::vec::IntoIter<SqlCell>);

impl SharedRow {
    /// The row of these columns.
    pub(in crate::store) fn new(cells: Vec<SqlCell>) -> Self {
        Self(cells.into_iter())
    }

    fn next(&mut self, wanted: &str) -> Result<SqlCell, StoreError> {
        self.0.next().ok_or_else(|| StoreError::Bug(format!("a row has no more columns where {wanted} is expected")))
    }

    /// A number that may be absent.
    pub(in crate::store) fn number_option<T: TryFrom<i64>>(&mut self) -> Result<Option<T>, StoreError> {
        let number = match self.next("a number")? {
            SqlCell::Null => return Ok(None),
            SqlCell::Number(number) => number,
            SqlCell::Text(_) | SqlCell::Bytes(_) => {
                return Err(StoreError::Bug("a column is no number where one is expected".to_owned()));
            }
        };
        let narrow = T::try_from(number);
        narrow.map(Some).map_err(|_| StoreError::Bug(format!("the number {number} is out of its column's range")))
    }

    /// A number.
    pub(in crate::store) fn number<T: TryFrom<i64>>(&mut self) -> Result<T, StoreError> {
        self.number_option()?.ok_or_else(|| StoreError::Bug("a number is NULL".to_owned()))
    }

    /// A flag.
    pub(in crate::store) fn flag(&mut self) -> Result<bool, StoreError> {
        Ok(self.number::<i64>()? != 0)
    }

    /// A flag that may be absent.
    pub(in crate::store) fn flag_option(&mut self) -> Result<Option<bool>, StoreError> {
        Ok(self.number_option::<i64>()?.map(|flag| flag != 0))
    }

    /// A time.
    pub(in crate::store) fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.number().map(Timestamp)
    }

    /// A time that may be absent.
    pub(in crate::store) fn time_option(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.number_option()?.map(Timestamp))
    }

    /// Text that may be absent.
    pub(in crate::store) fn text_option(&mut self) -> Result<Option<String>, StoreError> {
        match self.next("text")? {
            SqlCell::Null => Ok(None),
            SqlCell::Text(text) => Ok(Some(text)),
            SqlCell::Number(_) | SqlCell::Bytes(_) => {
                Err(StoreError::Bug("a column is no text where one is expected".to_owned()))
            }
        }
    }

    /// Text.
    pub(in crate::store) fn text(&mut self) -> Result<String, StoreError> {
        self.text_option()?.ok_or_else(|| StoreError::Bug("a text is NULL".to_owned()))
    }

    /// Bytes that may be absent.
    pub(in crate::store) fn bytes_option(&mut self) -> Result<Option<Bytes>, StoreError> {
        match self.next("bytes")? {
            SqlCell::Null => Ok(None),
            SqlCell::Bytes(bytes) => Ok(Some(bytes.into())),
            SqlCell::Number(_) | SqlCell::Text(_) => {
                Err(StoreError::Bug("a column holds no bytes where some are expected".to_owned()))
            }
        }
    }

    /// Bytes.
    pub(in crate::store) fn bytes(&mut self) -> Result<Bytes, StoreError> {
        self.bytes_option()?.ok_or_else(|| StoreError::Bug("bytes are NULL".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_in_their_order_and_texts_are_cleaned() {
        let mut statement = Statement::new("SELECT a FROM t WHERE id < $1").bind(7_i64);
        statement.push(" AND b = ").push_bind("x\0y").push(" AND c").push_in(&["d\0".to_owned()]);
        assert_eq!(statement.sql, "SELECT a FROM t WHERE id < $1 AND b = $2 AND c IN (each($3))");
        assert!(matches!(&statement.values[1], SqlValue::Text(Some(text)) if text == "x\u{fffd}y"));
        assert!(matches!(&statement.values[2], SqlValue::List(list) if list[..] == ["d\u{fffd}"]));
    }

    #[test]
    fn a_row_is_read_from_left_to_right_and_a_column_of_another_kind_is_a_bug() {
        let cells = [SqlCell::Number(1), SqlCell::Null, SqlCell::Text("a".to_owned()), SqlCell::Number(-1)];
        let mut row = SharedRow::new(cells.into());
        assert!(row.flag().unwrap());
        assert_eq!(row.bytes_option().unwrap(), None);
        assert_eq!(row.text().unwrap(), "a");
        assert!(matches!(row.number::<u32>(), Err(StoreError::Bug(_))), "-1 is out of range");
        assert!(matches!(row.text(), Err(StoreError::Bug(_))), "there are no more columns");
    }
}
