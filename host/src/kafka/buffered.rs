//! Records in memory, and the budget that bounds them.
//!
//! The consumer thread adds records and the owner of their partition takes
//! them. The channel between them needs no bound of its own: every record holds
//! a share of the group's [`Budget`] until its outcome is durable, and the
//! thread does not poll while the budget is used up, so that further records
//! stay in Kafka. Where a group reads several topics, those that hold more than their
//! part of the budget are paused in its place ([`TopicUse`]): the records of a binding
//! that stands still stay in memory, and must not keep its siblings from theirs.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use courier_core::message::{Kind, Message, Offset, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::record::Record;

/// Records of one group that may be in memory on this node.
pub const MAX_BUFFERED_RECORDS: usize = 32_768;
/// Their bytes.
pub const MAX_BUFFERED_BYTES: usize = 64 * 1024 * 1024;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic without its companion suffix.
    pub topic: Arc<str>,
    pub partition: i32,
    /// Events, or broadcasts, which are in the companion of the topic.
    pub kind: Kind,
}

impl TopicPartition {
    /// The topic's name in Kafka.
    #[must_use]
    pub fn log_topic(&self) -> Cow<'_, str> {
        self.kind.log_topic(&self.topic)
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.log_topic(), self.partition)
    }
}

/// The memory budget of a group.
#[derive(Debug)]
pub struct Budget {
    records: AtomicUsize,
    bytes: AtomicUsize,
    /// Bytes of a record that is kept at all.
    max_record: usize,
}

impl Budget {
    /// An unused budget for records of at most `max_record` bytes each.
    #[must_use]
    pub fn new(max_record: usize) -> Self {
        Self { records: AtomicUsize::new(0), bytes: AtomicUsize::new(0), max_record }
    }

    /// Bytes of a record that is kept at all.
    #[must_use]
    pub fn max_record(&self) -> usize {
        self.max_record
    }

    /// Whether the budget is used up.
    #[must_use]
    pub fn is_used_up(&self) -> bool {
        self.records.load(Ordering::Relaxed) >= MAX_BUFFERED_RECORDS
            || self.bytes.load(Ordering::Relaxed) >= MAX_BUFFERED_BYTES
    }

    /// Records that the group has in memory.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    fn take(self: &Arc<Self>, topic: &Arc<TopicUse>, bytes: usize) -> BudgetShare {
        self.records.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        topic.records.fetch_add(1, Ordering::Relaxed);
        topic.bytes.fetch_add(bytes, Ordering::Relaxed);
        BudgetShare { budget: Arc::clone(self), topic: Arc::clone(topic), bytes }
    }
}

/// What the records of one topic hold of the budget of their group.
#[derive(Debug, Default)]
pub struct TopicUse {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

impl TopicUse {
    /// Whether the topic holds its part of the budget, which `topics` topics share, or
    /// more. When the budget is used up at least one does.
    #[must_use]
    pub fn is_part_used_up(&self, topics: usize) -> bool {
        self.holds(MAX_BUFFERED_RECORDS / topics.max(1), MAX_BUFFERED_BYTES / topics.max(1))
    }

    /// Whether it holds less than half of that part.
    #[must_use]
    pub fn is_half_free(&self, topics: usize) -> bool {
        !self.holds(MAX_BUFFERED_RECORDS / topics.max(1) / 2, MAX_BUFFERED_BYTES / topics.max(1) / 2)
    }

    fn holds(&self, records: usize, bytes: usize) -> bool {
        self.records.load(Ordering::Relaxed) >= records.max(1) || self.bytes.load(Ordering::Relaxed) >= bytes.max(1)
    }
}

/// A record's share of the budget, given back when it is dropped.
#[derive(Debug)]
struct BudgetShare {
    budget: Arc<Budget>,
    topic: Arc<TopicUse>,
    bytes: usize,
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.budget.records.fetch_sub(1, Ordering::Relaxed);
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.topic.records.fetch_sub(1, Ordering::Relaxed);
        self.topic.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A record in memory.
#[derive(Debug)]
pub struct BufferedRecord {
    /// Where it lies.
    pub place: TopicPartition,
    /// Where in the partition.
    pub offset: Offset,
    pub record: Record,
    /// When the host first received it.
    pub received_at: Timestamp,
    /// When a rerun was last requested; `None` if never.
    pub asked_at: Option<Timestamp>,
    /// Parsed on first use: a skipped record need not be parsed.
    message: OnceLock<Message>,
    _share: Option<BudgetShare>,
    _room: Option<OwnedSemaphorePermit>,
}

impl BufferedRecord {
    /// A record from the log, which counts against the budget.
    #[must_use]
    pub fn fetched(
        place: TopicPartition,
        offset: Offset,
        record: Record,
        received_at: Timestamp,
        (budget, topic): (&Arc<Budget>, &Arc<TopicUse>),
    ) -> Self {
        let share = budget.take(topic, record.size());
        Self {
            place,
            offset,
            record,
            received_at,
            asked_at: None,
            message: OnceLock::new(),
            _share: Some(share),
            _room: None,
        }
    }

    /// A record that was reloaded for an open delivery. It counts against a
    /// bound of its own: a parked lane must be able to run while new records
    /// fill the budget.
    #[must_use]
    pub fn reread(
        place: TopicPartition,
        offset: Offset,
        record: Record,
        (received_at, asked_at): (Timestamp, Option<Timestamp>),
        room: OwnedSemaphorePermit,
    ) -> Self {
        Self { place, offset, record, received_at, asked_at, message: OnceLock::new(), _share: None, _room: Some(room) }
    }

    /// The key by which it waits for others, and by which people find it. A
    /// record with a key of its own need not be understood for it.
    #[must_use]
    pub fn key(&self) -> Option<Bytes> {
        match (&self.record.key, self.message.get()) {
            (Some(key), _) => Some(key.clone()),
            (None, Some(message)) => message.key.clone(),
            (None, None) => self.record.lane_key(),
        }
    }

    /// The message it carries.
    pub fn message(&self) -> &Message {
        self.message.get_or_init(|| {
            self.record.to_message_of(self.place.kind, &self.place.topic, self.place.partition, self.offset)
        })
    }
}

/// An item of the feed from the consumer thread to an owner.
#[derive(Debug)]
pub enum FeedItem {
    /// Records, in their order.
    Records(Vec<BufferedRecord>),
    /// The end of the log was read: there may be holes between the last record
    /// and the end.
    End,
}

/// The feed of one partition, from the consumer thread to its owner.
pub type Feed = mpsc::UnboundedSender<FeedItem>;
