//! The words in which a machine is spoken to and answers: what it may hold,
//! what it is told, what it asks for, and what is to be written.

use std::collections::HashSet;
use std::sync::Arc;

use crate::lanes::LaneKey;
use crate::message::{Epoch, Offset, Timestamp};
use crate::status::State;
use crate::verdict::Outcome;

/// How much a partition may hold at once.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Received offsets at or above the position.
    pub max_gap: usize,
    /// Records in memory that are not open rows.
    pub max_fresh: usize,
    /// Bytes of those records.
    pub max_fresh_bytes: usize,
    /// Open rows of this partition.
    pub max_parked: usize,
    /// Bytes of records kept in open rows; past it only coordinates are kept.
    pub max_parked_bytes: usize,
    /// Outcomes in one batch.
    pub max_batch: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_gap: 50_000,
            max_fresh: 16_384,
            max_fresh_bytes: 16 * 1024 * 1024,
            max_parked: 100_000,
            max_parked_bytes: 64 * 1024 * 1024,
            max_batch: 1_000,
        }
    }
}

/// What the store told the new owner.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The epoch to write under.
    pub epoch: Epoch,
    /// Everything below is settled or parked.
    pub position: Offset,
    /// Settled offsets at or above the position.
    pub settled: Vec<Offset>,
    /// Open deliveries, ascending by offset.
    pub open: Vec<Open>,
    /// Lanes in which nothing may begin yet: the partition was added to its
    /// topic, and deliveries of these keys are open in an older one.
    pub blocked: HashSet<LaneKey>,
}

/// An open row.
#[derive(Clone, Debug)]
pub struct Open {
    /// Which delivery.
    pub offset: Offset,
    /// Its lane.
    pub lane: LaneKey,
    /// COMMITTED, PUSH_FAIL or HANDLE_FAIL.
    pub state: State,
    /// When it is due; none behind a head, or held.
    pub due: Option<Timestamp>,
    /// Waits for a person.
    pub held: bool,
    /// Invocations so far.
    pub number: u32,
    /// Attempts used up so far.
    pub counted: u32,
    /// Bytes of its record in the row.
    pub bytes: usize,
    /// Somebody gave it up: in its lane's turn it ends without an attempt.
    pub give_up: bool,
}

/// Whether the binding lets deliveries run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// They run.
    Open,
    /// They do not, and nothing more is fetched.
    Closed,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event<D> {
    /// A record came from the log.
    Record {
        /// Where.
        offset: Offset,
        /// In which order it belongs.
        lane: LaneKey,
        /// Its size.
        bytes: usize,
    },
    /// A record came that is not for this binding.
    Skipped {
        /// Where.
        offset: Offset,
    },
    /// The log holds nothing more below this offset.
    End {
        /// The next offset that a record can have.
        next: Offset,
    },
    /// An attempt ended, or could not begin.
    Decided {
        /// Which delivery.
        offset: Offset,
        /// What follows from it.
        outcome: Outcome,
        /// Invocations, this one included.
        number: u32,
        /// Attempts used up, this one included.
        counted: u32,
        /// What the host keeps with the outcome; opaque here.
        detail: D,
    },
    /// A dispatched delivery was not run, or its attempt was dropped.
    Returned {
        /// Which delivery.
        offset: Offset,
    },
    /// The store has no row any more for a dispatched delivery that had one:
    /// what asked for it came late, and its outcome is written already.
    Vanished {
        /// Which delivery.
        offset: Offset,
    },
    /// The store's answer to the batch under way.
    Settled(Answer),
    /// Time has passed.
    Due,
    /// Somebody asked that an open delivery runs now, or gave it up.
    Asked(Open),
    /// Nothing of this lane is open in an older partition any more.
    Unblocked(LaneKey),
    /// The binding was stopped or may go on.
    Gate(Gate),
    /// Whether Kafka is about to remove records of open rows that cannot be
    /// copied: until that is over nothing more is fetched, which would be parked
    /// behind them.
    LossAhead(bool),
    /// The partition is to be given up: finish what runs.
    Revoke,
    /// There is no more time to finish.
    Deadline,
    /// The partition is gone: drop everything.
    Lost,
}

/// The store's answer to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is durable.
    Written,
    /// A newer owner exists; nothing was written.
    Fenced,
    /// Nobody knows; the same batch is to be written again.
    Unknown,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Action<D> {
    /// Run a delivery.
    Dispatch {
        /// Which one.
        offset: Offset,
        /// Invocations before this one.
        number: u32,
        /// Attempts used up before this one.
        counted: u32,
        /// Whether the store has a row, and so perhaps the only copy of the
        /// record.
        has_row: bool,
    },
    /// End a delivery that was given up, without an attempt: read its row, and
    /// answer with [`Event::Decided`], or [`Event::Vanished`] when there is none.
    GiveUp {
        /// Which one.
        offset: Offset,
        /// Invocations so far.
        number: u32,
        /// Attempts used up so far.
        counted: u32,
    },
    /// Write a batch, and answer with [`Event::Settled`].
    Settle(Arc<Batch<D>>),
    /// Fetch nothing more for now.
    Pause,
    /// Fetch again.
    Resume,
    /// This machine is done.
    Release(Release),
}

/// Why a machine is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It was revoked, and everything decided is written.
    Drained,
    /// It was revoked, and time ran out; what was not written comes again.
    Late,
    /// A newer owner wrote; whether that is right is for Kafka to say.
    Fenced,
    /// Kafka gave the partition away.
    Lost,
}

/// Outcomes to be written in the order they were decided. The host may cut them
/// into several transactions; the position moves with the last of them.
#[derive(Clone, Debug)]
pub struct Batch<D> {
    /// The epoch to write under.
    pub epoch: Epoch,
    /// The position once they are written.
    pub position: Offset,
    /// The outcomes, each delivery at most once.
    pub writes: Vec<Write<D>>,
}

/// What a delivery becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// HANDLED.
    Handled,
    /// HANDLE_FAIL for good.
    Failed {
        /// With a copy for the dead letters.
        dead_letter: bool,
    },
    /// An open row.
    Open {
        /// COMMITTED behind its head, PUSH_FAIL or HANDLE_FAIL.
        state: State,
        /// When it is due.
        due: Option<Timestamp>,
        /// Waits for a person.
        held: bool,
        /// Whether its record is kept in the row, or only where it lies.
        keep_record: bool,
    },
}

/// One delivery's outcome.
#[derive(Clone, Debug)]
pub struct Write<D> {
    /// Which delivery.
    pub offset: Offset,
    /// Whether the store has an open row for it before this batch.
    pub had_row: bool,
    /// What it becomes.
    pub to: To,
    /// Invocations so far.
    pub number: u32,
    /// Attempts used up so far.
    pub counted: u32,
    /// What the host kept with each outcome since the last batch, in order.
    pub details: Vec<D>,
}
