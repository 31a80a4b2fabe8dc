//! An outbox in a SQLite file that a service writes to at the same time.
//!
//! Every statement is a transaction of its own and short, and waits for the
//! service's transactions; the mode of the file's journal stays what the
//! service chose. Texts are read as bytes, since SQLite keeps any.

use std::str::FromStr as _;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::source::{
    BODY_BYTES, BODY_FRONT, COUNTED_ROWS, READ_BYTES, Source, SourceError, SourceRow, check_columns, quoted,
};
use crate::config::Outbox;

/// How long a transaction of the service is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a SQLite file that has an outbox.
pub(super) struct SqliteSource {
    connection: SqliteConnection,
    table: String,
}

impl SqliteSource {
    /// Opens the file, which must be there, and checks the table.
    pub async fn open(outbox: &Outbox) -> Result<Self, SourceError> {
        let options = SqliteConnectOptions::from_str(&outbox.url)?.create_if_missing(false).busy_timeout(BUSY_TIMEOUT);
        let mut connection = SqliteConnection::connect_with(&options)
            .await
            .map_err(|error| SourceError(format!("{} cannot be opened: {}", outbox.url, SourceError::from(error))))?;
        let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?)")
            .bind(outbox.table.rsplit('.').next().unwrap_or(&outbox.table))
            .fetch_all(&mut connection)
            .await?;
        if columns.is_empty() {
            return Err(SourceError(format!(
                "there is no table {}: create it with what `courier outbox schema --for sqlite` prints",
                outbox.table
            )));
        }
        check_columns(&outbox.table, &columns, "sqlite")?;
        Ok(Self { connection, table: quoted(&outbox.table) })
    }
}

#[async_trait]
impl Source for SqliteSource {
    async fn read(&mut self, in_hand: &[i64], limit: usize) -> Result<Vec<SourceRow>, SourceError> {
        // octet_length tells a length without reading the body.
        let read = format!(
            "SELECT seq, CAST(id AS BLOB), CAST(topic AS BLOB), CAST(type AS BLOB), CAST(key AS BLOB),
                 CAST(kind AS BLOB),
                 CASE WHEN body_bytes > ?4 THEN substr(CAST(body AS BLOB), 1, ?5) ELSE CAST(body AS BLOB) END,
                 body_bytes, CAST(headers AS BLOB), CAST(deliver_at AS TEXT), CAST(created_at AS TEXT)
             FROM (
                 SELECT r.*, sum(min(body_bytes, ?4) + headers_bytes) OVER (ORDER BY seq)
                     - min(body_bytes, ?4) - headers_bytes AS bytes_before
                 FROM (
                     SELECT o.*, coalesce(octet_length(o.body), 0) AS body_bytes,
                         coalesce(octet_length(o.headers), 0) AS headers_bytes
                     FROM {} o WHERE o.seq NOT IN (SELECT value FROM json_each(?1)) ORDER BY o.seq LIMIT ?2
                 ) r
             ) WHERE bytes_before < ?3 ORDER BY seq",
            self.table
        );
        let rows = sqlx::query(AssertSqlSafe(read))
            .bind(list(in_hand)?)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(READ_BYTES)
            .bind(BODY_BYTES)
            .bind(BODY_FRONT)
            .fetch_all(&mut self.connection)
            .await?;
        rows.iter().map(source_row).collect()
    }

    async fn remove(&mut self, rows: &[(i64, Bytes)]) -> Result<(), SourceError> {
        let rows: Vec<(i64, String)> = rows.iter().map(|(seq, id)| (*seq, hex(id))).collect();
        // With the id: the numbers begin again when a table is made anew.
        let remove = format!(
            "DELETE FROM {} WHERE (seq, hex(CAST(id AS BLOB))) IN
                 (SELECT value ->> 0, value ->> 1 FROM json_each(?))",
            self.table
        );
        sqlx::query(AssertSqlSafe(remove)).bind(list(&rows)?).execute(&mut self.connection).await?;
        Ok(())
    }

    async fn count(&mut self) -> Result<i64, SourceError> {
        let count = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT ?)", self.table);
        Ok(sqlx::query_scalar(AssertSqlSafe(count)).bind(COUNTED_ROWS).fetch_one(&mut self.connection).await?)
    }

    async fn notified(&mut self) {
        std::future::pending().await
    }
}

fn list(items: &(impl serde::Serialize + ?Sized)) -> Result<String, SourceError> {
    serde_json::to_string(items).map_err(|error| SourceError(error.to_string()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn source_row(row: &SqliteRow) -> Result<SourceRow, SourceError> {
    let bytes = |at: usize| Ok::<_, SourceError>(row.try_get::<Option<Vec<u8>>, _>(at)?.map(Bytes::from));
    let text = |at: usize| Ok::<_, SourceError>(String::from_utf8_lossy(&bytes(at)?.unwrap_or_default()).into_owned());
    let time = |at: usize| Ok::<_, SourceError>(row.try_get::<Option<String>, _>(at)?.map(|text| time(&text)));
    Ok(SourceRow {
        seq: row.try_get(0)?,
        id: bytes(1)?.unwrap_or_default(),
        topic: text(2)?,
        type_name: text(3)?,
        key: bytes(4)?,
        kind: text(5)?,
        body: bytes(6)?.unwrap_or_default(),
        body_bytes: row.try_get(7)?,
        headers: text(8)?,
        deliver_at: time(9)?,
        created_at: time(10)?.and_then(Result::ok),
    })
}

/// Reads RFC 3339, and what SQLite's own functions write, which is UTC.
fn time(text: &str) -> Result<Timestamp, String> {
    let utc = || format!("{}Z", text.trim()).parse::<jiff::Timestamp>();
    let parsed = text.trim().parse::<jiff::Timestamp>().or_else(|_| utc());
    parsed.map(|time| Timestamp(time.as_microsecond())).map_err(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_and_as_sqlite_writes_them() {
        for text in ["1970-01-01T00:00:01Z", "1970-01-01 00:00:01", "1970-01-01T01:00:01+01:00", "1970-01-01T00:00:01"]
        {
            assert_eq!(time(text), Ok(Timestamp(1_000_000)), "{text}");
        }
        assert_eq!(time("soon"), Err("soon".to_owned()));
    }
}
