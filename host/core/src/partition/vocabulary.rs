//! The types that cross the border of the machine: its bounds, its events, its
//! actions and the batches to be written.

use std::collections::HashSet;
use std::sync::Arc;

use crate::lanes::LaneKey;
use crate::message::{Attempts, Epoch, Offset, Timestamp};
use crate::status::State;
use crate::verdict::Outcome;

/// How much a partition may hold at once. The defaults apply in production;
/// tests narrow them.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Received offsets at or above the position.
    pub max_gap: usize,
    /// Records in memory that are not open rows.
    pub max_in_memory: usize,
    /// Bytes of the records in memory that are not open rows.
    pub max_in_memory_bytes: usize,
    /// Open rows of this partition.
    pub max_parked: usize,
    /// Bytes of records kept in open rows; beyond it a row keeps only coordinates.
    pub max_parked_bytes: usize,
    /// Outcomes in one batch.
    pub max_batch: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_gap: 50_000,
            max_in_memory: 16_384,
            max_in_memory_bytes: 16 * 1024 * 1024,
            max_parked: 100_000,
            max_parked_bytes: 64 * 1024 * 1024,
            max_batch: 1_000,
        }
    }
}

/// What the store returned to the new owner.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The epoch to write under.
    pub epoch: Epoch,
    /// Every delivery below this offset is settled or an open row.
    pub position: Offset,
    /// Settled offsets at or above the position.
    pub settled: Vec<Offset>,
    /// Open deliveries, ascending by offset.
    pub open: Vec<OpenDelivery>,
    /// Lanes that may not start yet: the partition was added to its topic, and
    /// deliveries of these keys are open in an older partition.
    pub blocked: HashSet<LaneKey>,
}

/// A delivery with an open row in the store.
#[derive(Clone, Debug)]
pub struct OpenDelivery {
    /// The offset of its record.
    pub offset: Offset,
    /// Its lane.
    pub lane: LaneKey,
    /// COMMITTED, PUSH_FAIL or HANDLE_FAIL.
    pub state: State,
    /// When it is due; `None` behind a head, or when it is held.
    pub due: Option<Timestamp>,
    /// Whether it waits for a person.
    pub held: bool,
    /// Its attempts so far.
    pub attempts: Attempts,
    /// Bytes of its record in the row; 0 when the row keeps only coordinates.
    pub bytes: usize,
    /// Whether a person gave it up: in its lane's turn it ends without an attempt.
    pub give_up: bool,
}

/// Whether the binding lets deliveries start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Deliveries start.
    Open,
    /// One delivery at a time finds out whether deliveries can start again: a head that
    /// waits, or a new record where none waits.
    Probe,
    /// No delivery starts, and no record is fetched.
    Closed,
}

/// An input of the machine.
#[derive(Clone, Debug)]
pub enum Event<D> {
    /// A record came from the log.
    Record {
        /// The offset of the record.
        offset: Offset,
        /// The lane of the record.
        lane: LaneKey,
        /// The size of the record.
        bytes: usize,
    },
    /// A record came that is not for this binding.
    Skipped {
        /// The offset of the record.
        offset: Offset,
    },
    /// The log holds no further record below this offset.
    End {
        /// The smallest offset that the next record can have.
        next: Offset,
    },
    /// An attempt ended, or could not begin.
    AttemptFinished {
        /// The offset of the delivery.
        offset: Offset,
        /// What becomes of the delivery.
        outcome: Outcome,
        /// Its attempts, this one included.
        attempts: Attempts,
        /// What the host stores with the outcome; opaque to the machine.
        detail: D,
    },
    /// A dispatched delivery was not run, or its attempt was dropped.
    NotStarted {
        /// The offset of the delivery.
        offset: Offset,
    },
    /// The store has no longer a row for a dispatched delivery that had one: the
    /// rerun request was late, and the outcome is written already.
    RowGone {
        /// The offset of the delivery.
        offset: Offset,
    },
    /// The store's answer to the batch under way.
    Settled(Answer),
    /// The time of [`Machine::next_due`](super::Machine::next_due) has come.
    Due,
    /// A person requested a rerun of an open delivery, or gave it up.
    RerunRequested(OpenDelivery),
    /// Nothing of this lane is open in an older partition any more.
    Unblocked(LaneKey),
    /// The binding's gate moved.
    Gate(Gate),
    /// Whether Kafka is about to remove records of open rows that cannot be copied.
    /// While it is, nothing more is fetched, since it would be parked behind them.
    LossAhead(bool),
    /// Kafka revokes the partition: running deliveries finish, and none starts.
    Revoke,
    /// The time for finishing is over.
    Deadline,
    /// The partition belongs to another owner: everything is dropped.
    Lost,
}

/// The store's answer to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The batch is durable.
    Written,
    /// A newer owner exists; nothing was written.
    Fenced,
    /// The result is unknown; the same batch is to be written again.
    Unknown,
}

/// An output of the machine, which the host carries out.
#[derive(Clone, Debug)]
pub enum Action<D> {
    /// Run a delivery.
    Dispatch {
        /// The offset of the delivery.
        offset: Offset,
        /// Its attempts before this one.
        attempts: Attempts,
        /// Whether the store has a row, which may hold the only copy of the record.
        has_row: bool,
    },
    /// End a given-up delivery without an attempt: read its row, and reply with
    /// [`Event::AttemptFinished`], or with [`Event::RowGone`] when there is no row.
    GiveUp {
        /// The offset of the delivery.
        offset: Offset,
        /// Its attempts so far.
        attempts: Attempts,
    },
    /// Write a batch, and reply with [`Event::Settled`].
    Settle(Arc<Batch<D>>),
    /// Stop fetching.
    Pause,
    /// Fetch again.
    Resume,
    /// Drop this machine.
    Release(Release),
}

/// Why a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It was revoked, and everything decided is written.
    Drained,
    /// It was revoked, and time ran out; unwritten outcomes run again.
    Late,
    /// A newer owner wrote; the host asks Kafka who owns the partition.
    Fenced,
    /// Kafka gave the partition away.
    Lost,
}

/// Outcomes to be written, in the order in which they were decided. The host may
/// split them into several transactions; the position moves with the last one.
#[derive(Clone, Debug)]
pub struct Batch<D> {
    /// The epoch to write under.
    pub epoch: Epoch,
    /// The position once they are written.
    pub position: Offset,
    /// The outcomes, each delivery at most once.
    pub writes: Vec<DeliveryWrite<D>>,
}

/// The state that a delivery gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewState {
    /// HANDLED.
    Handled,
    /// HANDLE_FAIL for good.
    Failed,
    /// An open row.
    Open {
        /// COMMITTED behind its head, otherwise PUSH_FAIL or HANDLE_FAIL.
        state: State,
        /// When it is due; `None` behind a head, or when it is held.
        due: Option<Timestamp>,
        /// Whether it waits for a person.
        held: bool,
        /// Whether the row keeps the record; otherwise only its coordinates.
        keep_record: bool,
    },
}

/// One delivery's outcome.
#[derive(Clone, Debug)]
pub struct DeliveryWrite<D> {
    /// The offset of the delivery.
    pub offset: Offset,
    /// Whether the store has an open row for it before this batch.
    pub had_row: bool,
    /// The state that it gets.
    pub to: NewState,
    /// Its attempts so far.
    pub attempts: Attempts,
    /// The host's details of each outcome since the last batch, in order.
    pub details: Vec<D>,
}
