//! The send side: messages that senders hand in, and outbound rows.

use std::time::Duration;

use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;

use super::lists::MessageRow;
use crate::store::delayed::Due;
use crate::store::identity::{Identity, SentBy};

/// The number of relay shards. A row's shard is hash(topic, key) modulo this.
pub const SHARDS: u32 = 64;

/// Bytes that are kept of the body of a message that will never be sent.
pub const REFUSED_BODY_BYTES: usize = 4 * 1024;

/// An outbound row to be stored.
#[derive(Clone, Debug)]
pub struct NewOutbound {
    pub message_id: String,
    /// Kafka's topic for it.
    pub topic: String,
    pub type_name: String,
    pub source: String,
    pub key: Option<Bytes>,
    /// The whole record, encoded: key, value, headers.
    pub record: Bytes,
    /// hash(topic, key) mod [`SHARDS`].
    pub shard: i32,
    /// How long a direct send holds the row before the relay takes it.
    pub held_for: Option<Duration>,
    /// Whether the message is listed among those of the send side, which dead letters are
    /// not.
    pub listed: bool,
    /// The group whose handler published it or gave it up; `None` for a message of a
    /// sender.
    pub group: Option<String>,
}

/// An outbound row that the relay has to send.
#[derive(Clone, Debug)]
pub struct OutboundRow {
    /// Ascending in the order of insertion.
    pub id: i64,
    pub shard: i32,
    pub message_id: String,
    pub source: String,
    /// The topic that the message was published on.
    pub published_on: String,
    /// Kafka's topic for it.
    pub topic: String,
    /// The partition that was chosen before, if one was.
    pub partition: Option<i32>,
    /// Kafka's id of the topic when the partition was chosen; empty where it is unknown.
    pub topic_id: String,
    /// The lowest offset at which the record may lie, if it is unknown whether an earlier
    /// send arrived.
    pub unknown_from: Option<Offset>,
    pub key: Option<Bytes>,
    /// The whole record, encoded.
    pub record: Bytes,
    /// How often the relay tried to send it.
    pub tries: u32,
}

/// What is left out of the outbound rows that are taken.
#[derive(Clone, Debug, Default)]
pub struct LeftOut {
    /// Topics that take nothing now: of them only rows that were never tried are taken,
    /// so that their messages say why they wait.
    pub topics: Vec<String>,
    /// Partitions that take nothing now: no row for which one of them was chosen is
    /// taken. Left in, the rows of one partition would fill each take for ever.
    pub partitions: Vec<(String, i32)>,
    /// Those of `partitions` that are tried with one row.
    pub tried: Vec<(String, i32)>,
    /// Rows that were taken before and have no stored result yet. They hide all rows
    /// of their keys.
    pub under_way: Vec<i64>,
}

/// A partition that was chosen for an outbound row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenPartition {
    pub row: i64,
    /// Kafka's id of the topic; empty where the broker has none.
    pub topic_id: String,
    pub partition: i32,
}

/// What became of an outbound row.
#[derive(Clone, Debug)]
pub struct Relayed {
    pub id: i64,
    pub shard: i32,
    pub result: RelayResult,
}

/// The result of sending an outbound row.
#[derive(Clone, Debug)]
pub enum RelayResult {
    /// Kafka has it.
    Taken { partition: i32, offset: Offset },
    /// It can never be delivered as it is: kept as undelivered.
    Undelivered {
        /// A stable word for the cause.
        code: &'static str,
        /// The cause, for people.
        reason: String,
    },
    /// It is tried again later.
    Later {
        /// The cause, for people.
        reason: String,
        /// How long to wait.
        wait: Duration,
        /// The lowest offset at which the record may lie, if it is unknown whether it
        /// arrived.
        unknown_from: Option<Offset>,
    },
}

/// A message that a sender hands in.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub id: String,
    /// SHA-256 over the content, which tells a repeated message from another one.
    pub digest: [u8; 32],
    pub key: Option<Bytes>,
    pub source: String,
    pub topic: String,
    pub type_name: String,
    /// `event` or `broadcast`.
    pub kind: &'static str,
    /// The time of the event, by its sender.
    pub time: Timestamp,
    /// SEND_FAIL or COMMITTED.
    pub state: State,
    /// Why it is SEND_FAIL.
    pub reason: Option<String>,
    /// Whether the host tries again by itself.
    pub retrying: bool,
    /// Its partition and offset in Kafka, once Kafka has it.
    pub place: Option<(i32, Offset)>,
    /// The whole record of a message that may be sent again, or at most
    /// [`REFUSED_BODY_BYTES`] of the body of a refused one.
    pub record: Option<Bytes>,
    /// The row through which it goes to Kafka, if it is not sent directly.
    pub outbound: Option<NewOutbound>,
    /// When the outbound row becomes due; `None` means now.
    pub due: Option<Due>,
    /// The sender, when that is known.
    pub sent_by: Option<SentBy>,
}

impl NewMessage {
    /// Whether this is the row of a message that will never be sent as it is.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.state == State::SendFail && !self.retrying && self.outbound.is_none()
    }
}

/// What the store did with a message.
#[derive(Clone, Debug)]
pub enum Accepted {
    /// It is new, and was stored.
    New,
    /// The same message was stored before.
    Same(Box<MessageRow>),
    /// Another message has this identity.
    Other,
    /// A prepared transaction holds this identity until it ends.
    Reserved { transaction: String },
}

/// A message that was sent directly and that Kafka took.
#[derive(Clone, Debug)]
pub struct SentMessage {
    pub identity: Identity,
    pub partition: i32,
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

/// A message whose direct send did not succeed, and that the relay sends.
#[derive(Clone, Debug)]
pub struct UnsentMessage {
    pub identity: Identity,
    /// Why it was not sent, for people.
    pub reason: String,
}
