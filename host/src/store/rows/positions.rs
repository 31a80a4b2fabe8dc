//! Where groups stand: positions, claims, and deliveries that are open.

use bytes::Bytes;
use courier_core::message::{Attempts, Offset, Timestamp};
use courier_core::status::State;
use serde::{Deserialize, Serialize};

use super::nodes::WriterId;
use crate::store::GiveUp;

/// A (group, topic, incarnation, partition), by its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PositionId(pub i64);

/// A delivery, by the position it belongs to and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    /// Group, topic, incarnation and partition.
    pub position: PositionId,
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

/// A claim on a partition.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Who wants to own it.
    pub writer: WriterId,
    pub group: String,
    pub topic: String,
    /// The node whose broadcasts of that topic these are; none for events,
    /// whose partitions go round.
    pub listener: Option<String>,
    /// Kafka's id of the topic; empty when it cannot be had.
    pub topic_id: String,
    pub partition: i32,
    /// Where to start when there is no position yet.
    pub fallback: Offset,
    /// Last offset + 1 of the log as Kafka says now: a position past it
    /// begins a new incarnation (see [`Renewal`](crate::store::Renewal)).
    pub log_end: Offset,
    /// What the same host received from here on came after Kafka had last told
    /// the id under which it was received; none where nothing did.
    pub unconfirmed: Option<Offset>,
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

/// Open deliveries that somebody asked to run a short while ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedLately {
    /// How many.
    pub rows: i64,
    /// When the last of them was asked for; none without any.
    pub newest: Option<Timestamp>,
}

/// An unfinished delivery, without its record.
#[derive(Clone, Debug)]
pub struct OpenRow {
    /// Its position.
    pub position: PositionId,
    pub offset: Offset,
    /// The lane's key: the record's key bytes, none for a record without one.
    pub key: Option<Bytes>,
    pub message_id: String,
    /// COMMITTED (waits in its lane), PUSH_FAIL or HANDLE_FAIL.
    pub state: State,
    /// When it is due; none when it waits for its lane's head or is held.
    pub next_attempt_at: Option<Timestamp>,
    /// Waits for a person.
    pub held: bool,
    /// Its attempts so far.
    pub attempts: Attempts,
    /// When the host first received it.
    pub received_at: Timestamp,
    /// Size of the record kept with it; 0 when only coordinates are kept, also
    /// when it was copied since, which has a bound of its own.
    pub record_bytes: usize,
    /// When somebody last asked for it to run, or gave it up.
    pub asked_at: Option<Timestamp>,
    /// What a person said who gave it up; its owner ends it in its lane's turn.
    pub give_up: Option<GiveUp>,
}

/// An unfinished delivery's record.
#[derive(Clone, Debug)]
pub struct OpenRecord {
    pub row: OpenRow,
    /// The encoded record; none when it must be read from Kafka again.
    pub record: Option<Bytes>,
}

/// A position as people see it.
#[derive(Clone, Debug)]
pub struct PositionRow {
    pub id: PositionId,
    pub group: String,
    pub topic: String,
    /// The node whose broadcasts of that topic these are; none for events.
    pub listener: Option<String>,
    pub incarnation: i32,
    pub partition: i32,
    /// Everything below is settled or parked.
    pub next: Offset,
    pub epoch: i64,
    /// The node that claimed it last.
    pub node: Option<String>,
}

/// Which lost ranges are asked for. The store filters: the newest of all groups
/// would hide those of a group with few.
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
    /// The position that lost it; none for a range of earlier versions.
    pub position: Option<PositionId>,
    pub group: String,
    pub topic: String,
    /// The node whose broadcasts these were; none for events.
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
