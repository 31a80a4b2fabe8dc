//! The machine that owns one partition of one group.
//!
//! It takes events and pushes actions; it does no I/O itself. The host carries
//! the actions out in `consume/` and `kafka/`, the simulation carries them out
//! against models, and both drive this very code. A machine lives for one
//! claim: when its epoch is over it is dropped, and the next claim makes a new
//! machine from the store's rows.
//!
//! Invariants, each next to the code that keeps it:
//! - **Nothing lost**: the position of a batch lies below every delivery that
//!   is neither settled nor an open row once that batch is written.
//! - **Order**: a lane's next delivery is dispatched when its predecessor is
//!   decided; outcomes are sent in the order in which they were decided, one
//!   batch at a time, and an unanswered batch is repeated before the next one.
//! - **Not twice**: a delivery that is settled or open by the claim is not
//!   dispatched again when its record comes.
//! - **Bounds**: [`Bounds`] names them; the machine asks for a pause before
//!   one is passed.
//!
//! Read [`Event`] and [`Action`] first, then [`Machine::step`] and
//! [`Machine::flush`].

mod gate;
mod pending;
mod reruns;
mod rows;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::lanes::{Head, LaneEntry, LaneId, LaneKey, Lanes};
use crate::message::{Attempts, Epoch, Offset, Timestamp};
use crate::offsets::Offsets;
use crate::status::State;
use crate::verdict::Outcome;

use pending::Pending;
pub use vocabulary::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Consuming,
    Draining,
    Released,
}

/// A delivery that was dispatched to find out whether deliveries can start.
#[derive(Clone, Copy, Debug)]
struct Probe {
    offset: Offset,
    since: Timestamp,
    /// Whether a record is fetched beside it, since the probe before was the same one.
    fetches: bool,
}

/// The state machine of one partition under one epoch. `D` is what the host
/// stores with an outcome.
#[derive(Debug)]
pub struct Machine<D> {
    bounds: Bounds,
    epoch: Epoch,
    phase: Phase,
    gate: Gate,
    /// The delivery that probes the gate.
    probe: Option<Probe>,
    /// The delivery that was the last to probe it.
    probed: Option<Offset>,
    paused: bool,
    /// Whether Kafka is about to remove records of open rows.
    loss_ahead: bool,
    offsets: Offsets,
    lanes: Lanes,
    /// Lanes that may not start yet.
    blocked: HashSet<LaneKey>,
    /// Deliveries that are dispatched and not decided, with their lanes.
    running: HashMap<Offset, LaneId>,
    /// Offsets at or above the claimed position that need no dispatch when
    /// their records come.
    known: HashSet<Offset>,
    /// Outcomes not yet sent, in order.
    pending: Pending<D>,
    in_flight: Option<Arc<Batch<D>>>,
    /// The position that is written.
    written: Offset,
    /// Rerun requests for deliveries whose outcome is decided and not yet durable.
    deferred_reruns: Vec<OpenDelivery>,
    /// Records in memory that have no open row, and their bytes.
    in_memory: usize,
    in_memory_bytes: usize,
    /// Open rows and the bytes kept in them.
    parked: usize,
    parked_bytes: usize,
    /// Open rows that hold no record, so that only Kafka has it.
    parked_bare: usize,
}

impl<D> Machine<D> {
    /// The machine of a new owner, from what the store returned.
    ///
    /// Open lanes whose head has no due time were draining when their last owner
    /// ended: they are due at once.
    #[must_use]
    pub fn new(bounds: Bounds, claim: Claim) -> Self {
        let mut machine = Self {
            bounds,
            epoch: claim.epoch,
            phase: Phase::Consuming,
            gate: Gate::Open,
            probe: None,
            probed: None,
            paused: false,
            loss_ahead: false,
            offsets: Offsets::new(claim.position),
            lanes: Lanes::default(),
            blocked: claim.blocked,
            running: HashMap::new(),
            known: claim.settled.into_iter().collect(),
            pending: Pending::default(),
            in_flight: None,
            written: claim.position,
            deferred_reruns: Vec::new(),
            in_memory: 0,
            in_memory_bytes: 0,
            parked: 0,
            parked_bytes: 0,
            parked_bare: 0,
        };
        for open in claim.open {
            if open.offset >= claim.position {
                machine.known.insert(open.offset);
            }
            machine.add_row(open);
        }
        machine
    }

    /// The position: every delivery below it is settled or an open row, once the
    /// batches sent so far are written.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.offsets.position()
    }

    /// Whether the position moved past what is written.
    #[must_use]
    pub fn is_position_unwritten(&self) -> bool {
        self.offsets.position() > self.written
    }

    /// The next offset expected from the log.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.offsets.next()
    }

    /// Whether a record at this offset would get its turn, now or later: it is new,
    /// and the claim did not contain it.
    #[must_use]
    pub fn wants(&self, offset: Offset) -> bool {
        self.phase == Phase::Consuming && offset >= self.offsets.next() && !self.known.contains(&offset)
    }

    /// The open rows among `rows` that this owner does not know: they are in no
    /// lane, no write about them is pending, and their records will not come.
    pub fn unknown_rows(&mut self, rows: &[(Offset, LaneKey)]) -> Vec<Offset> {
        if self.phase != Phase::Consuming {
            return Vec::new();
        }
        let lanes: HashSet<LaneId> = rows.iter().filter_map(|(_, lane)| self.lanes.find(lane)).collect();
        let mut known: HashSet<Offset> = self.running.keys().copied().collect();
        for id in lanes {
            known.extend(self.lanes.get(id).queue.iter().map(|entry| entry.offset));
        }
        known.extend(self.in_flight.iter().flat_map(|batch| &batch.writes).map(|write| write.offset));
        known.extend(self.pending.writes().map(|write| write.offset));
        known.extend(self.deferred_reruns.iter().map(|open| open.offset));
        let is_unknown = |offset: &Offset| !known.contains(offset) && !self.wants(*offset);
        rows.iter().map(|(offset, _)| *offset).filter(is_unknown).collect()
    }

    /// The number of open rows that this owner knows.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.parked
    }

    /// The number of open rows that keep only the coordinates of their record.
    #[must_use]
    pub fn parked_bare(&self) -> usize {
        self.parked_bare
    }

    /// The number of deliveries that are dispatched and not decided.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether the open rows reached their bound, so that a person has to act.
    #[must_use]
    pub fn parked_full(&self) -> bool {
        self.parked >= self.bounds.max_parked
    }

    /// Takes an event and pushes the actions that follow. Outcomes are pushed by
    /// [`Machine::flush`], so that events which come together share a batch.
    pub fn step(&mut self, now: Timestamp, event: Event<D>, actions: &mut Vec<Action<D>>) {
        if self.phase == Phase::Released {
            return;
        }
        match event {
            Event::Record { offset, lane, bytes } => {
                self.record(offset, lane, bytes, actions);
                self.probe_with(offset, now);
            }
            Event::Skipped { offset } => self.skipped(offset),
            Event::End { next } => self.end(next),
            Event::AttemptFinished { offset, outcome, attempts, detail } => {
                self.attempt_finished(offset, outcome, attempts, detail, now, actions);
            }
            Event::NotStarted { offset } => self.not_started(offset, now),
            Event::RowGone { offset } => self.row_gone(offset, now, actions),
            Event::Settled(answer) => self.settled(answer, now, actions),
            Event::Due => self.due(now, actions),
            Event::RerunRequested(open) => self.rerun_requested(open, now, actions),
            Event::Unblocked(lane) => self.unblocked(&lane, now, actions),
            Event::Gate(gate) => self.gate(gate, now, actions),
            Event::LossAhead(loss_ahead) => self.loss_ahead = loss_ahead,
            Event::Revoke => self.phase = Phase::Draining,
            Event::Deadline => self.release(Release::Late, actions),
            Event::Lost => self.release(Release::Lost, actions),
        }
        self.give_up_heads(actions);
        self.probe_next(now, actions);
        self.pause_or_resume(actions);
    }

    /// Pushes the next batch unless one is in flight, or the release of a drained
    /// partition.
    pub fn flush(&mut self, actions: &mut Vec<Action<D>>) {
        if self.phase == Phase::Released || self.in_flight.is_some() {
            return;
        }
        let writes = self.pending.take_batch(self.bounds.max_batch);
        for write in &writes {
            // The position may pass this delivery with the batch that makes it final or
            // an open row, and not earlier.
            self.offsets.finish(write.offset);
        }
        let is_drained = self.phase == Phase::Draining && self.running.is_empty();
        if !writes.is_empty() {
            self.send(writes, actions);
        } else if is_drained && self.is_position_unwritten() {
            // The next owner need not read again what was skipped.
            self.send(Vec::new(), actions);
        } else if is_drained {
            self.release(Release::Drained, actions);
        }
        self.pause_or_resume(actions);
    }

    /// Pushes a batch without outcomes when the position is above what is written and
    /// nothing else is in flight: it moves the stored position over records that
    /// were not for this binding and over holes.
    pub fn flush_position(&mut self, actions: &mut Vec<Action<D>>) {
        let is_quiet = self.in_flight.is_none() && self.pending.is_empty() && self.phase == Phase::Consuming;
        if is_quiet && self.is_position_unwritten() {
            self.send(Vec::new(), actions);
        }
    }

    fn send(&mut self, writes: Vec<DeliveryWrite<D>>, actions: &mut Vec<Action<D>>) {
        let batch = Arc::new(Batch { epoch: self.epoch, position: self.offsets.position(), writes });
        self.in_flight = Some(Arc::clone(&batch));
        actions.push(Action::Settle(batch));
    }

    fn record(&mut self, offset: Offset, lane: LaneKey, bytes: usize, actions: &mut Vec<Action<D>>) {
        if self.phase != Phase::Consuming {
            // The record stays above the position, so the next owner gets it.
            return;
        }
        let known = self.known.remove(&offset);
        if !self.offsets.receive(offset, known) || known {
            return;
        }
        self.in_memory += 1;
        self.in_memory_bytes += bytes;
        let entry = LaneEntry::new(offset, bytes);
        match self.lanes.find(&lane) {
            None if self.blocked.contains(&lane) => {
                // As an open row it holds up neither the position nor other lanes.
                let id = self.lanes.open(lane, Head::Blocked, entry);
                self.park_followers(id);
            }
            None => {
                let id = self.lanes.open(lane, Head::Running, entry);
                self.dispatch(id, actions);
            }
            Some(id) => {
                self.lanes.get(id).queue.push_back(entry);
                if self.lanes.get(id).head != Head::Running {
                    self.park_followers(id);
                }
            }
        }
    }

    fn skipped(&mut self, offset: Offset) {
        if self.phase == Phase::Consuming {
            self.known.remove(&offset);
            self.offsets.receive(offset, true);
        }
    }

    fn end(&mut self, next: Offset) {
        if self.phase == Phase::Consuming {
            self.offsets.reach(next);
        }
    }

    /// Starts the head of a lane.
    fn dispatch(&mut self, id: LaneId, actions: &mut Vec<Action<D>>) {
        self.lanes.set_head(id, Head::Running);
        let Some(entry) = self.lanes.get(id).queue.front_mut() else { return };
        entry.asked = false;
        let (offset, attempts, has_row) = (entry.offset, entry.attempts, entry.has_row);
        let give_up = entry.give_up;
        self.running.insert(offset, id);
        actions.push(if give_up {
            Action::GiveUp { offset, attempts }
        } else {
            Action::Dispatch { offset, attempts, has_row }
        });
    }

    fn attempt_finished(
        &mut self,
        offset: Offset,
        outcome: Outcome,
        attempts: Attempts,
        detail: D,
        now: Timestamp,
        actions: &mut Vec<Action<D>>,
    ) {
        let Some(id) = self.came_back(offset) else { return };
        let open = |state, due, held| NewState::Open { state, due, held, keep_record: false };
        let (outcome, attempts) = self.as_requested(id, outcome, attempts, now);
        let (to, next) = match outcome {
            Outcome::Handled => (NewState::Handled, None),
            Outcome::Failed { .. } => (NewState::Failed, None),
            Outcome::Again { state, at } => (open(state, Some(at), false), Some((Head::Waiting(at), state))),
            Outcome::Held => (open(State::HandleFail, None, true), Some((Head::Held, State::HandleFail))),
        };
        if let Some((head, state)) = next {
            let entry = self.lanes.get(id).queue.front_mut().expect("a running lane has a head");
            (entry.attempts, entry.state) = (attempts, state);
            self.lanes.set_head(id, head);
            self.write_open(id, 0, to, Some(detail));
            self.park_followers(id);
            return;
        }
        let entry = self.lanes.get(id).queue.pop_front().expect("a running lane has a head");
        self.write_final(id, &entry, to, attempts, detail);
        if self.lanes.get(id).queue.is_empty() {
            self.lanes.close(id);
        } else {
            self.advance_lane(id, now, actions);
        }
    }

    /// The outcome of an attempt during which a rerun was requested: what failed runs
    /// again at once, with none of its attempts used. The attempt was judged without
    /// knowing of the request, and would end what a person was promised.
    fn as_requested(
        &mut self,
        id: LaneId,
        outcome: Outcome,
        attempts: Attempts,
        now: Timestamp,
    ) -> (Outcome, Attempts) {
        let was_requested = self.lanes.get(id).queue.front().is_some_and(|entry| entry.asked && !entry.give_up);
        let state = match outcome {
            Outcome::Again { state, .. } => state,
            Outcome::Held | Outcome::Failed { .. } => State::HandleFail,
            Outcome::Handled => return (outcome, attempts),
        };
        if was_requested {
            (Outcome::Again { state, at: now }, Attempts { used: 0, ..attempts })
        } else {
            (outcome, attempts)
        }
    }

    /// Goes on to the next delivery of a lane whose head is decided, even before
    /// that outcome is written: the order of `pending` is the order in the store.
    fn advance_lane(&mut self, id: LaneId, now: Timestamp, actions: &mut Vec<Action<D>>) {
        let entry = self.lanes.get(id).queue.front().expect("the caller looked");
        let may_run = self.phase == Phase::Consuming && self.gate == Gate::Open;
        let head = match entry.due {
            _ if entry.held => Head::Held,
            // A rerun that was requested may stand before a head that waits.
            Some(at) if at > now => Head::Waiting(at),
            _ if may_run => return self.dispatch(id, actions),
            // While nothing may start, it waits at the front for the gate.
            at => Head::Waiting(at.unwrap_or(Timestamp(0))),
        };
        self.lanes.set_head(id, head);
        if self.phase == Phase::Consuming {
            // The lane is parked now: records in memory must not hold the position.
            self.park_followers(id);
        }
    }

    /// A dispatched delivery was not started. It stays at the head; when the
    /// partition is being revoked, the next owner runs it.
    fn not_started(&mut self, offset: Offset, now: Timestamp) {
        if let Some(id) = self.came_back(offset) {
            self.lanes.set_head(id, Head::Waiting(now));
        }
    }

    fn settled(&mut self, answer: Answer, now: Timestamp, actions: &mut Vec<Action<D>>) {
        match answer {
            Answer::Written => {
                if let Some(batch) = self.in_flight.take() {
                    self.written = self.written.max(batch.position);
                }
                for open in std::mem::take(&mut self.deferred_reruns) {
                    self.rerun_requested(open, now, actions);
                }
            }
            // The same batch again, since no later one may pass it.
            Answer::Unknown => actions.extend(self.in_flight.clone().map(Action::Settle)),
            Answer::Fenced => self.release(Release::Fenced, actions),
        }
    }

    fn release(&mut self, why: Release, actions: &mut Vec<Action<D>>) {
        // Everything unwritten is dropped together: an outcome without its
        // predecessor's would break their order.
        self.phase = Phase::Released;
        self.pending = Pending::default();
        self.running.clear();
        self.deferred_reruns.clear();
        actions.push(Action::Release(why));
    }

    /// Pauses at a bound and resumes at half of it (at nine tenths of the parked
    /// rows), since each pause discards what the client has prefetched.
    fn pause_or_resume(&mut self, actions: &mut Vec<Action<D>>) {
        if self.phase != Phase::Consuming {
            return;
        }
        let bounds = &self.bounds;
        // Half of one is zero, so that the tightest bound resumes too.
        let at = |now: usize, most: usize| if self.paused { now > most / 2 } else { now >= most };
        let parked = bounds.max_parked - if self.paused { bounds.max_parked / 10 } else { 0 };
        let past = !self.gate_fetches()
            || self.loss_ahead
            || at(self.offsets.gap(), bounds.max_gap)
            || at(self.in_memory, bounds.max_in_memory)
            || at(self.in_memory_bytes, bounds.max_in_memory_bytes)
            || self.parked >= parked;
        if !self.paused && past {
            self.paused = true;
            actions.push(Action::Pause);
        } else if self.paused && !past {
            self.paused = false;
            actions.push(Action::Resume);
        }
    }
}
