//! Receiving: records in memory, and how many of them there may be.
//!
//! The consumer thread puts records here and the task that owns the partition
//! takes them out. The channel between them needs no bound of its own, since
//! every record in it holds a share of the group's [`Budget`] until its outcome
//! is durable, and the thread does not poll for more while the budget is used
//! up. It refuses nothing: what does not fit is left in Kafka.

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

/// A topic and a partition of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic that senders publish on.
    pub topic: Arc<str>,
    pub partition: i32,
    /// Which of the topic's messages: broadcasts lie in a companion of it.
    pub kind: Kind,
}

impl TopicPartition {
    /// The topic as Kafka knows it.
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

/// What a group may keep in memory.
#[derive(Debug)]
pub struct Budget {
    records: AtomicUsize,
    bytes: AtomicUsize,
    /// Bytes of a record that is kept at all.
    max_record: usize,
}

impl Budget {
    /// A budget of which nothing is used, for records of at most `max_record`
    /// bytes each.
    #[must_use]
    pub fn new(max_record: usize) -> Self {
        Self { records: AtomicUsize::new(0), bytes: AtomicUsize::new(0), max_record }
    }

    /// Bytes of a record that is kept at all.
    #[must_use]
    pub fn max_record(&self) -> usize {
        self.max_record
    }

    /// Whether no more should be taken from Kafka for now.
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

    fn take(self: &Arc<Self>, bytes: usize) -> BudgetShare {
        self.records.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        BudgetShare { budget: Arc::clone(self), bytes }
    }
}

/// A record's share of the budget, given back when it is dropped.
#[derive(Debug)]
struct BudgetShare {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.budget.records.fetch_sub(1, Ordering::Relaxed);
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
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
    /// When somebody last asked that it runs; none who never did.
    pub asked_at: Option<Timestamp>,
    /// Read only when somebody wants it: a record that is only passed over
    /// need not be understood.
    message: OnceLock<Message>,
    _share: Option<BudgetShare>,
    _room: Option<OwnedSemaphorePermit>,
}

impl BufferedRecord {
    /// A record that came from the log and counts against the budget.
    #[must_use]
    pub fn fetched(
        place: TopicPartition,
        offset: Offset,
        record: Record,
        received_at: Timestamp,
        budget: &Arc<Budget>,
    ) -> Self {
        let share = budget.take(record.size());
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

    /// A record that was read again for an open delivery. It holds its own
    /// room, and not the budget: a parked lane must be able to go on while new
    /// records fill the budget.
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

/// What the consumer thread tells the owner of a partition.
#[derive(Debug)]
pub enum FeedItem {
    /// Records, in their order.
    Records(Vec<BufferedRecord>),
    /// For a moment there was nothing more to read: what lies between the last
    /// record and the end of the log may be holes.
    End,
}

/// Where the consumer thread puts what it has for the owner of one partition.
pub type Feed = mpsc::UnboundedSender<FeedItem>;
