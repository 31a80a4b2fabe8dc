//! From Rust to SQLite's values and back.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;
use courier_core::verdict::Verdict;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Decode, Row, Sqlite, SqliteConnection, Type};

use super::error::fault;
use super::script::{Answer, Script};
use crate::store::StoreError;

/// The store's clock. SQLite runs in this process, so it is the host's.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::default().after(since)
}

/// Text as it is stored: without NUL, which the other dialect refuses and C
/// programs cut at. Every text goes through here, also what is looked for.
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// [`clean`] for text that may be absent.
pub fn clean_option(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.map(clean)
}

/// A list as one JSON parameter, for `json_each`.
pub fn json(list: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(list).map_err(|error| StoreError::Bug(format!("a parameter is not JSON: {error}")))
}

/// What the row count of a statement has to be, else the bookkeeping is wrong.
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

    /// The next column, as it is.
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

    /// 0 or 1.
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

/// A statement that inserts many rows at once.
///
/// A trip to the connection's thread is far longer than inserting a row, see
/// [`script`](super::script). So all rows travel together, in a statement of the
/// next larger size, whose last places stay unbound: such a row is none. The
/// sizes are few, and each is prepared once.
pub struct Bulk {
    /// Everything up to the rows. The first column is never null.
    pub insert: &'static str,
    /// Columns of a row.
    pub columns: usize,
    /// What follows the rows: an `ON CONFLICT` clause, or nothing.
    pub then: &'static str,
}

/// Most rows of one statement, which stays below SQLite's 32,766 parameters for
/// tables of up to 31 columns. A statement has room for a power of two of them.
const MAX_ROWS: usize = 1_024;

impl Bulk {
    /// Inserts `rows` and answers how many rows SQLite changed.
    pub async fn run<T: Sync>(
        &self,
        connection: &mut SqliteConnection,
        rows: &[T],
        bind: impl Fn(&mut SqliteArguments, &T) -> Result<(), BoxDynError> + Send,
    ) -> Result<u64, StoreError> {
        Ok(self.run_after(Script::default(), connection, rows, bind).await?.1)
    }

    /// Runs `before`, and inserts `rows` in the same trip. Answers for the
    /// statements before, and how many rows SQLite changed.
    pub async fn run_after<T: Sync>(
        &self,
        mut before: Script,
        connection: &mut SqliteConnection,
        rows: &[T],
        bind: impl Fn(&mut SqliteArguments, &T) -> Result<(), BoxDynError> + Send,
    ) -> Result<(Vec<Answer>, u64), StoreError> {
        if rows.is_empty() {
            return Ok((before.run(connection).await?, 0));
        }
        let (mut answers, mut changed) = (Vec::new(), 0);
        for rows in rows.chunks(MAX_ROWS) {
            let mut script = std::mem::take(&mut before);
            // The last statement of its script: its unbound places must not
            // take the values of another.
            script.push(&self.statement(rows.len().next_power_of_two()));
            script.arguments.reserve(rows.len() * self.columns, 0);
            for row in rows {
                bind(&mut script.arguments, row).map_err(|error| StoreError::Data(error.to_string()))?;
            }
            let mut answered = script.run(&mut *connection).await?;
            changed += answered.pop().map_or(0, |inserted| inserted.changed);
            answers.extend(answered);
        }
        Ok((answers, changed))
    }

    fn statement(&self, rows: usize) -> String {
        let row = format!("({}?)", "?,".repeat(self.columns - 1));
        let all = format!("{row},").repeat(rows - 1);
        format!("{} SELECT * FROM (VALUES {all}{row}) WHERE column1 IS NOT NULL {}", self.insert, self.then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bulk_statement_has_a_place_for_every_value() {
        let bulk = Bulk { insert: "INSERT INTO t (a, b)", columns: 2, then: "ON CONFLICT DO NOTHING" };
        assert_eq!(
            bulk.statement(2),
            "INSERT INTO t (a, b) SELECT * FROM (VALUES (?,?),(?,?)) WHERE column1 IS NOT NULL ON CONFLICT DO NOTHING"
        );
    }

    #[test]
    fn no_nul_is_stored() {
        assert_eq!(clean("a\0b"), "a\u{fffd}b");
        assert!(matches!(clean("ab"), Cow::Borrowed("ab")));
    }
}
