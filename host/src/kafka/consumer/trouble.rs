//! What an error of the consumer means to its group.

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Notice;

/// What an error means to the group.
pub(super) fn notice<C: ClientContext>(client: &Client<C>, error: &KafkaError) -> Notice {
    let code = error.rdkafka_error_code();
    if matches!(error, KafkaError::MessageConsumptionFatal(_)) || code == Some(RDKafkaErrorCode::Fatal) {
        // The error itself only says that it is fatal.
        return match client.fatal_error() {
            Some((RDKafkaErrorCode::FencedInstanceId, _)) => Notice::Fenced,
            Some((_, why)) => Notice::Fatal(why),
            None => Notice::Fatal(error.to_string()),
        };
    }
    match code {
        Some(RDKafkaErrorCode::FencedInstanceId) => Notice::Fenced,
        Some(RDKafkaErrorCode::InconsistentGroupProtocol) => Notice::OtherProtocol,
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => Notice::OutOfRange,
        _ => Notice::Trouble(error.to_string()),
    }
}
