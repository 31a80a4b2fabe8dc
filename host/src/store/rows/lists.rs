//! Rows and filters of the lists that people read, a page at a time.

use std::borrow::Cow;

use bytes::Bytes;
use courier_core::message::{Kind, Offset, Timestamp};
use courier_core::status::State;
use courier_core::verdict::Verdict;

use super::positions::DeliveryKey;
use crate::store::identity::{SentBy, SourceHash};

/// Most rows of one page of a list.
pub const MAX_PAGE: u32 = 1_000;

/// Most messages of one id that a look-up returns.
pub const MAX_SAME_ID: u32 = 100;

/// A message of the send side.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageRow {
    pub id: String,
    pub key: Option<Bytes>,
    pub source: String,
    pub topic: String,
    pub type_name: String,
    /// `event` or `broadcast`.
    pub kind: String,
    /// The time of the event, by its sender.
    pub time: Timestamp,
    /// When the host accepted it.
    pub created_at: Timestamp,
    /// SEND_FAIL or COMMITTED.
    pub state: State,
    /// Why it is SEND_FAIL.
    pub reason: Option<String>,
    /// Whether the host tries again by itself.
    pub retrying: bool,
    /// Its partition and offset in Kafka, once Kafka has it.
    pub place: Option<(i32, Offset)>,
    /// The record, or the part of the body that is kept, while it is not on Kafka.
    /// Lists leave it out, since the bodies of a page may be a gigabyte.
    pub record: Option<Bytes>,
    /// When a delayed message is due.
    pub deliver_at: Option<Timestamp>,
    /// The sender; `None` in a row of an earlier version.
    pub sent_by: Option<SentBy>,
}

impl MessageRow {
    /// Kafka's topic for it: a broadcast goes to a companion of the topic that it was
    /// published on.
    #[must_use]
    pub fn goes_to(&self) -> Cow<'_, str> {
        let kind = if self.kind == Kind::Broadcast.as_str() { Kind::Broadcast } else { Kind::Event };
        kind.log_topic(&self.topic)
    }
}

/// A delivery as people see it, without its attempts.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryRow {
    pub key: DeliveryKey,
    pub message_id: String,
    /// The hash of the message's source; `None` in a row of an earlier version.
    pub source_hash: Option<SourceHash>,
    pub group: String,
    pub topic: String,
    /// The node that handles it, for a broadcast; `None` for an event.
    pub listener: Option<String>,
    pub incarnation: i32,
    pub partition: i32,
    pub record_key: Option<Bytes>,
    pub type_name: String,
    pub state: State,
    pub verdict: Option<Verdict>,
    pub reason: Option<String>,
    /// Groups failures that are alike.
    pub fingerprint: Option<String>,
    /// The node that worked on it last.
    pub node: Option<String>,
    /// The version that made the last attempt.
    pub version: Option<String>,
    /// Kafka's time of the record.
    pub record_time: Timestamp,
    /// When the host first received it.
    pub received_at: Timestamp,
    /// When the last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it became final.
    pub settled_at: Option<Timestamp>,
    /// When it runs again; `None` when it is final, is held or waits behind its lane's
    /// head.
    pub next_attempt_at: Option<Timestamp>,
    /// Invocations so far.
    pub number: u32,
    /// Attempts used up so far.
    pub counted: u32,
    /// The encoded record, while the store has it. Lists leave it out.
    pub record: Option<Bytes>,
}

/// Selects messages.
#[derive(Clone, Debug, Default)]
pub struct MessageFilter {
    /// Of this topic.
    pub topic: Option<String>,
    /// Of one of these topics (what a token may see).
    pub topics: Option<Vec<String>>,
    /// Of this type.
    pub type_name: Option<String>,
    /// With this raw key.
    pub key: Option<Bytes>,
    /// From this source.
    pub source: Option<String>,
    /// In this state.
    pub state: Option<State>,
    /// Accepted at or after.
    pub from: Option<Timestamp>,
    /// Accepted before.
    pub to: Option<Timestamp>,
}

/// Selects deliveries. The store applies what a token may see, and not its caller: a
/// page that was cut before would hide rows behind those of others, and its `next`
/// would tell of rows that the token may not see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Of this group.
    pub group: Option<String>,
    /// Of one of these groups (what a token may see).
    pub groups: Option<Vec<String>>,
    /// Of this topic.
    pub topic: Option<String>,
    /// Of one of these topics (what a token may see).
    pub topics: Option<Vec<String>>,
    /// In this state.
    pub state: Option<State>,
    /// Of this type.
    pub type_name: Option<String>,
    /// With this raw key.
    pub key: Option<Bytes>,
    /// With this fingerprint.
    pub fingerprint: Option<String>,
    /// Of this message.
    pub message_id: Option<String>,
    /// Of a message from this source, or in a row of an earlier version, which does not
    /// have it.
    pub source: Option<SourceHash>,
    /// Received (open) or settled (final) at or after.
    pub from: Option<Timestamp>,
    /// Received or settled before.
    pub to: Option<Timestamp>,
}

/// Selects a page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The [`next`](Listing::next) of the page before; opaque to all but the store.
    pub cursor: Option<String>,
    /// Most rows of the page, from 1 to [`MAX_PAGE`].
    pub limit: u32,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    pub items: Vec<T>,
    /// The cursor of the next page; `None` after the last one.
    pub next: Option<String>,
    /// Whether this page searched only a part of the rows, so that the next page may have
    /// rows although this one has few.
    pub truncated: bool,
}

/// Totals of a group.
#[derive(Clone, Debug, Default)]
pub struct GroupTotals {
    pub group: String,
    /// Open rows behind their lane's head.
    pub waiting: u64,
    /// Open rows in PUSH_FAIL.
    pub push_fail: u64,
    /// Open rows in HANDLE_FAIL with a next attempt.
    pub retrying: u64,
    /// Open rows that wait for a person.
    pub held: u64,
    /// Deliveries that ended HANDLED.
    pub handled: u64,
    /// Deliveries that are HANDLE_FAIL for good.
    pub failed: u64,
}
