//! How others reach the [owner](super) of a partition, and what they tell
//! each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

use bytes::Bytes;
use courier_core::message::Offset;
use courier_core::partition::Release;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::foresight::Foresight;
use crate::consume::attempt::finished::FinishedAttempt;
use crate::consume::consumer::confirmed::Confirmed;
use crate::kafka::buffered::{BufferedRecord, TopicPartition};
use crate::store::{GiveUp, OpenRow, PositionId};

/// What an owner is told by others.
#[derive(Debug)]
pub enum OwnerMessage {
    /// An attempt ended, or could not begin.
    AttemptFinished(Box<FinishedAttempt>),
    /// A dispatched delivery was not run.
    NotStarted(Offset),
    /// The record of an open delivery was read again.
    Loaded(LoadedRecord),
    /// It was looked up whether a message was handled before.
    LookedUp(DedupeTurn, bool),
    /// Where the next record can stand, when there are holes before it.
    LogEndMoved(Offset),
    /// Somebody asked that these run.
    RerunRequested(Vec<OpenRow>),
    /// The keys that are open in older partitions still, from before this one
    /// was added.
    OpenAhead(Vec<Bytes>),
    /// What Kafka is about to remove; none when nobody could look.
    Foreseen(Option<Foresight>),
    /// Some open rows, as they are in the store.
    OpenRowsScanned(Vec<OpenRow>),
    /// Give the partition up within the time.
    Revoke(Duration),
    /// The partition is gone.
    Lost,
}

/// How a group speaks to an owner.
#[derive(Debug)]
pub struct OwnerHandle {
    /// The epoch it owns under.
    pub epoch: i64,
    /// The owner's mailbox.
    pub mail: mpsc::UnboundedSender<OwnerMessage>,
    pub position: PositionId,
    /// The durable position.
    pub durable: Arc<AtomicI64>,
    /// The next offset expected from the log.
    pub expected: Arc<AtomicI64>,
    /// Whether open rows hold the partition back.
    pub parked_full: watch::Receiver<bool>,
    /// Whether anything is dispatched or being written.
    pub busy: Arc<AtomicBool>,
    /// Up to where what it received is known to be of its topic.
    pub confirmed: Confirmed,
    /// How often a newer epoch was seen and left to the owner's own settle.
    pub passed_over: u32,
}

/// What an owner tells its group when it ends.
#[derive(Debug)]
pub struct OwnerExit {
    pub place: TopicPartition,
    /// The epoch it had.
    pub epoch: i64,
    pub why: Release,
    /// The position that is durable.
    pub position: Offset,
}

/// How a worker reaches the owner of the delivery it runs.
#[derive(Debug)]
pub struct OwnerRef {
    pub place: TopicPartition,
    pub position: PositionId,
    /// Its mailbox.
    pub mail: mpsc::UnboundedSender<OwnerMessage>,
    /// Nothing more may begin.
    pub no_more: CancellationToken,
    /// What runs is to be dropped.
    pub dropped: CancellationToken,
    /// Whether the store refuses the partition's outcomes: nothing may begin
    /// whose outcome could not be kept either.
    pub refused: watch::Receiver<bool>,
}

impl OwnerRef {
    /// Whether an attempt may begin.
    #[must_use]
    pub fn may_begin(&self) -> bool {
        !self.no_more.is_cancelled() && !*self.refused.borrow()
    }

    /// Tells the owner; one that has ended needs no telling.
    pub fn tell(&self, mail: OwnerMessage) {
        let _ = self.mail.send(mail);
    }
}

/// A delivery that has its lane's turn.
#[derive(Debug)]
pub struct DedupeTurn {
    pub in_hand: Arc<BufferedRecord>,
    /// Invocations so far.
    pub number: u32,
    /// Attempts used up so far.
    pub counted: u32,
}

/// A delivery whose record was read again.
#[derive(Debug)]
pub struct LoadedRecord {
    pub offset: Offset,
    /// Invocations so far.
    pub number: u32,
    /// Attempts used up so far.
    pub counted: u32,
    /// Whether somebody asked that it runs.
    pub asked: bool,
    /// What a person said who gave it up.
    pub give_up: Option<GiveUp>,
    /// None when the store has no row for it any more.
    pub in_hand: Option<Arc<BufferedRecord>>,
}
