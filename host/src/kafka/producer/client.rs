//! The client of librdkafka behind a producer: how it is configured, and what
//! it reports.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use courier_core::message::Offset;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};

use super::health::ClusterHealth;
use super::windows::{Ticket, Windows};
use crate::kafka::client_log;
use crate::kafka::stale_client::is_suspicious;
use crate::supervise::{self, Task};

/// A record that Kafka has not taken after this long is given back, so that
/// the relay keeps it durably instead of this process's memory.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest record that is handed to the client: the broker's default
/// `message.max.bytes`. A broker with a smaller limit refuses by itself.
pub const MAX_RECORD_BYTES: usize = 1_048_588;
/// Bytes of records that wait in the client's memory.
const QUEUE_KBYTES: u32 = 128 * 1024;
/// How long the client waits for more records before it sends a batch.
const LINGER_MS: u32 = 2;
/// How long one poll of the client lasts; reports are served as they come. Each
/// poll spins through its last part of a millisecond, since librdkafka waits for
/// whole ones: at the 100 ms of `ThreadedProducer` an idle host used 0.9 % of a
/// core for that. A client that was replaced is freed this much later.
const POLL: Duration = Duration::from_secs(1);
/// Longest pause between attempts to reach a broker: a broker that is back
/// should be noticed at once.
const RECONNECT_MAX_MS: u32 = 1_000;

/// What a user's properties may not change: delivery depends on it.
const OWNED: [&str; 12] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "partitioner",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "transactional.id",
    "enable.gapless.guarantee",
    // Order rests on windows, which know the partition; per connection is not it.
    "max.in.flight.requests.per.connection",
    "max.in.flight",
];

pub(super) type ProducerClient = BaseProducer<Context>;

pub(super) fn config(bootstrap_servers: &[String], properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("client.id", "courier")
        .set("linger.ms", LINGER_MS.to_string())
        .set("queue.buffering.max.kbytes", QUEUE_KBYTES.to_string())
        .set("reconnect.backoff.max.ms", RECONNECT_MAX_MS.to_string())
        // The client counts a record's overhead differently than the broker
        // does: leave the exact word to the broker.
        .set("message.max.bytes", (MAX_RECORD_BYTES + 64 * 1024).to_string());
    for (name, value) in properties.iter().filter(|(name, _)| !OWNED.contains(&name.as_str())) {
        config.set(name, value);
    }
    config
        .set("bootstrap.servers", bootstrap_servers.join(","))
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random")
        .set("message.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string());
    config
}

pub(super) fn connect(
    config: &ClientConfig,
    health: &Arc<ClusterHealth>,
    windows: &Arc<Windows>,
) -> Result<Arc<ProducerClient>, KafkaError> {
    let context = Context { health: Arc::clone(health), windows: Arc::clone(windows) };
    let client = Arc::new(ProducerClient::from_config_and_context(config, context)?);
    let polled = Arc::downgrade(&client);
    std::thread::Builder::new()
        .name("kafka-producer".to_owned())
        .spawn(move || supervise::thread(Task::ProducerPoll, || keep_polling(&polled)))
        .map_err(|error| KafkaError::ClientCreation(format!("cannot start a thread: {error}")))?;
    Ok(client)
}

/// Serves the client's reports until all others have dropped it.
fn keep_polling(client: &Weak<ProducerClient>) {
    while let Some(client) = client.upgrade() {
        client.poll(POLL);
    }
}

pub(super) struct Context {
    pub(super) health: Arc<ClusterHealth>,
    pub(super) windows: Arc<Windows>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client_log::line(level, facility, text);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        client_log::statistics(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.health.set(true),
            Some(RDKafkaErrorCode::Fatal) => self.health.fatal.store(true, Ordering::Relaxed),
            _ => {}
        }
        if is_suspicious(&error) {
            self.health.suspect();
        }
        client_log::client_error(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Self::DeliveryOpaque) {
        let result = match result {
            Ok(message) => {
                if self.health.is_down() {
                    self.health.set(false);
                }
                // A client's success is Kafka's only with a real offset.
                Ok((message.offset() >= 0).then(|| Offset(message.offset())))
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                if code == RDKafkaErrorCode::MessageTimedOut {
                    self.health.suspect();
                }
                Err(code)
            }
        };
        self.windows.delivered(*ticket, result);
    }
}
