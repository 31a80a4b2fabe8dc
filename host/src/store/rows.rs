//! The shapes of what is stored, the same for both dialects.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;
use courier_core::verdict::Verdict;
use serde::{Deserialize, Serialize};

/// Relay shards: hash(topic, key) mod this.
pub const SHARDS: u32 = 64;
/// Rows one page of a list may have.
pub const MAX_PAGE: u32 = 1_000;
/// How much of the body of a message that will never be sent is kept.
pub const REFUSED_BODY_BYTES: usize = 4 * 1024;

/// A process's right to write: one incarnation of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WriterId(pub i64);

/// A (group, topic, incarnation, partition), by its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PositionId(pub i64);

/// A delivery, by the position it belongs to and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    /// Group, topic, incarnation and partition.
    pub position: PositionId,
    /// The record's offset.
    pub offset: Offset,
}

/// `12-345`: opaque to all but the store, and fit for a URL.
impl std::fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.position.0, self.offset)
    }
}

impl std::str::FromStr for DeliveryKey {
    type Err = String;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        let parts = id.split_once('-').and_then(|(position, offset)| {
            let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
            (plain(position) && plain(offset)).then(|| Some((position.parse().ok()?, offset.parse().ok()?)))?
        });
        let Some((position, offset)) = parts else {
            return Err(format!("{id:?} is no delivery: take the id from a list of deliveries"));
        };
        Ok(Self { position: PositionId(position), offset: Offset(offset) })
    }
}

/// The process behind a node's lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Random, new for each start of the process.
    pub incarnation: String,
    /// The machine's boot id, or empty where none can be had.
    pub boot: String,
    /// Process id on that machine.
    pub pid: u32,
    /// When the process started, in the machine's own clock ticks, so that a
    /// reused process id is not taken for it.
    pub started: u64,
}

/// What a process gets by joining.
#[derive(Clone, Copy, Debug)]
pub struct Joined {
    /// The writer to settle as.
    pub writer: WriterId,
    /// The store's clock.
    pub now: Timestamp,
}

/// A node and its lease.
#[derive(Clone, Debug)]
pub struct NodeRow {
    /// The node's name.
    pub name: String,
    /// When this incarnation joined.
    pub joined_at: Timestamp,
    /// Its lease ends here unless it is renewed.
    pub lease_until: Timestamp,
    /// Whether the lease is still good by the store's clock.
    pub live: bool,
}

/// A claim on a partition.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Who wants to own it.
    pub writer: WriterId,
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Kafka's id of the topic; empty when it cannot be had.
    pub topic_id: String,
    /// The partition.
    pub partition: i32,
    /// Where to start when there is no position yet.
    pub fallback: Offset,
    /// Last offset + 1 of the log as Kafka says now: a position past it
    /// begins a new incarnation at `fallback`.
    pub log_end: Offset,
}

/// What the new owner of a partition must know.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The row that is owned.
    pub position: PositionId,
    /// The incarnation of the topic, from 0.
    pub incarnation: i32,
    /// The epoch to write under.
    pub epoch: i64,
    /// Everything below is settled or parked.
    pub next: Offset,
    /// Offsets at or above `next` that are settled already, ascending.
    pub settled: Vec<Offset>,
    /// Open deliveries, by offset (records not loaded).
    pub open: Vec<OpenRow>,
}

/// An unfinished delivery, without its record.
#[derive(Clone, Debug)]
pub struct OpenRow {
    /// Its position.
    pub position: PositionId,
    /// Its offset.
    pub offset: Offset,
    /// The lane's key: the record's key bytes, none for a record without one.
    pub key: Option<Bytes>,
    /// COMMITTED (waits in its lane), PUSH_FAIL or HANDLE_FAIL.
    pub state: State,
    /// When it is due; none when it waits for its lane's head or is held.
    pub next_attempt_at: Option<Timestamp>,
    /// Waits for a person.
    pub held: bool,
    /// Invocations so far.
    pub number: u32,
    /// Attempts used up so far.
    pub counted: u32,
    /// When the host first received it.
    pub received_at: Timestamp,
    /// Size of the record kept with it; 0 when only coordinates are kept.
    pub record_bytes: usize,
    /// When somebody last asked for it to run.
    pub asked_at: Option<Timestamp>,
}

/// An unfinished delivery's record.
#[derive(Clone, Debug)]
pub struct OpenRecord {
    /// The row.
    pub row: OpenRow,
    /// The encoded record; none when it must be read from Kafka again.
    pub record: Option<Bytes>,
}

/// Outcomes of one partition, in the order they were decided, each delivery at
/// most once.
#[derive(Clone, Debug)]
pub struct Part {
    /// The group, for locking in key order and for counters.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The position's row.
    pub position: PositionId,
    /// The epoch it was claimed under.
    pub epoch: i64,
    /// The position once these outcomes are written.
    pub next: Offset,
    /// The outcomes.
    pub outcomes: Vec<OutcomeRow>,
}

/// One delivery's outcome and what belongs to it.
#[derive(Clone, Debug)]
pub struct OutcomeRow {
    /// The record's offset.
    pub offset: Offset,
    /// Whether the delivery has an open row that this must replace (its row
    /// count is checked), or must not have one.
    pub had_row: bool,
    /// Kafka's time of the record; its UTC day is part of the final row's key.
    pub record_time: Timestamp,
    /// The message's id.
    pub message_id: String,
    /// The record's raw key.
    pub key: Option<Bytes>,
    /// The message's type; empty when unknown.
    pub type_name: String,
    /// Node that worked on it.
    pub node: Arc<str>,
    /// When the host first received it.
    pub received_at: Timestamp,
    /// The last verdict, if it was ever invoked or pushed.
    pub verdict: Option<Verdict>,
    /// Why, in the handler's words; sanitised by the store where it must be.
    pub reason: Option<String>,
    /// Groups failures that are alike.
    pub fingerprint: Option<String>,
    /// Digest of the plugin version that made the last attempt.
    pub version: Option<Arc<str>>,
    /// When the last attempt began.
    pub started_at: Option<Timestamp>,
    /// Invocations so far.
    pub number: u32,
    /// Attempts used up so far.
    pub counted: u32,
    /// What the delivery becomes.
    pub to: Becomes,
    /// Attempts to be kept: failed and repeated ones, and those with a log.
    pub attempts: Vec<AttemptRow>,
    /// What goes to Kafka with it: emissions of a success, dead letters.
    pub outbound: Vec<NewOutbound>,
    /// Key/value writes of a success; `None` deletes.
    pub state_writes: Vec<(String, Option<Bytes>)>,
}

/// What a delivery becomes.
#[derive(Clone, Debug)]
pub enum Becomes {
    /// A final row: HANDLED, or HANDLE_FAIL with its record kept.
    Final {
        /// HANDLED or HANDLE_FAIL.
        state: State,
        /// When it was decided.
        settled_at: Timestamp,
        /// The encoded record of a failed one, when it is at hand.
        record: Option<Bytes>,
    },
    /// An open row.
    Open {
        /// COMMITTED (parked behind its lane's head), PUSH_FAIL or HANDLE_FAIL.
        state: State,
        /// When it is due; none when it waits for the head or is held.
        next_attempt_at: Option<Timestamp>,
        /// Waits for a person.
        held: bool,
        /// The encoded record for a row that is new; none keeps what the row
        /// has, or keeps only coordinates.
        record: Option<Bytes>,
    },
}

/// The result of a settle.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Indices of parts whose epoch was older: nothing of them was written.
    pub stale: Vec<usize>,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptRow {
    /// Counts invocations from 1.
    pub number: u32,
    /// Whether it used up one of `max_attempts`.
    pub counted: bool,
    /// Digest of the plugin version.
    pub version: Option<Arc<str>>,
    /// Node that ran it.
    pub node: Arc<str>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// What it concluded.
    pub verdict: Verdict,
    /// Why.
    pub reason: Option<String>,
    /// Groups failures that are alike.
    pub fingerprint: Option<String>,
    /// What the handler logged.
    pub log: Option<String>,
}

/// A row the relay will produce.
#[derive(Clone, Debug)]
pub struct NewOutbound {
    /// The message's id.
    pub message_id: String,
    /// Where it goes.
    pub topic: String,
    /// The message's type.
    pub type_name: String,
    /// The sending service.
    pub source: String,
    /// The raw key.
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
}

/// A row the relay has to produce.
#[derive(Clone, Debug)]
pub struct OutboundRow {
    /// Ascending in the order of insertion.
    pub id: i64,
    /// Its shard.
    pub shard: i32,
    /// The message's id.
    pub message_id: String,
    /// Where it goes.
    pub topic: String,
    /// The partition chosen before, if one was.
    pub partition: Option<i32>,
    /// The raw key.
    pub key: Option<Bytes>,
    /// The whole record, encoded.
    pub record: Bytes,
    /// How often it was tried.
    pub tries: u32,
}

/// What became of an outbound row.
#[derive(Clone, Debug)]
pub struct Relayed {
    /// The row.
    pub id: i64,
    /// Its shard.
    pub shard: i32,
    /// What happened.
    pub result: RelayResult,
}

/// What happened to an outbound row.
#[derive(Clone, Debug)]
pub enum RelayResult {
    /// Kafka has it.
    Taken {
        /// Where.
        partition: i32,
        /// Where in it.
        offset: Offset,
    },
    /// Kafka will never take it.
    Refused {
        /// Why, for people.
        reason: String,
    },
    /// Not now.
    Later {
        /// Why, for people.
        reason: String,
        /// How long to wait.
        wait: Duration,
    },
}

/// A message that a sender hands in.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Its id.
    pub id: String,
    /// SHA-256 of everything that makes it the same message.
    pub digest: [u8; 32],
    /// The raw key.
    pub key: Option<Bytes>,
    /// The sending service.
    pub source: String,
    /// The topic.
    pub topic: String,
    /// The type.
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
}

/// What the store says to a message handed in.
#[derive(Clone, Debug)]
pub enum Accepted {
    /// It is new and stored.
    New,
    /// The same message was handed in before.
    Same(Box<MessageRow>),
    /// Another message has this id.
    Other,
}

/// A message that was sent directly and taken.
#[derive(Clone, Debug)]
pub struct SentMessage {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub partition: i32,
    /// Where in it.
    pub offset: Offset,
}

/// A message of the send side.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageRow {
    /// Its id.
    pub id: String,
    /// The raw key.
    pub key: Option<Bytes>,
    /// The sending service.
    pub source: String,
    /// The topic.
    pub topic: String,
    /// The type.
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
}

/// A delivery as people see it; attempts are asked for apart.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryRow {
    /// Which one.
    pub key: DeliveryKey,
    /// The message's id.
    pub message_id: String,
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The incarnation of the topic.
    pub incarnation: i32,
    /// The partition.
    pub partition: i32,
    /// The record's raw key.
    pub record_key: Option<Bytes>,
    /// The message's type.
    pub type_name: String,
    /// Its state.
    pub state: State,
    /// The last verdict.
    pub verdict: Option<Verdict>,
    /// Why.
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
#[derive(Clone, Debug, Default)]
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
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
    /// Whether rows may be missing because only a slice of time was searched.
    pub truncated: bool,
}

/// A position as people see it.
#[derive(Clone, Debug)]
pub struct PositionRow {
    /// The row.
    pub id: PositionId,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The incarnation of the topic.
    pub incarnation: i32,
    /// The partition.
    pub partition: i32,
    /// Everything below is settled or parked.
    pub next: Offset,
    /// The epoch.
    pub epoch: i64,
    /// The node that claimed it last.
    pub node: Option<String>,
}

/// Sums of a group.
#[derive(Clone, Debug, Default)]
pub struct GroupTotals {
    /// The group.
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

/// Offsets that Kafka no longer had when their turn came.
#[derive(Clone, Debug)]
pub struct LostRange {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// First lost offset.
    pub from: Offset,
    /// First offset after them.
    pub to: Offset,
    /// Why.
    pub why: String,
    /// When it was found.
    pub found_at: Timestamp,
}

/// A version that was uploaded.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// The plugin.
    pub plugin: String,
    /// `sha256:<hex>`.
    pub digest: String,
    /// The component.
    pub wasm: Bytes,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// What it says of itself, as JSON.
    pub wants: Option<String>,
    /// Who uploaded it.
    pub by: String,
}

/// A stored version.
#[derive(Clone, Debug)]
pub struct VersionRow {
    /// `sha256:<hex>`.
    pub digest: String,
    /// Size of the component.
    pub size: u64,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// What it says of itself, as JSON.
    pub wants: Option<String>,
    /// Who uploaded it.
    pub by: String,
    /// When.
    pub created_at: Timestamp,
}

/// A plugin with its history.
#[derive(Clone, Debug)]
pub struct PluginRow {
    /// Its name.
    pub name: String,
    /// The active digest, if one was activated.
    pub active: Option<String>,
    /// Versions, newest first.
    pub versions: Vec<VersionRow>,
    /// Activations (digest, when, by whom), newest first.
    pub activations: Vec<(String, Timestamp, String)>,
}
