//! The Rust peers' database: PostgreSQL, or a SQLite file.

use anyhow::Result;
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use super::SCHEMA;
use super::work::Outcome;
use crate::progress::now;

/// Rows of one SQLite statement: 10 columns each, within 32,766 parameters.
const SQLITE_ROWS: usize = 2_000;
const HANDLED: i16 = 5;
const HANDLE_FAIL: i16 = 4;
const COLUMNS: &str = "INSERT INTO delivery (position_id, record_offset, message_id, key, state, reason, record_time, \
                       received_at, started_at, settled_at) ";

/// The arrays of a statement as rows, as the guides of PostgreSQL and sqlx have it.
pub const UNNEST_IN_FROM: &str = "SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[], \
                                  $5::smallint[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[], \
                                  $10::bigint[])";
/// The same without a store for the rows in between, which is how the host writes them.
pub const UNNEST_IN_SELECT: &str = "SELECT unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::text[]), \
                                    unnest($4::bytea[]), unnest($5::smallint[]), unnest($6::text[]), \
                                    unnest($7::bigint[]), unnest($8::bigint[]), unnest($9::bigint[]), \
                                    unnest($10::bigint[])";

/// A record's part of its row.
#[derive(Debug)]
pub struct Received<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub key: &'a [u8],
    pub record_time: i64,
    pub received_at: i64,
}

/// Rows of one write, by column.
#[derive(Debug, Default)]
pub struct Rows {
    partitions: Vec<i64>,
    offsets: Vec<i64>,
    ids: Vec<String>,
    keys: Vec<Vec<u8>>,
    states: Vec<i16>,
    reasons: Vec<Option<String>>,
    record_times: Vec<i64>,
    received: Vec<i64>,
    started: Vec<i64>,
    settled: Vec<i64>,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub fn push(&mut self, record: &Received<'_>, outcome: Outcome) {
        self.partitions.push(i64::from(record.partition));
        self.offsets.push(record.offset);
        self.ids.push(format!("{}:{}:{}", record.topic, record.partition, record.offset));
        self.keys.push(record.key.to_vec());
        self.states.push(if outcome.reason.is_none() { HANDLED } else { HANDLE_FAIL });
        self.reasons.push(outcome.reason);
        self.record_times.push(record.record_time);
        self.received.push(record.received_at);
        self.started.push(outcome.started_at);
        self.settled.push(now());
    }
}

/// The database.
pub enum Sink {
    /// With [`UNNEST_IN_FROM`] or [`UNNEST_IN_SELECT`].
    Postgres(PgPool, &'static str),
    Sqlite(SqlitePool),
}

impl Sink {
    /// Opens a database with this number of connections, and makes its table if
    /// it is missing. PostgreSQL makes rows of arrays by `arrays`.
    pub async fn open(url: &str, connections: u32, arrays: &'static str) -> Result<Self> {
        if url.starts_with("sqlite:") {
            let options: SqliteConnectOptions = url.parse()?;
            let options = options
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full);
            let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
            sqlx::raw_sql(AssertSqlSafe(SCHEMA.replace("bytea", "blob"))).execute(&pool).await?;
            return Ok(Self::Sqlite(pool));
        }
        let pool = PgPoolOptions::new().max_connections(connections).connect(url).await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        Ok(Self::Postgres(pool, arrays))
    }

    /// Makes rows durable; a row that exists already stays unchanged.
    pub async fn write(&self, rows: Rows) -> Result<()> {
        match self {
            Self::Postgres(pool, arrays) => {
                sqlx::query(AssertSqlSafe(format!("{COLUMNS} {arrays} ON CONFLICT DO NOTHING")))
                    .bind(rows.partitions)
                    .bind(rows.offsets)
                    .bind(rows.ids)
                    .bind(rows.keys)
                    .bind(rows.states)
                    .bind(rows.reasons)
                    .bind(rows.record_times)
                    .bind(rows.received)
                    .bind(rows.started)
                    .bind(rows.settled)
                    .execute(pool)
                    .await?;
            }
            Self::Sqlite(pool) => {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                for from in (0..rows.len()).step_by(SQLITE_ROWS) {
                    let to = (from + SQLITE_ROWS).min(rows.len());
                    let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new(COLUMNS);
                    query.push_values(from..to, |mut row, at| {
                        row.push_bind(rows.partitions[at]).push_bind(rows.offsets[at]).push_bind(rows.ids[at].as_str());
                        row.push_bind(rows.keys[at].as_slice()).push_bind(rows.states[at]);
                        row.push_bind(rows.reasons[at].as_deref()).push_bind(rows.record_times[at]);
                        row.push_bind(rows.received[at]).push_bind(rows.started[at]).push_bind(rows.settled[at]);
                    });
                    query.push(" ON CONFLICT DO NOTHING").build().execute(&mut *tx).await?;
                }
                tx.commit().await?;
            }
        }
        Ok(())
    }
}
