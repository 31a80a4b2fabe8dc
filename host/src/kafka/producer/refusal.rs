//! Which errors of a broker concern what is in a batch.

use rdkafka::error::RDKafkaErrorCode;

/// Whether a broker refuses a batch by this code for what is in it. It answers so
/// for all records of the batch, whichever is the cause.
pub(super) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidRecord
            | Code::InvalidMessage
            | Code::InvalidMessageSize
            | Code::InvalidTimestamp
            | Code::UnsupportedForMessageFormat
            | Code::PolicyViolation
    )
}
