//! The rows of the way out: what is known of them, and how they end.

use std::sync::Arc;
use std::time::Duration;

use crate::message::Offset;

/// First and longest wait of a row that cannot be sent now. The longest is
/// short, so that rows go out soon after the cause has passed.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// The id of an outbound row: ascending in the order of insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(pub i64);

/// Kafka's id of a topic; empty when the broker reports none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicId(pub Arc<str>);

impl TopicId {
    /// Whether both ids are known and differ: then the topic was deleted and made
    /// anew under the same name.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        !self.0.is_empty() && !other.0.is_empty() && self != other
    }
}

/// A row as the store has it, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The id of the row.
    pub id: RowId,
    /// The topic it goes to.
    pub topic: Arc<str>,
    /// The raw key; rows without a key have no order.
    pub key: Option<Arc<[u8]>>,
    /// The hash of the key (or of the id) that chooses the partition, as Kafka's
    /// Java client computes it: not negative.
    pub hash: u32,
    /// Bytes of the record, as `max.message.bytes` counts them.
    pub size_bytes: usize,
    /// The chosen partition, and the topic that it was chosen in.
    pub chosen: Option<(TopicId, i32)>,
    /// The first offset at which the record can lie, if the fate of an earlier
    /// send is unknown.
    pub unknown_from: Option<Offset>,
    /// How many passes it has waited through.
    pub tries: u32,
}

/// The state of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicAnswer {
    /// The topic exists.
    Known {
        /// Its id.
        id: TopicId,
        /// The number of partitions, at least one.
        partitions: i32,
        /// The largest record in bytes that it takes, where that is known.
        max_bytes: Option<usize>,
    },
    /// The topic does not exist, or its state is unknown: its rows wait for the
    /// reason given.
    Unknown(String),
    /// No topic can have this name, for the reason given.
    Invalid(String),
}

/// The result of producing or looking up a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Kafka has it at this offset.
    Acknowledged(Offset),
    /// Kafka will never take the record as it is, for the reason given.
    Refused(String),
    /// Kafka does not take it now, for the reason given.
    Later(String),
    /// The fate is unknown; the record lies at this offset or later, or nowhere.
    Unknown(Offset),
}

/// The partition that was chosen for a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The row.
    pub row: RowId,
    /// The topic it was chosen in.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: i32,
}

/// The result of a row in a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowEnd {
    /// Kafka has the record: the row is deleted.
    Acknowledged {
        /// The partition.
        partition: i32,
        /// The offset of the record.
        offset: Offset,
    },
    /// The row waits for another pass.
    Retry(Retry),
    /// Kafka can never take the record as it is: it is kept as undelivered, with
    /// its content.
    Undelivered(Undeliverable),
}

/// Why and how long a row waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The reason, for people.
    pub reason: String,
    /// The wait until the next try.
    pub wait: Duration,
    /// The first offset at which the record can lie, if its fate is unknown.
    pub unknown_from: Option<Offset>,
}

/// Why a row can never be sent as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undeliverable {
    /// A stable word: `too_large`, `invalid_topic` or `refused`.
    pub code: &'static str,
    /// The reason, for people.
    pub reason: String,
}

pub(super) fn undelivered(code: &'static str, reason: String) -> RowEnd {
    RowEnd::Undelivered(Undeliverable { code, reason })
}

pub(super) fn retry(reason: String, tries: u32, unknown_from: Option<Offset>) -> RowEnd {
    let wait = RETRY_FIRST.saturating_mul(1 << tries.min(8)).min(RETRY_LONGEST);
    RowEnd::Retry(Retry { reason, wait, unknown_from })
}
