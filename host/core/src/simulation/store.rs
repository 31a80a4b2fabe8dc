//! A model of the store: batches are written whole or not at all, under an
//! epoch and a writer's sequence, and every write is checked against the rules.

use std::collections::{BTreeMap, BTreeSet};

use super::bug::Bug;
use super::log::Log;
use crate::lanes::LaneKey;
use crate::message::{Attempts, Epoch, Offset, Timestamp};
use crate::partition::{Answer, Batch, Claim, DeliveryWrite, NewState, OpenDelivery};
use crate::status::State;

/// An open row.
#[derive(Clone, Debug)]
pub struct Row {
    pub lane: LaneKey,
    pub state: State,
    pub due: Option<Timestamp>,
    pub held: bool,
    pub attempts: Attempts,
    pub bytes: usize,
    pub give_up: bool,
}

/// The stored state of one partition.
#[derive(Clone, Debug)]
pub struct Shelf {
    pub position: Offset,
    pub epoch: Epoch,
    pub open: BTreeMap<Offset, Row>,
    /// Settled deliveries, each with its number of invocations.
    pub settled: BTreeMap<Offset, u32>,
    /// Deliveries that were settled at some time, also if a rerun was requested
    /// since: a rerun keeps no order with them.
    pub ever: BTreeSet<Offset>,
    /// Deliveries that were settled as failures.
    failed: BTreeSet<Offset>,
    /// Lanes that are open in an older partition.
    pub blocked: BTreeSet<LaneKey>,
    /// Deliveries that a seek forward skipped, and to which no seek went back.
    pub skipped: BTreeSet<Offset>,
    /// The attempts that are recorded.
    attempts: BTreeSet<u64>,
    /// The last sequence number of each writer.
    writers: BTreeMap<u64, u64>,
    /// Batches of older epochs that were refused.
    pub stale: u64,
}

impl Shelf {
    pub fn new(position: Offset) -> Self {
        Self {
            position,
            epoch: Epoch(0),
            open: BTreeMap::new(),
            settled: BTreeMap::new(),
            ever: BTreeSet::new(),
            failed: BTreeSet::new(),
            skipped: BTreeSet::new(),
            blocked: BTreeSet::new(),
            attempts: BTreeSet::new(),
            writers: BTreeMap::new(),
            stale: 0,
        }
    }

    pub fn claim(&mut self) -> Claim {
        self.epoch = Epoch(self.epoch.0 + 1);
        Claim {
            epoch: self.epoch,
            position: self.position,
            settled: self.settled.range(self.position..).map(|(offset, _)| *offset).collect(),
            open: self.open.keys().filter_map(|offset| self.row(*offset)).collect(),
            blocked: self.blocked.iter().cloned().collect(),
        }
    }

    pub fn row(&self, offset: Offset) -> Option<OpenDelivery> {
        self.open.get(&offset).map(|row| OpenDelivery {
            offset,
            lane: row.lane.clone(),
            state: row.state,
            due: row.due,
            held: row.held,
            attempts: row.attempts,
            bytes: row.bytes,
            give_up: row.give_up,
        })
    }

    /// Requests a rerun of a delivery. False when the store has no row of any kind:
    /// its first attempt is not over.
    pub fn ask(&mut self, offset: Offset, lane: LaneKey, now: Timestamp) -> bool {
        if let Some(row) = self.open.get_mut(&offset) {
            (row.due, row.held, row.give_up) = (Some(now), false, false);
            return true;
        }
        let Some(invoked) = self.settled.remove(&offset) else { return false };
        // A failed delivery stays HANDLE_FAIL until its next outcome.
        let state = if self.failed.remove(&offset) { State::HandleFail } else { State::Committed };
        let row = Row {
            lane,
            state,
            due: Some(now),
            held: false,
            attempts: Attempts { invoked, used: 0 },
            bytes: 1,
            give_up: false,
        };
        self.open.insert(offset, row);
        true
    }

    /// Marks an open delivery as given up. False when it has no open row.
    pub fn give_up(&mut self, offset: Offset) -> bool {
        self.open.get_mut(&offset).map(|row| row.give_up = true).is_some()
    }

    /// Moves the position and fences its owner. Backward, a rerun of the settled
    /// deliveries in between is requested; forward, deliveries without a row are
    /// skipped.
    pub fn seek(&mut self, to: Offset, log: &Log, now: Timestamp) -> Vec<Offset> {
        self.epoch = Epoch(self.epoch.0 + 1);
        let from = std::mem::replace(&mut self.position, to);
        let mut passed = Vec::new();
        for record in &log.records {
            let (offset, lane) = (record.offset, record.lane.clone());
            if (to..from).contains(&offset) {
                self.ask(offset, lane, now);
                self.skipped.remove(&offset);
            } else if (from..to).contains(&offset) && !self.knows(offset) {
                self.skipped.insert(offset);
                self.ever.insert(offset);
                passed.push(offset);
            }
        }
        passed
    }

    /// Whether the store keeps anything of a delivery.
    pub fn knows(&self, offset: Offset) -> bool {
        self.settled.contains_key(&offset) || self.open.contains_key(&offset) || self.skipped.contains(&offset)
    }

    /// Whether this sequence of a writer is durable.
    pub fn has(&self, writer: u64, sequence: u64) -> bool {
        self.writers.get(&writer).is_some_and(|last| *last >= sequence)
    }

    /// Writes a batch as a sequence of its writer.
    pub fn settle(
        &mut self,
        writer: u64,
        sequence: u64,
        batch: &Batch<u64>,
        log: &Log,
        bug: Option<Bug>,
    ) -> Result<Answer, String> {
        if self.has(writer, sequence) {
            // The answer to this very batch was lost; the batch is durable.
            return Ok(Answer::Written);
        }
        if batch.epoch != self.epoch && bug != Some(Bug::NoEpochCheck) {
            self.stale += 1;
            return Ok(Answer::Fenced);
        }
        self.writers.insert(writer, sequence);
        let mut seen = BTreeSet::new();
        for write in &batch.writes {
            if !seen.insert(write.offset) {
                return Err(format!("{} stands in a batch twice", write.offset));
            }
            self.write(write, log)?;
        }
        self.advance(batch.position, log).map(|()| Answer::Written)
    }

    /// Moves the position, which must not pass an undecided delivery.
    pub fn advance(&mut self, to: Offset, log: &Log) -> Result<(), String> {
        self.position = self.position.max(to);
        match log.below(to).iter().find(|record| record.wanted && !self.knows(record.offset)) {
            Some(lost) => Err(format!("position {to} passes {}, which is neither settled nor open", lost.offset)),
            None if to > log.end => Err(format!("position {to} passes the log's end {}", log.end)),
            None => Ok(()),
        }
    }

    fn write(&mut self, write: &DeliveryWrite<u64>, log: &Log) -> Result<(), String> {
        let offset = write.offset;
        let record = log.at(offset).ok_or_else(|| format!("{offset} is written and not in the log"))?;
        let had_row = self.open.contains_key(&offset);
        if self.settled.contains_key(&offset) {
            return Err(format!("{offset} is recorded a second time"));
        }
        if write.had_row != had_row {
            return Err(format!("{offset} is written as had_row {} where the store says {had_row}", write.had_row));
        }
        for attempt in &write.details {
            if !self.attempts.insert(*attempt) {
                return Err(format!("attempt {attempt} of {offset} is recorded a second time"));
            }
        }
        let earlier = self.open.remove(&offset);
        if let Some(row) = earlier.as_ref().filter(|row| row.attempts.invoked > write.attempts.invoked) {
            return Err(format!(
                "{offset} goes back from {} invocations to {}",
                row.attempts.invoked, write.attempts.invoked
            ));
        }
        let state = match write.to {
            NewState::Handled => State::Handled,
            NewState::Failed => State::HandleFail,
            NewState::Open { state, .. } => state,
        };
        let before = earlier.as_ref().map_or(State::Committed, |row| row.state);
        let parks = earlier.is_none() && state == State::Committed;
        if !parks && !before.delivery_may_become(state) {
            return Err(format!("{offset} goes from {before} to {state}"));
        }
        match write.to {
            NewState::Handled | NewState::Failed => {
                if state == State::HandleFail {
                    self.failed.insert(offset);
                }
                let first = self.ever.insert(offset);
                self.settled.insert(offset, write.attempts.invoked);
                match log.before(offset).find(|before| first && !self.ever.contains(&before.offset)) {
                    Some(before) => Err(format!("{offset} is settled before {} of its lane", before.offset)),
                    None => Ok(()),
                }
            }
            NewState::Open { state, due, held, keep_record } => {
                let give_up = earlier.as_ref().is_some_and(|row| row.give_up);
                let bytes = earlier.map_or(if keep_record { record.bytes } else { 0 }, |row| row.bytes);
                let row = Row { lane: record.lane.clone(), state, due, held, attempts: write.attempts, bytes, give_up };
                self.open.insert(offset, row);
                let gone = |offset| !self.ever.contains(offset) && !self.open.contains_key(offset);
                match log.before(offset).find(|before| gone(&before.offset)) {
                    Some(before) => {
                        Err(format!("{offset} has a row, and {} before it in its lane has none", before.offset))
                    }
                    None => Ok(()),
                }
            }
        }
    }
}
