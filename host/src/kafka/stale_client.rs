//! Whether a client still finds a cluster that is there.
//!
//! A broker that comes back, or thaws, may for a moment answer with an empty
//! list of brokers; a client then forgets the last one it knew and never asks
//! another (librdkafka#5301). So while a client gets no answer, a fresh one is
//! asked too, and when fresh ones have found the cluster for a while that the
//! client does not, the client has to be replaced.

use std::time::{Duration, Instant};

use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::types::RDKafkaType;

/// How long one question may take.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long fresh clients must find the cluster before a client is replaced:
/// longer than its pauses between attempts to connect.
const RESCUE_AFTER: Duration = Duration::from_secs(3);

/// Since when a client is missing what is there.
#[derive(Debug, Default)]
pub(super) struct StaleClient {
    lost: Option<Instant>,
}

impl StaleClient {
    /// Whether the client must be replaced, when it has just `answered` or not;
    /// `fresh` asks the same of a new client.
    pub(super) fn is_needed(&mut self, answered: bool, fresh: impl FnOnce() -> Result<(), String>) -> bool {
        if answered || fresh().is_err() {
            self.lost = None;
            return false;
        }
        let needed = self.lost.get_or_insert_with(Instant::now).elapsed() > RESCUE_AFTER;
        if needed {
            self.lost = None;
        }
        needed
    }
}

/// Asks for the cluster's brokers with a client made for the question, of
/// which `config` is the configuration.
pub(super) fn ask_afresh(config: &ClientConfig) -> Result<(), String> {
    let native = config.create_native_config().map_err(|error| error.to_string())?;
    // Of the sort that the settings are for: it neither joins nor sends.
    let kind = match config.get("group.id") {
        Some(_) => RDKafkaType::RD_KAFKA_CONSUMER,
        None => RDKafkaType::RD_KAFKA_PRODUCER,
    };
    let client = Client::new(config, native, kind, DefaultClientContext);
    found(client.and_then(|client| client.fetch_metadata(None, PING_TIMEOUT)))
}

/// Whether an answer names a broker to speak to.
pub(super) fn found(answer: KafkaResult<Metadata>) -> Result<(), String> {
    match answer {
        Ok(metadata) if metadata.brokers().is_empty() => Err("no broker is ready".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether an error of a client may mean that the cluster is away.
pub(super) fn is_suspicious(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Authentication
        )
    )
}
