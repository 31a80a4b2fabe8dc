//! What a sender is told of one message.

use courier_core::status::State;

use crate::store::delayed::is_cancelled;
use crate::store::half::reserved;
use crate::store::{Identity, MessageRow, StoreError};

/// The answer to one message.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Its id: the sender's, or the one made for it.
    pub id: String,
    /// SEND_FAIL or COMMITTED.
    pub state: State,
    /// Whether the host goes on trying by itself.
    pub retrying: bool,
    /// What was wrong, when it was not accepted.
    pub problem: Option<SendProblem>,
}

/// What kind of problem keeps a message from being accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendProblemKind {
    /// The message breaks a rule.
    Invalid,
    /// More transactions are prepared than a bound allows.
    TooManyTransactions,
    /// The message is larger than Kafka takes.
    TooLarge,
    /// The body is not what the topic's schema asks for.
    BreaksSchema,
    /// Kafka will not take the message.
    RefusedByKafka,
    /// The check URL of a transaction is not one that may be asked.
    CheckUrlNotAllowed,
    /// Another message has this identity.
    IdTaken,
    /// A prepared transaction holds this identity.
    IdReserved,
    /// The message was taken back before it was due.
    Cancelled,
    /// So much is undelivered for the topic that nothing more is accepted.
    UndeliveredFull,
    /// The store cannot be reached.
    StoreAway,
    /// A fault of this program.
    Internal,
}

impl SendProblemKind {
    /// Whether the identity of the message is not free.
    #[must_use]
    pub fn is_of_identity(self) -> bool {
        matches!(self, Self::IdTaken | Self::IdReserved | Self::Cancelled)
    }
}

/// Why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendProblem {
    pub kind: SendProblemKind,
    /// What is wrong with this message and what would be right.
    pub detail: String,
}

impl SendProblem {
    fn of(kind: SendProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// The message breaks a rule.
    #[must_use]
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::of(SendProblemKind::Invalid, detail)
    }

    /// More than a bound allows at a time.
    #[must_use]
    pub fn too_many(detail: impl Into<String>) -> Self {
        Self::of(SendProblemKind::TooManyTransactions, detail)
    }

    /// The message is larger than Kafka takes.
    #[must_use]
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::of(SendProblemKind::TooLarge, detail)
    }

    /// The body is not what the topic's schema asks for.
    #[must_use]
    pub fn breaks_schema(detail: impl Into<String>) -> Self {
        Self::of(SendProblemKind::BreaksSchema, detail)
    }

    /// Kafka will not take the message.
    #[must_use]
    pub fn refused(detail: impl Into<String>) -> Self {
        Self::of(SendProblemKind::RefusedByKafka, detail)
    }

    /// The check URL of a transaction is not one that may be asked.
    #[must_use]
    pub fn check_url_not_allowed(detail: impl Into<String>) -> Self {
        Self::of(SendProblemKind::CheckUrlNotAllowed, detail)
    }

    /// Another message has this identity.
    #[must_use]
    pub fn conflict(message: &Identity) -> Self {
        let detail = format!("the message {message} was sent before, with other content");
        Self::of(SendProblemKind::IdTaken, detail)
    }

    /// A prepared transaction holds this identity.
    #[must_use]
    pub fn reserved(message: &Identity, transaction: &str) -> Self {
        let detail = format!("the {}; commit it or roll it back first", reserved(message, transaction));
        Self::of(SendProblemKind::IdReserved, detail)
    }

    /// The message was taken back before it was due.
    #[must_use]
    pub fn cancelled(id: &str) -> Self {
        let detail = format!("the message {id:?} was sent before and cancelled; send it anew under another id");
        Self::of(SendProblemKind::Cancelled, detail)
    }

    /// Accepting the message met a fault of this program.
    #[must_use]
    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::of(SendProblemKind::Internal, detail)
    }

    /// The store did not take the message.
    #[must_use]
    pub(super) fn of_store(error: &StoreError) -> Self {
        match error {
            StoreError::Data(_) => Self::invalid(error.to_string()),
            _ => Self::store_away(error.to_string()),
        }
    }

    /// So much is undelivered for the topic that nothing more is accepted.
    #[must_use]
    pub(super) fn undelivered_full(topic: &str) -> Self {
        let detail = format!(
            "too many messages for topic {topic} could not be delivered: nothing more is accepted for it until an \
             operator resends them or gives them up (courier undelivered list --topic {topic})"
        );
        Self::of(SendProblemKind::UndeliveredFull, detail)
    }

    /// The store cannot be reached.
    #[must_use]
    pub fn store_away(detail: impl Into<String>) -> Self {
        Self::of(SendProblemKind::StoreAway, detail)
    }
}

impl Receipt {
    /// The bus has the message.
    pub(super) fn committed(id: String) -> Self {
        Self { id, state: State::Committed, retrying: false, problem: None }
    }

    /// The message is durable and goes out when Kafka takes it.
    pub(super) fn retrying(id: String) -> Self {
        Self { id, state: State::SendFail, retrying: true, problem: None }
    }

    /// The message was not accepted.
    pub(super) fn failed(id: String, problem: SendProblem) -> Self {
        Self { id, state: State::SendFail, retrying: false, problem: Some(problem) }
    }

    /// The message can never reach Kafka as it is, and is kept.
    pub(super) fn undelivered(id: String, reason: &str) -> Self {
        Self::failed(id, SendProblem::refused(format!("{reason}; it is kept among the undelivered messages")))
    }

    /// The first answer to a message, as far as its row still has it.
    pub(super) fn again(row: MessageRow) -> Self {
        let refused = row.state == State::SendFail && !row.retrying;
        if is_cancelled(&row) {
            let problem = SendProblem::cancelled(&row.id);
            return Self::failed(row.id, problem);
        }
        let problem =
            refused.then(|| SendProblem::refused(row.reason.unwrap_or_else(|| "it was refused before".to_owned())));
        Self { id: row.id, state: row.state, retrying: row.retrying, problem }
    }
}
