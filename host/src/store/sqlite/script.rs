//! Several statements in one round trip to the connection's thread.
//!
//! A connection has a thread of its own, and each statement is a round trip to it. On a busy
//! machine the two changes of threads take far longer than most statements. So statements that
//! do not need each other's answers are sent together.

use futures::TryStreamExt;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Either, Encode, Executor, Sqlite, SqliteConnection, Type};

use super::error::fault;
use crate::store::StoreError;

/// Statements and the values of their `?`, in order.
#[derive(Default)]
pub struct Script {
    sql: String,
    /// The number of statements.
    statements: usize,
    /// The values.
    pub arguments: SqliteArguments,
}

/// The answer of a statement.
#[derive(Default)]
pub struct Answer {
    /// Its rows.
    pub rows: Vec<SqliteRow>,
    /// How many rows it changed.
    pub changed: u64,
}

impl Script {
    /// Adds a statement. Its text should be the same each time, since a script is prepared once
    /// for each text that it has as a whole.
    pub fn push(&mut self, statement: &str) {
        if !self.sql.is_empty() {
            self.sql.push(';');
        }
        self.sql.push_str(statement);
        self.statements += 1;
    }

    /// Adds the value of the next `?`.
    pub fn bind<'v>(&mut self, value: impl Encode<'v, Sqlite> + Type<Sqlite>) -> Result<(), StoreError> {
        self.arguments.add(value).map_err(|error| StoreError::Data(error.to_string()))
    }

    /// Puts the statements into a transaction that they begin. It begins immediately and not
    /// deferred: a deferred transaction that reads and then writes may fail at once, whatever
    /// the busy timeout is.
    #[must_use]
    pub fn in_transaction(self) -> Self {
        Self { sql: format!("BEGIN IMMEDIATE;{}", self.sql), statements: self.statements + 1, ..self }
    }

    /// Runs the statements and returns the answer of each. The first one that fails ends it.
    pub async fn run(self, connection: &mut SqliteConnection) -> Result<Vec<Answer>, StoreError> {
        let mut answers = Vec::new();
        if self.sql.is_empty() {
            return Ok(answers);
        }
        let mut answer = Answer::default();
        let mut steps = connection.fetch_many(sqlx::query_with(AssertSqlSafe(self.sql), self.arguments));
        while let Some(step) = steps.try_next().await.map_err(fault)? {
            match step {
                Either::Right(row) => answer.rows.push(row),
                Either::Left(done) => {
                    answer.changed = done.rows_affected();
                    answers.push(std::mem::take(&mut answer));
                }
            }
        }
        // A connection whose thread ends in the middle returns fewer answers and no error.
        if answers.len() < self.statements {
            return Err(fault(sqlx::Error::WorkerCrashed));
        }
        Ok(answers)
    }
}
