//! Logs what librdkafka reports.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{debug, error, info, warn};

use crate::said::{self, without_numbers};

/// Logs a line of librdkafka, which repeats some of them without end while a
/// broker is away or refuses a client.
pub fn line(level: RDKafkaLogLevel, facility: &str, text: &str) {
    if !matches!(level, RDKafkaLogLevel::Debug)
        && said::again(&format!("{facility} {}", without_numbers(text))).is_none()
    {
        return;
    }
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            error!(target: "librdkafka", facility, "{text}");
        }
        RDKafkaLogLevel::Warning => warn!(target: "librdkafka", facility, "{text}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => info!(target: "librdkafka", facility, "{text}"),
        RDKafkaLogLevel::Debug => debug!(target: "librdkafka", facility, "{text}"),
    }
}

/// Passes on the statistics that `statistics.interval.ms` asks for.
pub fn statistics(json: &[u8]) {
    debug!(target: "librdkafka", statistics = %String::from_utf8_lossy(json), "client statistics reported");
}

/// Passes on an error of a client. Lost connections come again and again while
/// a broker is away, and what they mean is logged where it is decided.
pub fn client_error(error: &KafkaError, reason: &str) {
    match error.rdkafka_error_code() {
        // No error, and common: a consumer has read all there is.
        Some(RDKafkaErrorCode::PartitionEOF) => {}
        // These come again and again while a topic is gone or somebody else holds
        // a group.
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::InconsistentGroupProtocol
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopicOrPartition,
        ) => {
            debug!(target: "librdkafka", "{error}: {reason}");
        }
        _ => {
            if let Some(unsaid) = said::again(&without_numbers(&format!("{error}: {reason}"))) {
                warn!(target: "librdkafka", unsaid, "{error}: {reason}");
            }
        }
    }
}
