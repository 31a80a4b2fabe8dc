//! Why a record was not taken, and what an error of the client means for it.

use courier_core::message::Offset;
use rdkafka::error::RDKafkaErrorCode;
use thiserror::Error;

use super::client::DELIVERY_TIMEOUT;
use super::refusal::is_refusal;
use crate::kafka::topics::TopicError;

/// What is said of a cluster that is away.
pub(super) const DOWN: &str = "kafka cannot be reached";

/// Why a record was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProduceError {
    /// Kafka will never take it.
    #[error("{0}")]
    Refused(String),
    /// Not now, or nobody knows; it may be sent again.
    #[error("{0}")]
    Later(String),
    /// The client reported success without an offset: the record may lie in the
    /// partition, at `from` or later, or nowhere. It has to be looked for before
    /// it is sent again.
    #[error(
        "kafka acknowledged the message without an offset, which says nothing: it is looked for in {topic}:{partition}"
    )]
    Unknown {
        topic: String,
        /// The partition it was sent to.
        partition: i32,
        /// Where it lies at the earliest.
        from: Offset,
    },
}

impl From<TopicError> for ProduceError {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::Missing(_) | TopicError::Invalid(_) => Self::Refused(error.to_string()),
            TopicError::Unavailable(_) => Self::Later(error.to_string()),
        }
    }
}

/// What an error means for the record, which shared its batch with no other. Whatever
/// is not known to be final is tried again: a record that waits can be seen and
/// resolved, one that was given up without need cannot.
pub(super) fn judge(topic: &str, code: Option<RDKafkaErrorCode>, text: &str) -> ProduceError {
    use RDKafkaErrorCode as Code;
    match code {
        Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge) => {
            ProduceError::Refused(format!("the message is larger than topic {topic} takes"))
        }
        Some(Code::InvalidTopic) => ProduceError::Refused(format!("{topic} is no topic that messages can be sent to")),
        // The topic was made anew with fewer: another partition is chosen once
        // that is known.
        Some(Code::UnknownPartition) => {
            ProduceError::Later(format!("topic {topic} no longer has the partition that was chosen"))
        }
        Some(code) if is_refusal(code) => ProduceError::Refused(format!("topic {topic} refuses the message: {text}")),
        Some(Code::AllBrokersDown | Code::BrokerTransportFailure) => ProduceError::Later(DOWN.to_owned()),
        Some(Code::MessageTimedOut) => {
            ProduceError::Later(format!("kafka did not take the message within {DELIVERY_TIMEOUT:?}"))
        }
        _ => ProduceError::Later(format!("topic {topic}: {text}")),
    }
}
