//! The send side: messages handed in, and what the host owes Kafka.

use std::time::Duration;

use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;

use super::lists::MessageRow;
use crate::store::delayed::Due;
use crate::store::identity::{Identity, SentBy};

/// Relay shards: hash(topic, key) mod this.
pub const SHARDS: u32 = 64;

/// How much of the body of a message that will never be sent is kept.
pub const REFUSED_BODY_BYTES: usize = 4 * 1024;

/// A row the relay will produce.
#[derive(Clone, Debug)]
pub struct NewOutbound {
    pub message_id: String,
    /// Where it goes.
    pub topic: String,
    pub type_name: String,
    pub source: String,
    pub key: Option<Bytes>,
    /// The whole record, encoded: key, value, headers.
    pub record: Bytes,
    /// hash(topic, key) mod [`SHARDS`].
    pub shard: i32,
    /// A direct send holds its row this long; then the relay takes it.
    pub held_for: Option<Duration>,
    /// Whether the message is listed among the messages people sent
    /// (dead letters are not).
    pub listed: bool,
    /// The group whose handler published it or gave it up; none for what a
    /// sender handed in.
    pub group: Option<String>,
}

/// A row the relay has to produce.
#[derive(Clone, Debug)]
pub struct OutboundRow {
    /// Ascending in the order of insertion.
    pub id: i64,
    pub shard: i32,
    pub message_id: String,
    pub source: String,
    /// The topic that the message was published on.
    pub published_on: String,
    /// Where it goes.
    pub topic: String,
    /// The partition chosen before, if one was.
    pub partition: Option<i32>,
    /// Kafka's id of the topic that it was chosen in; empty where that is not
    /// known.
    pub topic_id: String,
    /// Where in that partition it lies at the earliest, if nobody knows whether
    /// an earlier send arrived.
    pub unknown_from: Option<Offset>,
    pub key: Option<Bytes>,
    /// The whole record, encoded.
    pub record: Bytes,
    /// How often it was tried.
    pub tries: u32,
}

/// A partition that was chosen for an outbound row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenPartition {
    pub row: i64,
    /// Kafka's id of the topic it was chosen in; empty where the broker tells
    /// none.
    pub topic_id: String,
    pub partition: i32,
}

/// What became of an outbound row.
#[derive(Clone, Debug)]
pub struct Relayed {
    pub id: i64,
    pub shard: i32,
    /// What happened.
    pub result: RelayResult,
}

/// What happened to an outbound row.
#[derive(Clone, Debug)]
pub enum RelayResult {
    /// Kafka has it.
    Taken {
        partition: i32,
        /// Where in it.
        offset: Offset,
    },
    /// It can never be delivered as it is: kept as undelivered.
    Undelivered {
        /// A stable word for why.
        code: &'static str,
        /// Why, for people.
        reason: String,
    },
    /// Not now.
    Later {
        /// Why, for people.
        reason: String,
        /// How long to wait.
        wait: Duration,
        /// Where in its partition it lies at the earliest, if nobody knows
        /// whether it arrived.
        unknown_from: Option<Offset>,
    },
}

/// A message that a sender hands in.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub id: String,
    /// SHA-256 of everything that makes it the same message.
    pub digest: [u8; 32],
    pub key: Option<Bytes>,
    pub source: String,
    pub topic: String,
    pub type_name: String,
    /// `event` or `broadcast`.
    pub kind: &'static str,
    /// When the sender says it happened.
    pub time: Timestamp,
    /// SEND_FAIL or COMMITTED.
    pub state: State,
    /// Why it is SEND_FAIL.
    pub reason: Option<String>,
    /// Whether the host tries again by itself.
    pub retrying: bool,
    /// Where it is in Kafka, once it is.
    pub place: Option<(i32, Offset)>,
    /// The whole record for a row to be resent, or at most
    /// [`REFUSED_BODY_BYTES`] of the body of one that was refused.
    pub record: Option<Bytes>,
    /// The row through which it goes to Kafka, if it is not sent directly.
    pub outbound: Option<NewOutbound>,
    /// When the outbound row becomes the relay's; none means now.
    pub due: Option<Due>,
    /// Who handed it in, when that is known.
    pub sent_by: Option<SentBy>,
}

impl NewMessage {
    /// Whether this is the row of a message that will never be sent as it is.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.state == State::SendFail && !self.retrying && self.outbound.is_none()
    }
}

/// What the store says to a message handed in.
#[derive(Clone, Debug)]
pub enum Accepted {
    /// It is new and stored.
    New,
    /// The same message was handed in before.
    Same(Box<MessageRow>),
    /// Another message has this identity.
    Other,
    /// A prepared transaction holds this identity until it ends.
    Reserved { transaction: String },
}

/// A message that was sent directly and taken.
#[derive(Clone, Debug)]
pub struct SentMessage {
    pub identity: Identity,
    pub partition: i32,
    /// Where in it.
    pub offset: Offset,
}

/// A message that Kafka refused for ever when it was sent directly, and whose
/// sender is told so.
#[derive(Clone, Debug)]
pub struct RefusedMessage {
    pub identity: Identity,
    /// Why it was refused, for people.
    pub reason: String,
    /// At most [`REFUSED_BODY_BYTES`] of its body.
    pub body: Bytes,
}

/// A message that was not sent directly: the relay sends it.
#[derive(Clone, Debug)]
pub struct UnsentMessage {
    pub identity: Identity,
    /// Why it was not sent, for people.
    pub reason: String,
}
