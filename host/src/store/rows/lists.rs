//! What people ask for, a page at a time.

use std::borrow::Cow;

use bytes::Bytes;
use courier_core::message::{Kind, Offset, Timestamp};
use courier_core::status::State;
use courier_core::verdict::Verdict;

use super::positions::DeliveryKey;
use crate::store::identity::{SentBy, SourceHash};

/// Rows one page of a list may have.
pub const MAX_PAGE: u32 = 1_000;

/// Messages of one id that are told at most.
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
    /// When the sender says it happened.
    pub time: Timestamp,
    /// When the host took it.
    pub created_at: Timestamp,
    /// SEND_FAIL or COMMITTED.
    pub state: State,
    /// Why it is SEND_FAIL.
    pub reason: Option<String>,
    /// Whether the host tries again by itself.
    pub retrying: bool,
    /// Where it is in Kafka, once it is.
    pub place: Option<(i32, Offset)>,
    /// The record or what is kept of the body, while it is not on Kafka. Lists
    /// leave it out: a page of bodies may be a gigabyte.
    pub record: Option<Bytes>,
    /// When a delayed message is due.
    pub deliver_at: Option<Timestamp>,
    /// Who handed it in, when that is known.
    pub sent_by: Option<SentBy>,
}

impl MessageRow {
    /// The topic of Kafka that it goes to: a broadcast goes to a companion of
    /// the topic that it was published on.
    #[must_use]
    pub fn goes_to(&self) -> Cow<'_, str> {
        let kind = if self.kind == Kind::Broadcast.as_str() { Kind::Broadcast } else { Kind::Event };
        kind.log_topic(&self.topic)
    }
}

/// A delivery as people see it; attempts are asked for apart.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryRow {
    pub key: DeliveryKey,
    pub message_id: String,
    /// The message's source; none in rows from before it was kept.
    pub source_hash: Option<SourceHash>,
    pub group: String,
    pub topic: String,
    /// The node that was to handle it, of a broadcast; none for an event.
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
    /// When it runs again; none means final, held or first in its turn.
    pub next_attempt_at: Option<Timestamp>,
    /// Invocations so far.
    pub number: u32,
    /// Attempts used up so far.
    pub counted: u32,
    /// The encoded record, while the store has it. Lists leave it out.
    pub record: Option<Bytes>,
}

/// Which messages.
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
    /// Taken at or after.
    pub from: Option<Timestamp>,
    /// Taken before.
    pub to: Option<Timestamp>,
}

/// Which deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Of this group.
    pub group: Option<String>,
    /// Of one of these groups (what a token may see).
    pub groups: Option<Vec<String>>,
    /// Of this topic.
    pub topic: Option<String>,
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
    /// Received (open) or settled (final) at or after.
    pub from: Option<Timestamp>,
    /// Received or settled before.
    pub to: Option<Timestamp>,
}

/// Which part of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The cursor that the page before gave out; opaque to all but the store.
    pub cursor: Option<String>,
    /// Rows at most; 1 to [`MAX_PAGE`].
    pub limit: u32,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    pub items: Vec<T>,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
    /// Whether rows may be missing because only a slice of time was searched.
    pub truncated: bool,
}

/// Sums of a group.
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
    /// Deliveries that are finally HANDLE_FAIL now.
    pub failed: u64,
}
