//! The messages to and from the [owner](super) of a partition. They are plain
//! data: senders depend on them, and they on no sender.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

use bytes::Bytes;
use courier_core::message::{Attempts, Offset};
use courier_core::partition::Release;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::foresight::Foresight;
use crate::consume::attempt::finished::FinishedAttempt;
use crate::consume::consumer::confirmed::Confirmed;
use crate::kafka::buffered::{BufferedRecord, TopicPartition};
use crate::store::{GiveUp, OpenRow, PositionId};

/// A message to an owner.
#[derive(Debug)]
pub enum OwnerMessage {
    /// An attempt ended, or could not begin.
    AttemptFinished(Box<FinishedAttempt>),
    /// A dispatched delivery was not run.
    NotStarted(Offset),
    /// The record of an open delivery was read again.
    Loaded(LoadedRecord),
    /// The answer to whether the message was handled before.
    LookedUp(ReadyDelivery, bool),
    /// Where the next record can be, when there are holes before it.
    LogEndMoved(Offset),
    /// A rerun was requested for these rows.
    RerunRequested(Vec<OpenRow>),
    /// The keys that are still open in older partitions, from before this one
    /// was added.
    OpenAhead(Vec<Bytes>),
    /// What Kafka is about to remove; `None` when the look failed.
    Foreseen(Option<Foresight>),
    /// A page of the open rows in the store.
    OpenRowsScanned(Vec<OpenRow>),
    /// Give the partition up within this time.
    Revoke(Duration),
    /// The partition is gone.
    Lost,
}

/// What a consumer holds of an owner that it started.
#[derive(Debug)]
pub struct OwnerHandle {
    /// The epoch of its claim.
    pub epoch: i64,
    /// The owner's mailbox.
    pub mail: mpsc::UnboundedSender<OwnerMessage>,
    pub position: PositionId,
    /// The durable position.
    pub durable: Arc<AtomicI64>,
    /// The next offset expected from the log.
    pub expected: Arc<AtomicI64>,
    /// Whether too many parked rows stop the partition.
    pub parked_full: watch::Receiver<bool>,
    /// Whether deliveries are dispatched or being written.
    pub busy: Arc<AtomicBool>,
    /// Up to which offset its records are known to be of its topic.
    pub confirmed: Confirmed,
    /// How often a newer epoch was seen and left to the owner's own settle.
    pub passed_over: u32,
}

/// The last message of an owner to its consumer.
#[derive(Debug)]
pub struct OwnerExit {
    pub place: TopicPartition,
    /// The epoch of its claim.
    pub epoch: i64,
    pub why: Release,
    /// The position that is durable.
    pub position: Offset,
}

/// What a worker holds of the owner of its delivery.
#[derive(Debug)]
pub struct OwnerRef {
    pub place: TopicPartition,
    pub position: PositionId,
    /// Its mailbox.
    pub mail: mpsc::UnboundedSender<OwnerMessage>,
    /// Cancelled when nothing more may begin.
    pub no_more: CancellationToken,
    /// Cancelled when running attempts must be dropped.
    pub dropped: CancellationToken,
    /// Whether the store refuses the partition's outcomes: an attempt that
    /// began now could not be stored either.
    pub refused: watch::Receiver<bool>,
}

impl OwnerRef {
    /// Whether an attempt may begin.
    #[must_use]
    pub fn may_begin(&self) -> bool {
        !self.no_more.is_cancelled() && !*self.refused.borrow()
    }

    /// Sends a message to the owner; an owner that has ended needs none.
    pub fn tell(&self, mail: OwnerMessage) {
        let _ = self.mail.send(mail);
    }
}

/// A delivery that has its lane's turn.
#[derive(Debug)]
pub struct ReadyDelivery {
    pub buffered: Arc<BufferedRecord>,
    /// Who owns it.
    pub owner: Arc<OwnerRef>,
    /// Its attempts before this one.
    pub attempts: Attempts,
    /// Whether it probes a gate that is half open.
    pub probe: bool,
    /// Calls it back before its attempt begins; none for one without a row,
    /// which nobody can give up.
    pub recall: Option<CancellationToken>,
}

/// A delivery whose record was read again.
#[derive(Debug)]
pub struct LoadedRecord {
    pub offset: Offset,
    /// Its attempts so far.
    pub attempts: Attempts,
    /// Whether a rerun was requested.
    pub asked: bool,
    /// Set when a person gave the delivery up.
    pub give_up: Option<GiveUp>,
    /// `None` when the store has no row for it any more.
    pub buffered: Option<Arc<BufferedRecord>>,
}
