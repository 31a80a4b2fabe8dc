//! What the send side is handed and what it answers.

use bytes::Bytes;
use courier_core::message::{Header, Kind, Timestamp};
use courier_core::status::State;

/// A message as its sender wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Where it goes.
    pub topic: String,
    /// What happened.
    pub type_name: String,
    /// The raw key.
    pub key: Option<Bytes>,
    /// The sending service; empty when unknown.
    pub source: String,
    /// The sender's own id for it.
    pub id: Option<String>,
    /// What the sender means it to be.
    pub kind: Kind,
    /// Media type of the body; empty when unknown.
    pub content_type: String,
    /// The body, as it came.
    pub body: Bytes,
    /// Every other header.
    pub headers: Vec<Header>,
    /// When the sender says it happened.
    pub time: Option<Timestamp>,
}

/// What became of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id.
    pub id: String,
    /// COMMITTED or SEND_FAIL.
    pub state: State,
    /// Whether the host tries again by itself.
    pub retrying: bool,
    /// Why it was refused.
    pub problem: Option<Problem>,
}

/// Why a draft was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The kind of problem in words.
    pub title: &'static str,
    /// What was wrong, and what would be right.
    pub detail: String,
}
