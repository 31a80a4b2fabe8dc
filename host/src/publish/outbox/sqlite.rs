//! An outbox in a SQLite file that a service writes to at the same time.
//!
//! Every statement is a transaction of its own and short, and waits for the
//! service's transactions; the mode of the file's journal stays what the
//! service chose. Values are read as bytes, since SQLite keeps any.

use std::str::FromStr as _;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::columns::{Column, Dialect, judge};
use super::error::SourceError;
use super::source::{
    COUNTED_ROWS, FRONT_BYTES, OutboxSource, READ_BYTES, ROW_BYTES, RowRef, SourceRow, SourceTime, no_table, quoted,
    without_number,
};
use crate::config::OutboxConfig;

/// How long a transaction of the service is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a SQLite file that has an outbox.
pub(super) struct SqliteSource {
    connection: SqliteConnection,
    table: String,
    statements: SqliteStatements,
    /// Whether `seq` may hold what is no number: everything but the table's own
    /// row number may.
    numbers_may_lack: bool,
    warnings: Vec<String>,
}

impl SqliteSource {
    /// Opens the file, which must be there, and checks the table.
    pub async fn open(outbox: &OutboxConfig) -> Result<Self, SourceError> {
        let options =
            SqliteConnectOptions::from_str(outbox.url.expose())?.create_if_missing(false).busy_timeout(BUSY_TIMEOUT);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let rows: Vec<(String, String, bool, i64)> =
            sqlx::query_as("SELECT name, type, \"notnull\", pk FROM pragma_table_info(?)")
                .bind(outbox.table.rsplit('.').next().unwrap_or(&outbox.table))
                .fetch_all(&mut connection)
                .await?;
        if rows.is_empty() {
            return Err(no_table(&outbox.table, "sqlite"));
        }
        let keys = rows.iter().filter(|(.., pk)| *pk > 0).count();
        let row_number = |type_name: &str, pk: i64| pk > 0 && keys == 1 && type_name.eq_ignore_ascii_case("INTEGER");
        let numbers_may_lack = !rows.iter().any(|(name, kind, _, pk)| name == "seq" && row_number(kind, *pk));
        let columns: Vec<Column> = rows
            .into_iter()
            .map(|(name, type_name, not_null, pk)| {
                let nullable = !not_null && !row_number(&type_name, pk);
                Column { name, type_name, category: '-', nullable }
            })
            .collect();
        let (layout, warnings) = judge(&outbox.table, &columns, Dialect::Sqlite)?;
        let statements = SqliteStatements::new(&quoted(&outbox.table), layout.has_source);
        Ok(Self { connection, table: outbox.table.clone(), statements, numbers_may_lack, warnings })
    }
}

/// The statements for one table.
struct SqliteStatements {
    read: String,
    remove: String,
    count: String,
}

impl SqliteStatements {
    fn new(table: &str, has_source: bool) -> Self {
        let source = if has_source { "o.source" } else { "NULL" };
        // octet_length tells a length without reading the value.
        let length = |column: &str| format!("coalesce(octet_length({column}), 0)");
        let others = ["o.id", "o.topic", "o.type", "o.key", "o.kind", source].map(length).join(" + ");
        let cut = |column: &str| {
            format!(
                "CASE WHEN row_bytes > ?4 THEN substr(CAST({column} AS BLOB), 1, ?5) ELSE CAST({column} AS BLOB) END"
            )
        };
        let columns = ["id", "source", "topic", "type", "key", "kind", "body", "headers"].map(cut).join(", ");
        let read = format!(
            "SELECT seq, {columns}, CAST(deliver_at AS TEXT), CAST(created_at AS TEXT), row_bytes, body_bytes,
                 headers_bytes
             FROM (
                 SELECT r.*, sum(min(row_bytes, ?4)) OVER (ORDER BY seq) - min(row_bytes, ?4) AS bytes_before
                 FROM (
                     SELECT l.*, body_bytes + headers_bytes + other_bytes AS row_bytes
                     FROM (
                         SELECT o.seq, o.id, {source} AS source, o.topic, o.type, o.key, o.kind, o.body, o.headers,
                             o.deliver_at, o.created_at, {} AS body_bytes, {} AS headers_bytes, {others} AS other_bytes
                         FROM {table} o
                         WHERE typeof(o.seq) = 'integer' AND o.seq NOT IN (SELECT value FROM json_each(?1))
                             AND (?6 = '[]'
                                 OR hex(CAST(o.topic AS BLOB)) NOT IN (SELECT value FROM json_each(?6)))
                         ORDER BY o.seq LIMIT ?2
                     ) l
                 ) r
             ) WHERE bytes_before < ?3 ORDER BY seq",
            length("o.body"),
            length("o.headers"),
        );
        // With the id: the numbers begin again when a table is made anew.
        let remove = format!(
            "DELETE FROM {table} WHERE (seq, hex(CAST(id AS BLOB))) IN
                 (SELECT value ->> 0, value ->> 1 FROM json_each(?))"
        );
        let count = format!("SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT ?)");
        Self { read, remove, count }
    }
}

#[async_trait]
impl OutboxSource for SqliteSource {
    async fn read(&mut self, in_hand: &[i64], full: &[String], limit: usize) -> Result<Vec<SourceRow>, SourceError> {
        let full: Vec<String> = full.iter().map(|topic| hex(topic.as_bytes())).collect();
        let rows = sqlx::query(AssertSqlSafe(self.statements.read.clone()))
            .bind(list(in_hand)?)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(READ_BYTES)
            .bind(ROW_BYTES)
            .bind(FRONT_BYTES)
            .bind(list(&full)?)
            .fetch_all(&mut self.connection)
            .await?;
        rows.iter().map(source_row).collect()
    }

    async fn remove(&mut self, rows: &[RowRef]) -> Result<(), SourceError> {
        // The hexadecimal text of NULL is empty, as that of an empty id.
        let id = |id: &Option<Bytes>| hex(id.as_deref().unwrap_or_default());
        let rows: Vec<(i64, String)> = rows.iter().map(|(seq, row_id)| (*seq, id(row_id))).collect();
        let remove = AssertSqlSafe(self.statements.remove.clone());
        sqlx::query(remove).bind(list(&rows)?).execute(&mut self.connection).await?;
        Ok(())
    }

    async fn count(&mut self) -> Result<i64, SourceError> {
        let count = AssertSqlSafe(self.statements.count.clone());
        Ok(sqlx::query_scalar(count).bind(COUNTED_ROWS).fetch_one(&mut self.connection).await?)
    }

    async fn examine(&mut self) -> Result<(), SourceError> {
        if !self.numbers_may_lack {
            return Ok(());
        }
        let find = format!(
            "SELECT coalesce(CAST(id AS TEXT), '') FROM {} WHERE typeof(seq) <> 'integer' LIMIT 1",
            quoted(&self.table)
        );
        let found: Option<String> =
            sqlx::query_scalar(AssertSqlSafe(find)).fetch_optional(&mut self.connection).await?;
        found.map_or(Ok(()), |id| Err(without_number(&self.table, &id)))
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    async fn notified(&mut self) {
        std::future::pending().await
    }
}

fn list(items: &(impl serde::Serialize + ?Sized)) -> Result<String, SourceError> {
    serde_json::to_string(items)
        .map_err(|error| SourceError::new("outbox_database", format!("rows cannot be named to SQLite: {error}")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn source_row(row: &SqliteRow) -> Result<SourceRow, SourceError> {
    let bytes = |at: usize| Ok::<_, SourceError>(row.try_get::<Option<Vec<u8>>, _>(at)?.map(Bytes::from));
    let time = |at: usize| {
        let bytes = row.try_get_unchecked::<Option<Vec<u8>>, _>(at)?;
        Ok::<_, SourceError>(bytes.map(|bytes| time(&String::from_utf8_lossy(&bytes))))
    };
    Ok(SourceRow {
        seq: row.try_get(0)?,
        id: bytes(1)?,
        source: bytes(2)?,
        topic: bytes(3)?,
        type_name: bytes(4)?,
        key: bytes(5)?,
        kind: bytes(6)?,
        body: bytes(7)?,
        headers: bytes(8)?,
        deliver_at: time(9)?,
        created_at: time(10)?,
        row_bytes: row.try_get(11)?,
        body_bytes: row.try_get(12)?,
        headers_bytes: row.try_get(13)?,
    })
}

/// Reads RFC 3339, and what SQLite's own functions write, which is UTC.
fn time(text: &str) -> SourceTime {
    let utc = || format!("{}Z", text.trim()).parse::<jiff::Timestamp>();
    let parsed = text.trim().parse::<jiff::Timestamp>().or_else(|_| utc());
    parsed.map(|time| Timestamp(time.as_microsecond())).map_err(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqlitePoolOptions;

    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_and_as_sqlite_writes_them() {
        for text in ["1970-01-01T00:00:01Z", "1970-01-01 00:00:01", "1970-01-01T01:00:01+01:00", "1970-01-01T00:00:01"]
        {
            assert_eq!(time(text), Ok(Timestamp(1_000_000)), "{text}");
        }
        for text in ["soon", "294276-12-31T23:59:59Z"] {
            assert_eq!(time(text), Err(text.to_owned()));
        }
    }

    /// A file with a table whose columns take anything, and its outbox.
    async fn file(seq: &str) -> (tempfile::TempDir, OutboxConfig, sqlx::SqlitePool) {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("shop.db").display());
        let options = SqliteConnectOptions::from_str(&url).unwrap().create_if_missing(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        let table = format!(
            "CREATE TABLE courier_outbox (seq {seq}, id TEXT, topic TEXT, type TEXT, key, kind TEXT, body, headers,
                 deliver_at TEXT, created_at TEXT)"
        );
        sqlx::query(AssertSqlSafe(table)).execute(&pool).await.unwrap();
        (directory, OutboxConfig { name: "shop".into(), url: url.into(), table: "courier_outbox".into() }, pool)
    }

    #[tokio::test]
    async fn no_row_is_passed_over_for_a_null() {
        let (_directory, outbox, pool) = file("INTEGER PRIMARY KEY").await;
        for insert in [
            "INSERT INTO courier_outbox (seq, id, topic, type, body) VALUES (1, 'a', 't', 'T', 'x')",
            "INSERT INTO courier_outbox (seq) VALUES (2)",
            "INSERT INTO courier_outbox (seq, id, topic, type, key, body, headers)
             VALUES (3, 'c', 't', 'T', x'6b31ff', x'00ff', NULL)",
        ] {
            sqlx::query(insert).execute(&pool).await.unwrap();
        }
        let mut source = SqliteSource::open(&outbox).await.unwrap();
        let warned = source.warnings().join("\n");
        for column in ["id", "topic", "type", "body"] {
            assert!(warned.contains(&format!("column {column} may be NULL")), "{warned}");
        }
        assert!(!warned.contains("column seq"), "{warned}");
        let rows = source.read(&[], &[], 10).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((rows[2].key.as_deref(), rows[2].body.as_deref()), (Some(&b"k1\xff"[..]), Some(&[0, 0xff][..])));
        let rest = source.read(&[1], &["t".to_owned()], 10).await.unwrap();
        assert_eq!(rest.iter().map(|row| row.seq).collect::<Vec<_>>(), [2], "a topic that is full hides its rows only");
        source.remove(&[(1, Some(Bytes::from("other"))), (2, None), (3, Some(Bytes::from("c")))]).await.unwrap();
        assert_eq!(source.count().await, Ok(1), "a row with another id is another row");
    }

    #[tokio::test]
    async fn a_row_without_a_number_is_named_and_a_long_one_is_cut() {
        let (_directory, outbox, pool) = file("INT").await;
        let body = vec![b'x'; usize::try_from(ROW_BYTES).unwrap()];
        let insert = "INSERT INTO courier_outbox (seq, id, topic, type, body) VALUES (?, ?, 't', 'T', ?)";
        sqlx::query(insert).bind(1).bind("long").bind(body).execute(&pool).await.unwrap();
        let mut source = SqliteSource::open(&outbox).await.unwrap();
        assert_eq!(source.examine().await, Ok(()));
        sqlx::query(insert).bind(None::<i64>).bind("lost").bind("x").execute(&pool).await.unwrap();
        let error = source.examine().await.unwrap_err();
        assert!(error.code == "outbox_row_without_number" && error.sentence.contains("id \"lost\""), "{error}");
        let rows = source.read(&[], &[], 10).await.unwrap();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((row.row_bytes, row.body_bytes), (ROW_BYTES + 6, ROW_BYTES));
        assert_eq!(row.body.as_ref().map(Bytes::len), usize::try_from(FRONT_BYTES).ok());
    }
}
