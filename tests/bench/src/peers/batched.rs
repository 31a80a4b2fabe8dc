//! The honest ceiling: a plain Rust consumer with a native handler.
//!
//! One `BaseConsumer`, one loop: it polls up to a batch, calls the handler on
//! each record, writes a row for each in one transaction, and commits the
//! offsets after it. No retries, no order across failures, no isolation: what
//! is left is Kafka, the handler and the store. Its table has the columns and
//! the indexes of Courier's final rows, so that both pay for the same.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use crate::progress::{Seen, now};

/// Records in a transaction.
const BATCH: usize = 2_000;
/// How long a batch waits to fill.
const LINGER: Duration = Duration::from_millis(5);
/// Rows of one SQLite statement: 14 columns each, within 32,766 parameters.
const SQLITE_ROWS: usize = 2_000;
const DAY_MICROS: i64 = 86_400_000_000;
const HANDLED: i32 = 5;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS delivery (
    position_id bigint NOT NULL, record_offset bigint NOT NULL, record_time bigint NOT NULL,
    received_at bigint NOT NULL, started_at bigint, settled_at bigint NOT NULL, day integer NOT NULL,
    group_id integer NOT NULL, node_id integer NOT NULL, version_id integer, number integer NOT NULL,
    counted integer NOT NULL, state smallint NOT NULL, verdict smallint, message_id text NOT NULL,
    key BYTES, type_name text NOT NULL, reason text, fingerprint text, record BYTES,
    PRIMARY KEY (position_id, record_offset, day))";
const INDEXES: [&str; 5] = [
    "CREATE INDEX IF NOT EXISTS delivery_message ON delivery (message_id)",
    "CREATE INDEX IF NOT EXISTS delivery_key ON delivery (key) WHERE key IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS delivery_settled ON delivery (settled_at)",
    "CREATE INDEX IF NOT EXISTS delivery_unhandled ON delivery (group_id, state, settled_at) WHERE state <> 5",
    "CREATE INDEX IF NOT EXISTS delivery_fingerprint ON delivery (group_id, fingerprint, settled_at) WHERE state <> 5",
];

#[derive(Debug, Default)]
struct Rows {
    partitions: Vec<i64>,
    offsets: Vec<i64>,
    times: Vec<i64>,
    received: Vec<i64>,
    ids: Vec<String>,
    keys: Vec<Vec<u8>>,
    types: Vec<String>,
}

/// What it prints when its tables are there, and when it has its partitions.
pub const OPEN: &str = "open";
/// The second of these.
pub const JOINED: &str = "joined";

/// What the plain consumer works on.
#[derive(clap::Args)]
pub struct Arguments {
    /// Kafka.
    #[arg(long)]
    bootstrap: String,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// The store.
    #[arg(long)]
    url: String,
    /// The consumer group.
    #[arg(long)]
    group: String,
}

/// A line that it prints after each commit.
#[derive(Debug)]
pub struct Note {
    /// How often the handler was called.
    pub handled: u64,
    /// What is durable.
    pub seen: Seen,
}

/// Reads a line that [`run`] printed.
#[must_use]
pub fn parse(line: &str) -> Option<Note> {
    let mut words = line.split(' ');
    let (at, handled) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let next = words.filter_map(|word| {
        let (partition, next) = word.split_once(':')?;
        Some((partition.parse().ok()?, next.parse().ok()?))
    });
    Some(Note { handled, seen: Seen { at, next: next.collect() } })
}

/// Consumes until it is killed.
///
/// # Errors
/// When Kafka or the store fails.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { bootstrap, topic, url, group } = arguments;
    let store = Sink::open(url).await?;
    println!("{OPEN}");
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    consumer.subscribe(&[topic])?;
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let (mut handled, mut joined) = (0_u64, false);
    loop {
        let mut rows = Rows::default();
        let begun = Instant::now();
        while rows.offsets.len() < BATCH && (rows.offsets.is_empty() || begun.elapsed() < LINGER) {
            if !joined && consumer.assignment()?.count() > 0 {
                joined = true;
                println!("{JOINED}");
            }
            let wait = if rows.offsets.is_empty() { LINGER * 10 } else { LINGER.saturating_sub(begun.elapsed()) };
            let Some(message) = consumer.poll(wait) else { continue };
            let message = message?;
            handle(message.payload().unwrap_or_default());
            handled += 1;
            rows.partitions.push(i64::from(message.partition()));
            rows.offsets.push(message.offset());
            rows.times.push(message.timestamp().to_millis().unwrap_or_default() * 1_000);
            rows.received.push(now());
            rows.ids.push(format!("{topic}:{}:{}", message.partition(), message.offset()));
            rows.keys.push(message.key().unwrap_or_default().to_vec());
            rows.types.push(String::new());
            next.insert(message.partition(), message.offset() + 1);
        }
        store.write(rows).await?;
        let durable = now();
        let mut list = TopicPartitionList::new();
        for (partition, offset) in &next {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        consumer.commit(&list, CommitMode::Async)?;
        let next: Vec<String> = next.iter().map(|(partition, next)| format!("{partition}:{next}")).collect();
        println!("{durable} {handled} {}", next.join(" "));
    }
}

/// A native handler that does nothing, as the guest does.
#[inline(never)]
fn handle(body: &[u8]) {
    std::hint::black_box(body);
}

enum Sink {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Sink {
    async fn open(url: &str) -> Result<Self> {
        if url.starts_with("sqlite:") {
            let options: SqliteConnectOptions = url.parse()?;
            let options = options
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full);
            let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
            for statement in [TABLE.replace("BYTES", "blob").as_str()].into_iter().chain(INDEXES) {
                sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&pool).await?;
            }
            return Ok(Self::Sqlite(pool));
        }
        let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
        for statement in [TABLE.replace("BYTES", "bytea").as_str()].into_iter().chain(INDEXES) {
            sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&pool).await?;
        }
        Ok(Self::Postgres(pool))
    }

    async fn write(&self, rows: Rows) -> Result<()> {
        let settled = now();
        match self {
            Self::Postgres(pool) => {
                let mut tx = pool.begin().await?;
                sqlx::query(
                    "INSERT INTO delivery (position_id, record_offset, record_time, received_at, started_at, \
                     settled_at, day, group_id, node_id, number, counted, state, verdict, message_id, key, type_name) \
                     SELECT p, o, t, r, r, $8, t / $9, 1, 1, 1, 0, $10, 1, i, k, y FROM \
                     unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bytea[], \
                     $7::text[]) AS row (p, o, t, r, i, k, y)",
                )
                .bind(rows.partitions)
                .bind(rows.offsets)
                .bind(rows.times)
                .bind(rows.received)
                .bind(rows.ids)
                .bind(rows.keys)
                .bind(rows.types)
                .bind(settled)
                .bind(DAY_MICROS)
                .bind(HANDLED)
                .execute(&mut *tx)
                .await?;
                tx.commit().await?;
            }
            Self::Sqlite(pool) => {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                for from in (0..rows.offsets.len()).step_by(SQLITE_ROWS) {
                    let to = (from + SQLITE_ROWS).min(rows.offsets.len());
                    let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new(
                        "INSERT INTO delivery (position_id, record_offset, record_time, received_at, started_at, \
                         settled_at, day, group_id, node_id, number, counted, state, verdict, message_id, key, \
                         type_name) ",
                    );
                    query.push_values(from..to, |mut row, at| {
                        row.push_bind(rows.partitions[at]).push_bind(rows.offsets[at]).push_bind(rows.times[at]);
                        row.push_bind(rows.received[at]).push_bind(rows.received[at]).push_bind(settled);
                        row.push_bind(rows.times[at] / DAY_MICROS).push("1").push("1").push("1").push("0");
                        row.push_bind(HANDLED).push("1").push_bind(rows.ids[at].as_str());
                        row.push_bind(rows.keys[at].as_slice()).push_bind(rows.types[at].as_str());
                    });
                    query.build().execute(&mut *tx).await?;
                }
                tx.commit().await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        let note = parse("17 250 0:100 7:150").unwrap();
        assert_eq!((note.handled, note.seen.at, note.seen.done()), (250, 17, 250));
        assert!(parse(OPEN).is_none() && parse(JOINED).is_none());
    }
}
