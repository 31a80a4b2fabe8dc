//! The peers in Rust: consumers that a team would write without Courier. Peers in
//! other languages are in `tests/bench/peers`. Each makes Courier's promise about
//! a status: it writes a durable row for each message, and commits the offset only
//! after it.
//!
//! All peers read the same environment ([`Contract`]), write the same rows
//! (`schema.sql`), and print the number of their handler's calls as a line of JSON
//! twice a second.

pub mod batched;
pub mod pipelined;
pub mod row_a_message;
mod sink;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rdkafka::config::ClientConfig;

/// The tables and indexes of every peer.
pub const SCHEMA: &str = include_str!("../../peers/schema.sql");
/// Attempts at a message that keeps failing.
pub const ATTEMPTS: u64 = 3;
/// Wait before the next attempt at such a message.
pub const RETRY_WAIT: Duration = Duration::from_millis(20);

/// Interval at which a peer prints its calls.
const TELL_INTERVAL: Duration = Duration::from_millis(500);

/// One of the Rust peers.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Name {
    /// One loop that writes a batch.
    Batched,
    /// Fetching, handling and writing overlap.
    Pipelined,
    /// One insert for each message.
    RowAMessage,
}

/// The work of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Nothing.
    None,
    /// Parses the body as JSON and checks its fields.
    Json,
    /// Fails for one key in a hundred, each time.
    Failing,
    /// Sends an HTTP request and waits for its answer.
    Effect,
}

impl Work {
    /// Its value of `BENCH_WORK`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Json => "json",
            Self::Failing => "failing",
            Self::Effect => "effect",
        }
    }
}

/// The settings of a peer's run.
#[derive(Clone, Debug)]
pub struct Contract {
    /// Kafka's `host:port`.
    pub bootstrap: String,
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// URL of the database.
    pub database: String,
    /// The handler's work.
    pub work: Work,
    /// Where [`Work::Effect`] sends its requests.
    pub effects: String,
}

impl Contract {
    /// These settings as environment variables.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, &str); 6] {
        [
            ("BENCH_BOOTSTRAP", &self.bootstrap),
            ("BENCH_TOPIC", &self.topic),
            ("BENCH_GROUP", &self.group),
            ("BENCH_DATABASE", &self.database),
            ("BENCH_WORK", self.work.name()),
            ("BENCH_EFFECTS", &self.effects),
        ]
    }

    fn from_environment() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
        let work = variable("BENCH_WORK")?;
        Ok(Self {
            bootstrap: variable("BENCH_BOOTSTRAP")?,
            topic: variable("BENCH_TOPIC")?,
            group: variable("BENCH_GROUP")?,
            database: variable("BENCH_DATABASE")?,
            work: Work::from_str(&work, false).map_err(|error| anyhow::anyhow!("BENCH_WORK: {error}"))?,
            effects: variable("BENCH_EFFECTS").unwrap_or_default(),
        })
    }

    /// The consumer configuration of all Rust peers.
    fn consumer(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", &self.group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "1000")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "5");
        config
    }
}

/// Runs a peer until it is killed.
///
/// # Errors
/// When Kafka or the database fails.
pub async fn run(name: Name) -> Result<()> {
    let contract = Contract::from_environment()?;
    match name {
        Name::Batched => batched::run(&contract).await,
        Name::Pipelined => pipelined::run(contract).await,
        Name::RowAMessage => row_a_message::run(contract).await,
    }
}

/// Prints the number of the handler's calls until the process ends.
fn tell(calls: Arc<AtomicU64>) {
    tokio::spawn(async move {
        loop {
            println!("{{\"calls\":{}}}", calls.load(Ordering::Relaxed));
            tokio::time::sleep(TELL_INTERVAL).await;
        }
    });
}
