//! Translates errors of the consumer into events of its group.

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::message::ConsumerEvent;

/// What an error means to the group.
pub(super) fn notice<C: ClientContext>(client: &Client<C>, error: &KafkaError) -> ConsumerEvent {
    let code = error.rdkafka_error_code();
    if matches!(error, KafkaError::MessageConsumptionFatal(_)) || code == Some(RDKafkaErrorCode::Fatal) {
        // The error itself only says that it is fatal.
        return match client.fatal_error() {
            Some((RDKafkaErrorCode::FencedInstanceId, _)) => ConsumerEvent::Fenced,
            Some((_, why)) => ConsumerEvent::Fatal(why),
            None => ConsumerEvent::Fatal(error.to_string()),
        };
    }
    match code {
        Some(RDKafkaErrorCode::FencedInstanceId) => ConsumerEvent::Fenced,
        Some(RDKafkaErrorCode::InconsistentGroupProtocol) => ConsumerEvent::OtherProtocol,
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => ConsumerEvent::OutOfRange,
        _ => ConsumerEvent::Trouble(error.to_string()),
    }
}
