//! Statements that insert many rows at once.

use sqlx::Arguments;
use sqlx::SqliteConnection;
use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteArguments;

use super::script::{Answer, Script};
use crate::store::StoreError;

/// A statement that inserts many rows at once.
///
/// A round trip to the connection's thread takes far longer than inserting a row, see
/// [`script`](super::script). So all rows go in one statement of the next larger size, whose
/// last rows stay unbound and are not inserted. The sizes are few, and each is prepared
/// once.
pub struct Bulk {
    /// The statement up to the rows. The first column is never null, by which unbound rows
    /// are found.
    pub insert: &'static str,
    /// Columns of a row.
    pub columns: usize,
    /// What follows the rows: an `ON CONFLICT` clause, or nothing.
    pub then: &'static str,
}

/// Most rows of one statement, a power of two. A table of 31 columns stays below SQLite's
/// limit of 32,766 parameters.
const MAX_ROWS: usize = 1_024;

impl Bulk {
    /// Inserts `rows` and returns how many rows SQLite changed.
    pub async fn run<T: Sync>(
        &self,
        connection: &mut SqliteConnection,
        rows: &[T],
        bind: impl Fn(&mut SqliteArguments, &T) -> Result<(), BoxDynError> + Send,
    ) -> Result<u64, StoreError> {
        Ok(self.run_after(Script::default(), connection, rows, bind).await?.1)
    }

    /// Runs `before` and inserts `rows` in the same round trip. Returns the answers of
    /// `before`, and how many rows SQLite changed.
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
            // It is the last statement of its script, so that its unbound parameters do
            // not take the values of another statement.
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
}
