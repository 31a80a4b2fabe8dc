//! The client of librdkafka behind a producer: how it is configured, what it
//! reports, and what its errors mean for a record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use courier_core::message::Offset;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};

use super::cluster_watch::ClusterHealth;
use super::windows::{Ticket, Windows};
use super::{DELIVERY_TIMEOUT, DOWN, LINGER_MS, MAX_RECORD_BYTES, OWNED, ProduceError, QUEUE_KBYTES, RECONNECT_MAX_MS};
use crate::kafka::client_log;
use crate::kafka::stale_client::is_suspicious;

pub(super) type ProducerClient = ThreadedProducer<Context>;

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
    Ok(Arc::new(ThreadedProducer::from_config_and_context(config, context)?))
}

/// What an error means for the record. Whatever is not known to be final is
/// tried again: a record that waits can be seen and resolved, one that was
/// given up without need cannot.
pub(super) fn judge(topic: &str, code: Option<RDKafkaErrorCode>, text: &str) -> ProduceError {
    use RDKafkaErrorCode as Code;
    match code {
        Some(Code::MessageSizeTooLarge) => {
            ProduceError::Refused(format!("the message is larger than topic {topic} takes"))
        }
        Some(Code::InvalidTopic) => ProduceError::Refused(format!("{topic} is no topic that messages can be sent to")),
        // The topic was made anew with fewer: another partition is chosen once
        // that is known.
        Some(Code::UnknownPartition) => {
            ProduceError::Later(format!("topic {topic} no longer has the partition that was chosen"))
        }
        Some(
            Code::InvalidRecord
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::InvalidTimestamp
            | Code::UnsupportedForMessageFormat
            | Code::PolicyViolation,
        ) => ProduceError::Refused(format!("topic {topic} refuses the message: {text}")),
        Some(Code::AllBrokersDown | Code::BrokerTransportFailure) => ProduceError::Later(DOWN.to_owned()),
        Some(Code::MessageTimedOut) => {
            ProduceError::Later(format!("kafka did not take the message within {DELIVERY_TIMEOUT:?}"))
        }
        _ => ProduceError::Later(format!("topic {topic}: {text}")),
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
