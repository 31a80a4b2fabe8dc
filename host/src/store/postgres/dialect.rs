//! Shared statements on PostgreSQL.

use std::borrow::Cow;
use std::future::Future;

use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::{Arguments, AssertSqlSafe, PgConnection, Row as _, Transaction, TypeInfo, ValueRef};

use super::error::at_statement;
use super::{PostgresStore, audits, bounded, commit};
use crate::store::StoreError;
use crate::store::audits::AuditEntry;
use crate::store::shared::dialect::{StatementConnection, StoreDialect};
use crate::store::shared::statement::{SharedRow, SqlCell, SqlValue, Statement};

/// Columns that have other names here than in SQLite, whose names the statements have in
/// braces.
const OTHER_NAMES: [(&str, &str); 4] =
    [("{actor}", "by"), ("{redrive}", "redrive_id"), ("{position}", "position_id"), ("{offset}", "record_offset")];

/// A statement in PostgreSQL's words.
struct PgStatement {
    sql: String,
    arguments: PgArguments,
    /// Whether the server keeps it prepared. A statement that is put together for one call
    /// would push others out of the cache of its connection.
    persistent: bool,
}

/// The statement in PostgreSQL's words, and its values.
fn translated(statement: Statement<'_>) -> Result<PgStatement, StoreError> {
    let persistent = matches!(statement.sql, Cow::Borrowed(_));
    let mut sql = without_index_hints(statement.sql.replace("each(", "SELECT unnest("));
    for (written, name) in OTHER_NAMES {
        sql = sql.replace(written, name);
    }
    let mut arguments = PgArguments::default();
    for value in statement.values {
        let added = match value {
            SqlValue::Number(number) => arguments.add(number),
            SqlValue::Text(text) => arguments.add(text.as_deref()),
            SqlValue::Bytes(bytes) => arguments.add(bytes),
            SqlValue::Flag(flag) => arguments.add(flag),
            SqlValue::List(list) => arguments.add(list),
        };
        added.map_err(|error| StoreError::Data(error.to_string()))?;
    }
    Ok(PgStatement { sql, arguments, persistent })
}

/// Leaves out ` INDEXED BY name`, which only SQLite knows.
fn without_index_hints(mut sql: String) -> String {
    const HINT: &str = " INDEXED BY ";
    while let Some(from) = sql.find(HINT) {
        let name = &sql[from + HINT.len()..];
        let length = name.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(name.len());
        sql.replace_range(from..from + HINT.len() + length, "");
    }
    sql
}

fn shared_row(row: &PgRow) -> Result<SharedRow, StoreError> {
    let cell = |at: usize| {
        let value = row.try_get_raw(at).map_err(at_statement)?;
        if value.is_null() {
            return Ok(SqlCell::Null);
        }
        match value.type_info().name() {
            "BOOL" => row.try_get::<bool, _>(at).map(|flag| SqlCell::Number(flag.into())),
            "INT2" => row.try_get::<i16, _>(at).map(|number| SqlCell::Number(number.into())),
            "INT4" => row.try_get::<i32, _>(at).map(|number| SqlCell::Number(number.into())),
            "INT8" => row.try_get(at).map(SqlCell::Number),
            "BYTEA" => row.try_get(at).map(SqlCell::Bytes),
            _ => row.try_get(at).map(SqlCell::Text),
        }
        .map_err(at_statement)
    };
    (0..row.len()).map(cell).collect::<Result<_, _>>().map(SharedRow::new)
}

#[async_trait]
impl StatementConnection for PgConnection {
    async fn rows(&mut self, statement: Statement<'_>) -> Result<Vec<SharedRow>, StoreError> {
        let PgStatement { sql, arguments, persistent } = translated(statement)?;
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(persistent);
        let found = query.fetch_all(self).await.map_err(at_statement)?;
        found.iter().map(shared_row).collect()
    }

    async fn execute(&mut self, statement: Statement<'_>) -> Result<u64, StoreError> {
        let PgStatement { sql, arguments, persistent } = translated(statement)?;
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(persistent);
        let done = query.execute(self).await.map_err(at_statement)?;
        Ok(done.rows_affected())
    }

    async fn append_entry(&mut self, deed: &AuditEntry) -> Result<(), StoreError> {
        audits::append(self, deed).await
    }
}

#[async_trait]
impl StoreDialect for PostgresStore {
    type Connection = PgConnection;
    type Reading = PoolConnection<Postgres>;
    type Writing = Transaction<'static, Postgres>;

    async fn begin_writing(&self) -> Result<Self::Writing, StoreError> {
        self.begin_tx().await
    }

    async fn begin_for_group(&self, group: &str) -> Result<(Self::Writing, i64), StoreError> {
        let group = self.groups.id(&self.pool, group).await?;
        Ok((self.begin_tx().await?, group.into()))
    }

    async fn commit_writing(writing: Self::Writing) -> Result<(), StoreError> {
        commit(writing).await
    }

    async fn begin_reading(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        self.pool.acquire().await.map_err(at_statement)
    }

    fn limited<T: Send>(
        verb: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> impl Future<Output = Result<T, StoreError>> + Send {
        bounded(verb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_loses_its_index_hints_and_is_kept_prepared_unless_it_was_put_together() {
        let written = Statement::new("SELECT {actor} FROM t INDEXED BY t_b, u INDEXED BY u_c WHERE b IN (each($1))");
        let PgStatement { sql, persistent, .. } = translated(written).unwrap();
        assert_eq!((&*sql, persistent), ("SELECT by FROM t, u WHERE b IN (SELECT unnest($1))", true));
        let mut put_together = Statement::new("SELECT a FROM t INDEXED BY t_b");
        put_together.push(" LIMIT ").push_bind(1_i64);
        let PgStatement { sql, persistent, .. } = translated(put_together).unwrap();
        assert_eq!((&*sql, persistent), ("SELECT a FROM t LIMIT $1", false));
    }
}
