//! Shared statements on SQLite.

use std::future::Future;

use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Row as _, Sqlite, SqliteConnection, TypeInfo, ValueRef};

use super::columns::{json, now};
use super::error::{commit_fault, fault};
use super::groups::group_number;
use super::writing::Writing;
use super::{SqliteStore, audits};
use crate::store::StoreError;
use crate::store::audits::AuditEntry;
use crate::store::shared::dialect::{StatementConnection, StoreDialect};
use crate::store::shared::statement::{SharedRow, SqlCell, SqlValue, Statement};

/// Locks of rows, which SQLite does not have: one connection writes at a time.
const ROW_LOCKS: [&str; 5] = [" FOR SHARE", " FOR UPDATE OF r", " FOR UPDATE", " FOR NO KEY UPDATE", " SKIP LOCKED"];

/// The statement in SQLite's words, and its values. The time of now is one more
/// value, since the host's clock is the store's.
fn translated(statement: Statement<'_>) -> Result<(String, SqliteArguments), StoreError> {
    let Statement { sql, mut values } = statement;
    // The names in braces are those of this dialect.
    let mut sql = sql.replace("each(", "SELECT value FROM json_each(").replace(['{', '}'], "");
    for lock in ROW_LOCKS {
        sql = sql.replace(lock, "");
    }
    if sql.contains("courier_now()") {
        values.push(SqlValue::from(now().0));
        sql = sql.replace("courier_now()", &format!("${}", values.len()));
    }
    let mut arguments = SqliteArguments::default();
    for value in &values {
        let added = match value {
            SqlValue::Number(number) => arguments.add(*number),
            SqlValue::Text(text) => arguments.add(text.as_deref()),
            SqlValue::Bytes(bytes) => arguments.add(*bytes),
            SqlValue::Flag(flag) => arguments.add(*flag),
            SqlValue::List(list) => arguments.add(json(list)?),
        };
        added.map_err(|error| StoreError::Data(error.to_string()))?;
    }
    Ok((sql, arguments))
}

fn shared_row(row: &SqliteRow) -> Result<SharedRow, StoreError> {
    let cell = |at: usize| {
        let value = row.try_get_raw(at).map_err(fault)?;
        if value.is_null() {
            return Ok(SqlCell::Null);
        }
        match value.type_info().name() {
            "TEXT" => row.try_get_unchecked(at).map(SqlCell::Text),
            "BLOB" => row.try_get_unchecked(at).map(SqlCell::Bytes),
            _ => row.try_get_unchecked(at).map(SqlCell::Number),
        }
        .map_err(fault)
    };
    (0..row.len()).map(cell).collect::<Result<_, _>>().map(SharedRow::new)
}

#[async_trait]
impl StatementConnection for SqliteConnection {
    async fn rows(&mut self, statement: Statement<'_>) -> Result<Vec<SharedRow>, StoreError> {
        let (sql, arguments) = translated(statement)?;
        let found = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_all(self).await.map_err(fault)?;
        found.iter().map(shared_row).collect()
    }

    async fn execute(&mut self, statement: Statement<'_>) -> Result<u64, StoreError> {
        let (sql, arguments) = translated(statement)?;
        let done = sqlx::query_with(AssertSqlSafe(sql), arguments).execute(self).await.map_err(fault)?;
        Ok(done.rows_affected())
    }

    async fn append_entry(&mut self, deed: &AuditEntry) -> Result<(), StoreError> {
        audits::append(self, deed).await
    }
}

#[async_trait]
impl StoreDialect for SqliteStore {
    type Connection = SqliteConnection;
    type Reading = PoolConnection<Sqlite>;
    type Writing = Writing;

    async fn begin_writing(&self) -> Result<Writing, StoreError> {
        self.connections.write().await
    }

    async fn begin_for_group(&self, group: &str) -> Result<(Writing, i64), StoreError> {
        let mut writing = self.connections.write().await?;
        let group = group_number(&mut writing, group).await?;
        Ok((writing, group))
    }

    async fn commit_writing(writing: Writing) -> Result<(), StoreError> {
        writing.commit().await.map_err(commit_fault)
    }

    async fn begin_reading(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.connections.readers.acquire().await.map_err(fault)
    }

    fn limited<T: Send>(
        verb: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> impl Future<Output = Result<T, StoreError>> + Send {
        verb
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_loses_its_locks_of_rows_and_gets_the_time_as_its_last_value() {
        let statement =
            "SELECT {actor} FROM t INDEXED BY t_a WHERE at < courier_now() AND b = $1 FOR UPDATE SKIP LOCKED";
        let (sql, arguments) = translated(Statement::new(statement).bind(1_i64)).unwrap();
        assert_eq!(sql, "SELECT actor FROM t INDEXED BY t_a WHERE at < $2 AND b = $1");
        assert_eq!(arguments.len(), 2);
    }
}
