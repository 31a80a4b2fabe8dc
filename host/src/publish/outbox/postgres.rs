//! An outbox in PostgreSQL.
//!
//! Every statement is a transaction of its own, so that a host which is frozen
//! or killed holds nothing of the sender's. A session says itself what the
//! statements rest on, whatever the database or the role have for a default.
//! A session that turns out to be read-only, as those of an old primary are
//! after a fail-over, is given up with its pool, as after any other error.
//!
//! A listening session is woken by the trigger that `courier outbox schema
//! --notify` prints, where there is one; it costs the sender nothing where
//! there is none.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::columns::{Column, Dialect, Format, Layout, judge};
use super::error::{READ_ONLY, SourceError};
use super::source::{
    COUNTED_ROWS, FRONT_BYTES, OutboxSource, READ_BYTES, ROW_BYTES, RowRef, SourceRow, no_table, quoted, without_number,
};
use crate::config::OutboxConfig;
use crate::supervise::{self, Task};

/// One session that reads and deletes, one that listens.
const MAX_CONNECTIONS: u32 = 2;
const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);
/// Sessions are renewed, so that one to a server that is no longer the primary
/// does not live on unnoticed.
const MAX_LIFETIME: Duration = Duration::from_secs(600);
/// What the trigger notifies.
const CHANNEL: &str = "courier_outbox";
/// Pause before a listening session that broke is made again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// What the sessions set, whatever the defaults of database and role are: each
/// look reads what is committed, and a delete is not refused for being
/// serialisable. The limits are the server's, for when the host is frozen.
///
/// They are statements and not parameters of the start, which poolers refuse.
const SESSION: &str = "SET statement_timeout = '15s';
    SET lock_timeout = '5s';
    SET idle_in_transaction_session_timeout = '5s';
    SET default_transaction_isolation = 'read committed';
    SET default_transaction_read_only = off";

/// A connection to a PostgreSQL that has an outbox.
pub(super) struct PostgresSource {
    pool: PgPool,
    table: String,
    statements: PostgresStatements,
    layout: Layout,
    warnings: Vec<String>,
    notified: Arc<Notify>,
    listening: JoinHandle<()>,
}

impl Drop for PostgresSource {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl PostgresSource {
    /// Connects and checks the table.
    pub async fn open(outbox: &OutboxConfig) -> Result<Self, SourceError> {
        let options = PgConnectOptions::from_str(outbox.url.expose())?
            .application_name(&format!("courier outbox {}", outbox.name))
            // Poolers refuse this start-up parameter, and no column is a float.
            .extra_float_digits(None);
        // A pool tries until its time is up, and does not tell what it met.
        PgConnection::connect_with(&options).await?.close().await?;
        let pool = PgPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(ACQUIRE_LIMIT)
            .max_lifetime(MAX_LIFETIME)
            .after_connect(|session, _| {
                Box::pin(async move { sqlx::raw_sql(SESSION).execute(session).await.map(|_| ()) })
            })
            .connect_with(options)
            .await?;
        let (layout, warnings) = check(&pool, &outbox.table).await?;
        let encoding: String = sqlx::query_scalar("SELECT getdatabaseencoding()::text").fetch_one(&pool).await?;
        let notified = Arc::new(Notify::new());
        let listening = supervise::spawn(Task::OutboxListener, listen(pool.clone(), Arc::clone(&notified)));
        let statements = PostgresStatements::new(&quoted(&outbox.table), layout, &encoding);
        Ok(Self { pool, table: outbox.table.clone(), statements, layout, warnings, notified, listening })
    }
}

/// Says what is wrong with the table and what would be right; what is to be
/// warned of otherwise.
async fn check(pool: &PgPool, table: &str) -> Result<(Layout, Vec<String>), SourceError> {
    let name = quoted(table);
    let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(&name).fetch_one(pool).await?;
    if !there {
        return Err(no_table(table, "postgres"));
    }
    // Of a domain, the type below it.
    let rows: Vec<(String, String, String, bool)> = sqlx::query_as(
        "SELECT a.attname::text, format_type(b.oid, NULL)::text, b.typcategory::text, NOT (a.attnotnull OR t.typnotnull)
         FROM pg_attribute a
         JOIN pg_type t ON t.oid = a.atttypid
         JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
         WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped",
    )
    .bind(&name)
    .fetch_all(pool)
    .await?;
    let columns: Vec<Column> = rows
        .into_iter()
        .map(|(name, type_name, category, nullable)| {
            let category = category.chars().next().unwrap_or_default();
            Column { name, type_name, category, nullable }
        })
        .collect();
    let judged = judge(table, &columns, Dialect::Postgres)?;
    let (user, may): (String, bool) = sqlx::query_as(
        "SELECT current_user::text, has_table_privilege(to_regclass($1), 'SELECT')
             AND has_table_privilege(to_regclass($1), 'DELETE')",
    )
    .bind(&name)
    .fetch_one(pool)
    .await?;
    if !may {
        let sentence =
            format!("{user} may not read and delete rows of {table}: GRANT SELECT, DELETE ON {name} TO \"{user}\"");
        return Err(SourceError::new("outbox_permission", sentence).with("table", table).with("user", user));
    }
    Ok(judged)
}

/// Passes notifications on, until it is aborted.
async fn listen(pool: PgPool, notified: Arc<Notify>) {
    loop {
        let listening = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(CHANNEL).await?;
            loop {
                listener.recv().await?;
                notified.notify_one();
            }
        };
        let broken: Result<(), sqlx::Error> = listening.await;
        if let Err(error) = broken {
            // Polling goes on meanwhile.
            tracing::debug!(%error, "the session that listens to an outbox broke");
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

/// The statements for one table.
struct PostgresStatements {
    read: String,
    remove: String,
    count: String,
}

impl PostgresStatements {
    fn new(table: &str, layout: Layout, encoding: &str) -> Self {
        // Texts come as bytes, so that one which is no text in UTF-8 is a bad
        // row and not an error of the whole statement: a database without an
        // encoding keeps any bytes, and converts none.
        let encoding = if encoding == "SQL_ASCII" { "SQL_ASCII" } else { "UTF8" };
        let text = |column: &str| format!("convert_to({column}::text, '{encoding}')");
        let bytes = |column: &str, format: Format| match format {
            Format::Text => text(column),
            Format::Bytes => column.to_owned(),
        };
        let length = |column: &str, format: Format| match format {
            Format::Text => format!("coalesce(octet_length({column}::text), 0)::bigint"),
            Format::Bytes => format!("coalesce(octet_length({column}), 0)::bigint"),
        };
        let cut = |value: &str, name: &str| {
            format!("CASE WHEN row_bytes > $4 THEN substr({value}, 1, $5) ELSE {value} END AS {name}")
        };
        let source = if layout.has_source { "o.source::text" } else { "NULL::text" };
        let columns = [
            cut(&text("id"), "id"),
            cut(&text("source"), "source"),
            cut(&text("topic"), "topic"),
            cut(&text("type"), "type"),
            cut(&bytes("key", layout.key), "key"),
            cut(&text("kind"), "kind"),
            cut(&bytes("body", layout.body), "body"),
            cut(&text("headers"), "headers"),
            time("deliver_at"),
            time("created_at"),
        ];
        let (body_bytes, headers_bytes) = (length("o.body", layout.body), length("o.headers", Format::Text));
        let others = ["o.id", "o.topic", "o.type", "o.kind", source].map(|column| length(column, Format::Text));
        let other_bytes = format!("{} + {}", others.join(" + "), length("o.key", layout.key));
        // The lengths are known without reading the values, which are read only
        // of the rows that are answered. A topic that is NULL is not among the
        // full ones, and a comparison with NULL must not hide its row.
        let read = format!(
            "SELECT seq, {columns}, row_bytes, body_bytes, headers_bytes
             FROM (
                 SELECT r.*, sum(least(row_bytes, $4)) OVER (ORDER BY seq) - least(row_bytes, $4) AS bytes_before
                 FROM (
                     SELECT l.*, body_bytes + headers_bytes + other_bytes AS row_bytes
                     FROM (
                         SELECT o.seq::bigint AS seq, o.id, {source} AS source, o.topic, o.type, o.key, o.kind, o.body,
                             o.headers, o.deliver_at, o.created_at, {body_bytes} AS body_bytes,
                             {headers_bytes} AS headers_bytes, {other_bytes} AS other_bytes
                         FROM {table} o
                         WHERE o.seq <> ALL ($1) AND ($6::text[] = '{{}}' OR (o.topic::text = ANY ($6)) IS NOT TRUE)
                         ORDER BY o.seq LIMIT $2
                     ) l
                 ) r
             ) s WHERE bytes_before < $3 ORDER BY seq",
            columns = columns.join(", "),
        );
        // With the id: the numbers begin again when a table is emptied with
        // RESTART IDENTITY.
        let remove = format!(
            "DELETE FROM {table} o USING unnest($1::bigint[], $2::bytea[]) AS d (seq, id)
             WHERE o.seq = d.seq AND {} IS NOT DISTINCT FROM d.id",
            text("o.id")
        );
        let count = format!("SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT $1) r");
        Self { read, remove, count }
    }
}

/// The microseconds of a time, or its text where it cannot be told in them. A
/// time before 1970 to deliver at has passed, whatever it is.
fn time(column: &str) -> String {
    let micros = format!("(extract(epoch FROM {column}) * 1000000)::bigint");
    let passed = if column == "deliver_at" { "WHEN deliver_at < '1970-01-01' THEN 0" } else { "" };
    let known = format!("{column} >= '0001-01-01' AND {column} < '9999-12-30'");
    format!(
        "CASE {passed} WHEN {known} THEN {micros} END AS {column},
         CASE WHEN {known} THEN NULL ELSE {column}::text END AS {column}_text"
    )
}

#[async_trait]
impl OutboxSource for PostgresSource {
    async fn read(&mut self, in_hand: &[i64], full: &[String], limit: usize) -> Result<Vec<SourceRow>, SourceError> {
        let rows = sqlx::query(AssertSqlSafe(self.statements.read.clone()))
            // Planned each time, with the numbers in hand known: a plan for
            // any numbers would compare each row with each of them.
            .persistent(false)
            .bind(in_hand)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(READ_BYTES)
            .bind(ROW_BYTES)
            .bind(i32::try_from(FRONT_BYTES).unwrap_or(i32::MAX))
            .bind(full)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(source_row).collect()
    }

    async fn remove(&mut self, rows: &[RowRef]) -> Result<(), SourceError> {
        sqlx::query(AssertSqlSafe(self.statements.remove.clone()))
            .bind(rows.iter().map(|(seq, _)| *seq).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, id)| id.as_deref()).collect::<Vec<_>>())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn count(&mut self) -> Result<i64, SourceError> {
        let count = AssertSqlSafe(self.statements.count.clone());
        Ok(sqlx::query_scalar(count).bind(COUNTED_ROWS).fetch_one(&self.pool).await?)
    }

    async fn examine(&mut self) -> Result<(), SourceError> {
        let read_only = "SELECT current_setting('transaction_read_only') = 'on'";
        if sqlx::query_scalar(read_only).fetch_one(&self.pool).await? {
            return Err(SourceError::new("outbox_read_only", READ_ONLY));
        }
        if !self.layout.seq_nullable {
            return Ok(());
        }
        let find = format!("SELECT coalesce(id::text, '') FROM {} WHERE seq IS NULL LIMIT 1", quoted(&self.table));
        let found: Option<String> = sqlx::query_scalar(AssertSqlSafe(find)).fetch_optional(&self.pool).await?;
        found.map_or(Ok(()), |id| Err(without_number(&self.table, &id)))
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    async fn notified(&mut self) {
        self.notified.notified().await;
    }
}

fn source_row(row: &PgRow) -> Result<SourceRow, SourceError> {
    let bytes = |name: &str| Ok::<_, SourceError>(row.try_get::<Option<Vec<u8>>, _>(name)?.map(Bytes::from));
    let time = |name: &str, text: &str| {
        let (micros, text): (Option<i64>, Option<String>) = (row.try_get(name)?, row.try_get(text)?);
        Ok::<_, SourceError>(micros.map(|micros| Ok(Timestamp(micros))).or_else(|| text.map(Err)))
    };
    Ok(SourceRow {
        seq: row.try_get("seq")?,
        id: bytes("id")?,
        source: bytes("source")?,
        topic: bytes("topic")?,
        type_name: bytes("type")?,
        key: bytes("key")?,
        kind: bytes("kind")?,
        body: bytes("body")?,
        body_bytes: row.try_get("body_bytes")?,
        headers: bytes("headers")?,
        headers_bytes: row.try_get("headers_bytes")?,
        deliver_at: time("deliver_at", "deliver_at_text")?,
        created_at: time("created_at", "created_at_text")?,
        row_bytes: row.try_get("row_bytes")?,
    })
}
