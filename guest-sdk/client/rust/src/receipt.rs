//! What a sender is told of a message that was taken.

use serde::Deserialize;

/// The answer to a message that was taken: it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id, to ask `GET /v1/messages/{id}` for.
    pub id: String,
    /// Where it is.
    pub state: State,
    /// Whether the host goes on trying by itself. It does whenever the state
    /// is [`State::SendFail`] here: Kafka was away, and the message goes out
    /// when it is back. There is nothing to do for the sender.
    pub retrying: bool,
    /// Why nobody will handle it, when no group takes such messages.
    pub warning: Option<String>,
}

/// Where a message is that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub enum State {
    /// Kafka has it, or the host until it is due.
    #[serde(rename = "COMMITTED")]
    Committed,
    /// The host has it and could not give it to Kafka yet.
    #[serde(rename = "SEND_FAIL")]
    SendFail,
}
