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

/// Why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendProblem {
    /// The status of HTTP that fits.
    pub status: u16,
    /// What kind of problem it is.
    pub title: &'static str,
    /// What is wrong with this message and what would be right.
    pub detail: String,
}

impl SendProblem {
    /// The message breaks a rule.
    #[must_use]
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self { status: 400, title: "invalid message", detail: detail.into() }
    }

    /// More than a bound allows at a time.
    #[must_use]
    pub fn too_many(detail: impl Into<String>) -> Self {
        Self { status: 429, title: "too many transactions", detail: detail.into() }
    }

    /// The message is larger than Kafka takes.
    #[must_use]
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self { status: 413, title: "message too large", detail: detail.into() }
    }

    /// The body is not what the topic's schema asks for.
    #[must_use]
    pub fn breaks_schema(detail: impl Into<String>) -> Self {
        Self { status: 422, title: "body breaks the schema", detail: detail.into() }
    }

    /// Kafka will not take the message.
    #[must_use]
    pub fn refused(detail: impl Into<String>) -> Self {
        Self { status: 422, title: "kafka refuses the message", detail: detail.into() }
    }

    /// What was asked for cannot be done here.
    #[must_use]
    pub fn unusable(title: &'static str, detail: impl Into<String>) -> Self {
        Self { status: 422, title, detail: detail.into() }
    }

    /// Another message has this identity.
    #[must_use]
    pub fn conflict(message: &Identity) -> Self {
        let detail = format!("the message {message} was sent before, with other content");
        Self { status: 409, title: "id is taken", detail }
    }

    /// A prepared transaction holds this identity.
    #[must_use]
    pub fn reserved(message: &Identity, transaction: &str) -> Self {
        let detail = format!("the {}; commit it or roll it back first", reserved(message, transaction));
        Self { status: 409, title: "id is reserved", detail }
    }

    /// The message was taken back before it was due.
    #[must_use]
    pub fn cancelled(id: &str) -> Self {
        let detail = format!("the message {id:?} was sent before and cancelled; send it anew under another id");
        Self { status: 409, title: "cancelled", detail }
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
        Self { status: 503, title: "too much is undelivered", detail }
    }

    /// The store cannot be reached.
    #[must_use]
    pub fn store_away(detail: impl Into<String>) -> Self {
        Self { status: 503, title: "the store is not available", detail: detail.into() }
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
