//! The rows that a settle writes.

use std::sync::Arc;

use bytes::Bytes;
use courier_core::message::{Attempts, Offset, Timestamp};
use courier_core::status::State;
use courier_core::verdict::Verdict;

use super::positions::PositionId;
use super::sending::NewOutbound;
use crate::store::StoreError;
use crate::store::identity::SourceHash;

/// Outcomes of one partition, in the order they were decided, each delivery at
/// most once.
#[derive(Clone, Debug)]
pub struct Part {
    /// The group, by which positions are locked in order and counters are found.
    pub group: String,
    /// The topic in Kafka, for people.
    pub topic: String,
    pub partition: i32,
    pub position: PositionId,
    /// The epoch it was claimed under.
    pub epoch: i64,
    /// The position once these outcomes are written.
    pub next: Offset,
    pub outcomes: Vec<OutcomeRow>,
}

/// So many bytes cost a transaction about as much as one more row with its entries in the
/// indexes.
const BYTES_OF_A_ROW: usize = 1_024;

/// Values that a success writes, by key; `None` deletes.
pub type StateWrites = Vec<(String, Option<Bytes>)>;

/// Sums the bytes that an attempt publishes and stores.
#[must_use]
pub fn bytes_of_effects(outbound: &[NewOutbound], state_writes: &StateWrites) -> usize {
    let published = outbound.iter().map(|one| one.record.len()).sum::<usize>();
    let stored = state_writes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len));
    published + stored.sum::<usize>()
}

/// One delivery's outcome and what belongs to it.
#[derive(Clone, Debug)]
pub struct OutcomeRow {
    pub offset: Offset,
    /// Whether the delivery has an open row, which this outcome then replaces. The settle
    /// fails when the tables disagree.
    pub had_row: bool,
    /// Kafka's time of the record; its UTC day is part of the final row's key.
    pub record_time: Timestamp,
    pub message_id: String,
    pub source_hash: Option<SourceHash>,
    pub key: Option<Bytes>,
    /// The message's type; empty when unknown.
    pub type_name: String,
    /// The node that worked on it.
    pub node: Arc<str>,
    /// When the host first received it.
    pub received_at: Timestamp,
    /// The last verdict, if it was ever invoked or pushed.
    pub verdict: Option<Verdict>,
    /// The reason of the verdict.
    pub reason: Option<String>,
    /// Groups failures that are alike.
    pub fingerprint: Option<String>,
    /// Digest of the plugin version that made the last attempt.
    pub version: Option<Arc<str>>,
    /// When the last attempt began.
    pub started_at: Option<Timestamp>,
    /// How often it was attempted so far.
    pub attempts_so_far: Attempts,
    /// What the delivery becomes.
    pub to: Becomes,
    /// Attempts to be kept: failed and repeated ones, and those with a log.
    pub attempts: Vec<AttemptRow>,
    /// What goes to Kafka with it: emissions of a success, dead letters.
    pub outbound: Vec<NewOutbound>,
    /// Key/value writes of a success; `None` deletes.
    pub state_writes: StateWrites,
}

impl OutcomeRow {
    /// Estimates its share of a transaction in rows: those that it writes, and one more
    /// for each [`BYTES_OF_A_ROW`] in them.
    #[must_use]
    pub fn weight(&self) -> usize {
        let record = match &self.to {
            Becomes::Final { record, .. } | Becomes::Open { record, .. } => record.as_ref().map_or(0, Bytes::len),
            Becomes::InHandledSet { .. } => 0,
        };
        let row = usize::from(!matches!(self.to, Becomes::InHandledSet { .. }));
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let attempts = self.attempts.iter().map(|one| text(&one.reason) + text(&one.log)).sum::<usize>();
        let bytes = record + attempts + bytes_of_effects(&self.outbound, &self.state_writes);
        let rows = self.attempts.len() + self.outbound.len() + self.state_writes.len();
        row + usize::from(record > 0) + rows + bytes / BYTES_OF_A_ROW
    }

    /// The dead letter of a delivery that is given up, if there is one, and the time. A
    /// final failure sends nothing but its dead letter.
    #[must_use]
    pub fn dead_letter(&self) -> Option<(&NewOutbound, Timestamp)> {
        match self.to {
            Becomes::Final { state: State::HandleFail, settled_at, .. } => {
                self.outbound.first().map(|letter| (letter, settled_at))
            }
            _ => None,
        }
    }

    /// Refuses an outcome that no attempt has. A delivery with an open row does not become
    /// COMMITTED again. One without may, when it is parked behind its lane's head.
    ///
    /// # Errors
    /// `Bug`, since the partition machine is wrong then.
    pub fn check(&self) -> Result<(), StoreError> {
        let (state, fits) = match self.to {
            Becomes::Final { state, .. } => (state, matches!(state, State::Handled | State::HandleFail)),
            Becomes::Open { state, .. } => (state, state != State::Handled),
            // Only the first attempt of a delivery without a row leaves none.
            Becomes::InHandledSet { .. } => (State::Handled, !self.had_row && self.attempts.is_empty()),
        };
        let parked = state == State::Committed && !self.had_row;
        if fits && (parked || State::Committed.delivery_may_become(state)) {
            return Ok(());
        }
        Err(StoreError::Bug(format!("the delivery of offset {} cannot become {:?}", self.offset, self.to)))
    }
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
        /// When it is due; `None` when it waits for its lane's head or is held.
        next_attempt_at: Option<Timestamp>,
        /// Whether it waits for a person.
        held: bool,
        /// The encoded record of a new row; `None` keeps the record that the row has, or
        /// stores only coordinates.
        record: Option<Bytes>,
    },
    /// HANDLED at the first attempt, in a group that keeps no row of that: a bit
    /// in the handled set of its position. Neither the message nor its key is
    /// stored.
    InHandledSet {
        /// When it was decided.
        settled_at: Timestamp,
    },
}

/// The result of a settle.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// The indexes of the parts that were left out, since their positions have newer
    /// epochs.
    pub stale: Vec<usize>,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptRow {
    /// The number of the invocation, from 1.
    pub number: u32,
    /// Whether it used up one of `max_attempts`.
    pub counted: bool,
    /// Digest of the plugin version.
    pub version: Option<Arc<str>>,
    /// The node that ran it.
    pub node: Arc<str>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    pub verdict: Verdict,
    pub reason: Option<String>,
    /// Groups failures that are alike.
    pub fingerprint: Option<String>,
    /// What the handler logged.
    pub log: Option<String>,
}
