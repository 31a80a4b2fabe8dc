//! Positions of groups, claims on partitions, and open deliveries.

use bytes::Bytes;
use courier_core::message::{Attempts, Offset, Timestamp};
use courier_core::status::State;
use serde::{Deserialize, Serialize};

use super::nodes::WriterId;
use crate::store::GiveUp;

/// A position, which is a (group, topic, incarnation, partition), by the number of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PositionId(pub i64);

/// A delivery, by its position and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    pub position: PositionId,
    pub offset: Offset,
}

/// Written as `12-345`, which is opaque to all but the store and fits into a URL.
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

/// A claim on a partition.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// The writer that becomes the owner.
    pub writer: WriterId,
    pub group: String,
    pub topic: String,
    /// The node that listens, for broadcasts; `None` for events, whose partitions move
    /// from node to node.
    pub listener: Option<String>,
    /// Kafka's id of the topic; empty when it is unknown.
    pub topic_id: String,
    pub partition: i32,
    /// Where to start when there is no position yet.
    pub fallback: Offset,
    /// The last offset of the log plus one. A position past it begins a new incarnation,
    /// see [`Renewal`](crate::store::Renewal).
    pub log_end: Offset,
    /// The first offset that this host received after it last read the topic's id, if
    /// there is one: records from here on may be of another topic.
    pub unconfirmed: Option<Offset>,
}

/// What the new owner of a partition must know.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub position: PositionId,
    /// The incarnation of the topic, from 0.
    pub incarnation: i32,
    /// The epoch to write under.
    pub epoch: i64,
    /// The position: every offset below it is settled or parked.
    pub next: Offset,
    /// Offsets at or above `next` that are settled already, ascending.
    pub settled: Vec<Offset>,
    /// Open deliveries by offset, without their records.
    pub open: Vec<OpenRow>,
}

/// The requests of reruns within a window of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedLately {
    /// How many open deliveries have one.
    pub rows: i64,
    /// The time of the newest, if there is any.
    pub newest: Option<Timestamp>,
}

/// An open delivery without its record.
#[derive(Clone, Debug)]
pub struct OpenRow {
    pub position: PositionId,
    pub offset: Offset,
    /// The record's key, by which its lane is found; `None` for a record without one.
    pub key: Option<Bytes>,
    pub message_id: String,
    /// COMMITTED (waits in its lane), PUSH_FAIL or HANDLE_FAIL.
    pub state: State,
    /// When it is due; `None` when it waits for its lane's head or is held.
    pub next_attempt_at: Option<Timestamp>,
    /// Whether it waits for a person.
    pub held: bool,
    /// Its attempts so far.
    pub attempts: Attempts,
    /// When the host first received it.
    pub received_at: Timestamp,
    /// The size of the record that was stored with it; 0 when only coordinates were. A
    /// copy that was made later has a bound of its own and does not count.
    pub record_bytes: usize,
    /// When somebody last requested a rerun, or gave it up.
    pub asked_at: Option<Timestamp>,
    /// The decision to give it up, if there is one. Its owner ends it in its lane's turn.
    pub give_up: Option<GiveUp>,
}

/// An open delivery with its record.
#[derive(Clone, Debug)]
pub struct OpenRecord {
    pub row: OpenRow,
    /// The encoded record; `None` when it has to be read from Kafka again.
    pub record: Option<Bytes>,
}

/// A position as people see it.
#[derive(Clone, Debug)]
pub struct PositionRow {
    pub id: PositionId,
    pub group: String,
    pub topic: String,
    /// The node that listens, for broadcasts; `None` for events.
    pub listener: Option<String>,
    pub incarnation: i32,
    pub partition: i32,
    /// The position: every offset below it is settled or parked.
    pub next: Offset,
    pub epoch: i64,
    /// The node that claimed it last.
    pub node: Option<String>,
}

/// Selects lost ranges. The store filters and not its caller, since the newest ranges of
/// all groups would hide those of a group with few.
#[derive(Clone, Debug, Default)]
pub struct LostRangeFilter {
    /// Of these groups; `None` for all.
    pub groups: Option<Vec<String>>,
    /// Of these topics; `None` for all.
    pub topics: Option<Vec<String>>,
    /// Of this position.
    pub position: Option<PositionId>,
}

/// Offsets that Kafka no longer had when their turn came.
#[derive(Clone, Debug)]
pub struct LostRange {
    /// The position that lost it; `None` for a range of an earlier version.
    pub position: Option<PositionId>,
    pub group: String,
    pub topic: String,
    /// The node that listened, for broadcasts; `None` for events.
    pub listener: Option<String>,
    pub partition: i32,
    /// First lost offset.
    pub from: Offset,
    /// First offset after them.
    pub to: Offset,
    pub why: String,
    /// When it was found.
    pub found_at: Timestamp,
}
