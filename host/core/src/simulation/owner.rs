//! A model of the host around the machine: it carries actions out, keeps records
//! in memory, and hands deliveries to workers.

mod probing;
mod settling;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::probing::Probing;
use super::bug::Bug;
use super::world::{Task, World};
use crate::lanes::LaneKey;
use crate::message::{Attempts, Epoch, Offset, Timestamp};
use crate::partition::{Action, Batch, Event, Gate, Machine, Release};
use crate::status::State;
use crate::verdict::Outcome;

/// The owner of one claim.
pub struct Owner {
    pub host: usize,
    pub partition: usize,
    pub epoch: Epoch,
    pub machine: Machine<u64>,
    /// Records in memory, as the host keeps them.
    records: BTreeSet<Offset>,
    pub fetch: Offset,
    pub paused: bool,
    pub draining: bool,
    under_way: Option<Arc<Batch<u64>>>,
    /// The number of outcomes of the batch that are durable already, as pieces.
    written: usize,
    sequence: u64,
    due_at: Option<Timestamp>,
    flush_at: Option<Timestamp>,
    /// Attempts that run, by lane.
    running: BTreeMap<LaneKey, Offset>,
    /// Deliveries that were begun here and whose last outcome is not durable.
    pub flight: BTreeSet<Offset>,
    finished: BTreeSet<Offset>,
    /// Deliveries that have their turn, each with whether a rerun was requested since.
    dispatched: BTreeMap<Offset, bool>,
    probing: Probing,
    /// When a retry may begin at the earliest.
    not_before: BTreeMap<Offset, Timestamp>,
    received: BTreeSet<Offset>,
    asked: usize,
}

/// An order of lanes, so that maps by lane are iterated the same way in each
/// run. The machine itself needs none.
impl Ord for LaneKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |key: &Self| match key {
            Self::Key(bytes) => (0, bytes.clone(), Offset(0)),
            Self::Unkeyed(offset) => (1, bytes::Bytes::new(), *offset),
            Self::Message(id) => (2, id.clone(), Offset(0)),
            Self::WholePartition => (3, bytes::Bytes::new(), Offset(0)),
        };
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for LaneKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A delivery that has its turn.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub offset: Offset,
    pub attempts: Attempts,
    pub has_row: bool,
    /// Whether it is to end without an attempt.
    pub give_up: bool,
}

type Checked = Result<(), String>;

impl World {
    /// Starts the owner of a claim.
    pub fn start_owner(&mut self, host: usize, partition: usize) -> Checked {
        if self.profile.added && self.shelves[partition].epoch == Epoch(0) {
            self.block(partition);
        }
        let claim = self.shelves[partition].claim();
        let id = self.next_claim;
        self.next_claim += 1;
        let wait =
            |open: &crate::partition::OpenDelivery| (open.state == State::HandleFail).then_some(open.due).flatten();
        let owner = Owner {
            host,
            partition,
            epoch: claim.epoch,
            not_before: claim.open.iter().filter_map(|open| Some((open.offset, wait(open)?))).collect(),
            asked: claim.open.len(),
            fetch: claim.position,
            machine: Machine::new(self.profile.bounds, claim),
            records: BTreeSet::new(),
            paused: false,
            draining: false,
            under_way: None,
            written: 0,
            sequence: 0,
            due_at: None,
            flush_at: None,
            running: BTreeMap::new(),
            flight: BTreeSet::new(),
            finished: BTreeSet::new(),
            dispatched: BTreeMap::new(),
            probing: Probing::default(),
            received: BTreeSet::new(),
        };
        self.note(|| format!("host {host} claims partition {partition} as claim {id}, epoch {}", owner.epoch.0));
        // A delivery that runs elsewhere under an older epoch may run again here.
        let elsewhere: Vec<Offset> = self
            .owners
            .values()
            .filter(|other| other.partition == partition)
            .flat_map(|other| other.flight.iter().copied())
            .collect();
        self.excused[partition].extend(elsewhere);
        self.owners.insert(id, owner);
        if self.hosts[host].gate != Gate::Open {
            self.step(id, Event::Gate(self.hosts[host].gate))?;
        }
        self.step(id, Event::Due)?;
        self.after(1, Task::Tick { claim: id });
        Ok(())
    }

    /// Hands the machine an event and carries out its actions.
    pub fn step(&mut self, claim: u64, event: Event<u64>) -> Checked {
        let now = self.now;
        self.note(|| format!("claim {claim}: {event:?}"));
        let Some(owner) = self.owners.get_mut(&claim) else { return Ok(()) };
        let mut actions = Vec::new();
        match &event {
            Event::AttemptFinished { offset, outcome, .. } => match outcome {
                // What fails runs again at once where that was requested meanwhile.
                failed if owner.dispatched.remove(offset) == Some(true) && *failed != Outcome::Handled => {}
                Outcome::Again { state: State::HandleFail, at } => {
                    owner.not_before.insert(*offset, *at);
                }
                Outcome::Again { .. } | Outcome::Held => {}
                _ => {
                    owner.finished.insert(*offset);
                }
            },
            Event::NotStarted { offset } | Event::RowGone { offset } => {
                owner.dispatched.remove(offset);
            }
            Event::RerunRequested(open) => {
                if let Some(asked) = owner.dispatched.get_mut(&open.offset).filter(|_| !owner.draining) {
                    *asked = !open.give_up;
                }
                // Giving up requests no attempt before its time.
                if !open.give_up {
                    owner.not_before.remove(&open.offset);
                }
                owner.asked += 1;
            }
            Event::Revoke => owner.draining = true,
            Event::Record { offset, .. } => {
                owner.received.insert(*offset);
                if owner.machine.wants(*offset) {
                    owner.records.insert(*offset);
                }
            }
            _ => {}
        }
        owner.probing.before(&event);
        owner.machine.step(now, event, &mut actions);
        owner.probing.after(now, &actions)?;
        self.act(claim, actions)?;
        if self.chance.percent(self.profile.lazy_flush) {
            let wait = self.chance.between(1, 6);
            let Some(owner) = self.owners.get_mut(&claim) else { return Ok(()) };
            if owner.flush_at.is_none() {
                owner.flush_at = Some(now);
                self.after(wait, Task::Flush { claim });
            }
            return Ok(());
        }
        self.flush(claim)
    }

    pub fn flush(&mut self, claim: u64) -> Checked {
        let Some(owner) = self.owners.get_mut(&claim) else { return Ok(()) };
        owner.flush_at = None;
        let mut actions = Vec::new();
        owner.machine.flush(&mut actions);
        self.act(claim, actions)?;
        self.bounds(claim)?;
        let now = self.now;
        let Some(owner) = self.owners.get_mut(&claim) else { return Ok(()) };
        // The host sleeps until the machine's next time.
        if let Some(due) = owner.machine.next_due().map(|at| at.max(now))
            && owner.due_at.is_none_or(|at| due < at)
        {
            owner.due_at = Some(due);
            self.at(due, Task::Due { claim });
        }
        Ok(())
    }

    pub fn due(&mut self, claim: u64) -> Checked {
        let Some(owner) = self.owners.get_mut(&claim) else { return Ok(()) };
        owner.due_at = None;
        self.step(claim, Event::Due)
    }

    fn bounds(&self, claim: u64) -> Checked {
        let Some(owner) = self.owners.get(&claim) else { return Ok(()) };
        let (bounds, burst) = (&self.profile.bounds, self.profile.burst);
        let gap = owner.received.range(owner.machine.position()..).count();
        if gap > bounds.max_gap + burst {
            return Err(format!("claim {claim} holds {gap} offsets above its position"));
        }
        let parked = owner.machine.parked();
        if parked > bounds.max_parked + bounds.max_in_memory + burst + owner.asked {
            return Err(format!("claim {claim} holds {parked} open rows"));
        }
        Ok(())
    }

    fn act(&mut self, claim: u64, actions: Vec<Action<u64>>) -> Checked {
        for action in actions {
            self.note(|| format!("  -> {action:?}"));
            let Some(owner) = self.owners.get_mut(&claim) else { return Ok(()) };
            match action {
                Action::Dispatch { offset, attempts, has_row } => {
                    owner.dispatched.insert(offset, false);
                    let turn = Turn { offset, attempts, has_row, give_up: false };
                    if owner.records.contains(&offset) {
                        self.soon(Task::Start { claim, turn });
                        if has_row && self.bug == Some(Bug::LaneDrainedTwice) {
                            self.soon(Task::Start { claim, turn });
                        }
                    } else if has_row {
                        self.answer_soon(Task::Load { claim, turn });
                        if self.bug == Some(Bug::LaneDrainedTwice) {
                            self.answer_soon(Task::Load { claim, turn });
                        }
                    } else {
                        return Err(format!("{offset} is dispatched without a record"));
                    }
                }
                Action::GiveUp { offset, attempts } => {
                    owner.dispatched.insert(offset, false);
                    let turn = Turn { offset, attempts, has_row: true, give_up: true };
                    self.answer_soon(Task::Load { claim, turn });
                }
                Action::Settle(batch) => self.settle(claim, batch)?,
                Action::Pause => owner.paused = true,
                Action::Resume => owner.paused = false,
                Action::Release(why) => return self.released(claim, why),
            }
        }
        Ok(())
    }

    /// Reads the record of an open row again, and with it the row's attempts: the
    /// machine's may stem from an earlier request.
    pub fn load(&mut self, claim: u64, mut turn: Turn) -> Checked {
        let Some(owner) = self.owners.get(&claim) else { return Ok(()) };
        if !self.up {
            self.after(5, Task::Load { claim, turn });
            return Ok(());
        }
        match self.shelves[owner.partition].open.get(&turn.offset) {
            Some(row) => {
                if row.attempts.invoked > turn.attempts.invoked {
                    turn.attempts = row.attempts;
                }
                // The row counts: its mark may be newer, or gone because a rerun was requested.
                let asked = turn.give_up && !row.give_up;
                turn.give_up = row.give_up;
                if asked && let Some(owner) = self.owners.get_mut(&claim) {
                    owner.not_before.remove(&turn.offset);
                }
                self.answer_soon(Task::Start { claim, turn });
            }
            None => self.answer_soon(Task::Mail { claim, event: Event::RowGone { offset: turn.offset } }),
        }
        Ok(())
    }

    /// A worker takes a delivery that has its turn.
    pub fn start(&mut self, claim: u64, turn: Turn) -> Checked {
        let Some(owner) = self.owners.get(&claim) else { return Ok(()) };
        let (offset, partition) = (turn.offset, owner.partition);
        if owner.draining {
            return self.step(claim, Event::NotStarted { offset });
        }
        let host = owner.host;
        if turn.give_up {
            self.check_turn(claim, offset)?;
            let outcome = Outcome::Failed { dead_letter: false };
            return self.decided(claim, turn, outcome, turn.attempts);
        }
        if !self.up || (self.hosts[host].gate == Gate::Closed && self.hosts[host].patient) {
            self.after(3, Task::Start { claim, turn });
            return Ok(());
        }
        if self.hosts[host].gate == Gate::Closed {
            let at = Timestamp(self.now.0 + self.chance.between(0, self.profile.wait) * 1_000);
            let outcome = Outcome::Again { state: State::PushFail, at };
            return self.decided(claim, turn, outcome, turn.attempts);
        }
        if self.hosts[host].gate == Gate::Probe && !self.take_probe(claim, turn) {
            self.after(3, Task::Start { claim, turn });
            return Ok(());
        }
        self.check_start(claim, turn)?;
        let Some(owner) = self.owners.get_mut(&claim) else { return Ok(()) };
        owner.flight.insert(offset);
        let stale = owner.epoch != self.shelves[partition].epoch;
        self.begun[partition].insert(offset);
        if stale {
            self.excused[partition].insert(offset);
        }
        let long = self.chance.between(0, self.profile.attempt);
        self.after(long, Task::End { claim, turn });
        Ok(())
    }

    /// Checks the rules for an attempt that begins.
    fn check_start(&mut self, claim: u64, turn: Turn) -> Checked {
        let Some(owner) = self.owners.get_mut(&claim) else { return Ok(()) };
        let (offset, partition) = (turn.offset, owner.partition);
        let record = self.logs[partition].at(offset).ok_or_else(|| format!("{offset} is run and not in the log"))?;
        if let Some(other) = owner.running.insert(record.lane.clone(), offset) {
            return Err(format!("{offset} runs in claim {claim} while {other} of its lane does"));
        }
        self.check_turn(claim, offset)?;
        let Some(owner) = self.owners.get(&claim) else { return Ok(()) };
        let shelf = &self.shelves[partition];
        if shelf.blocked.contains(&record.lane) && owner.epoch == shelf.epoch {
            return Err(format!("{offset} runs while its key is open in an older partition"));
        }
        if owner.not_before.get(&offset).is_some_and(|at| *at > self.now) {
            return Err(format!("{offset} runs before its retry is due"));
        }
        // A stale owner may run a delivery again whose outcome it can never write.
        let rightful = owner.epoch == shelf.epoch;
        let again = rightful && !turn.has_row && self.begun[partition].contains(&offset);
        if again && !self.excused[partition].remove(&offset) {
            return Err(format!("{offset} runs again though nothing of it was lost"));
        }
        Ok(())
    }

    /// Checks that every earlier delivery of the lane is decided.
    fn check_turn(&self, claim: u64, offset: Offset) -> Checked {
        let Some(owner) = self.owners.get(&claim) else { return Ok(()) };
        let shelf = &self.shelves[owner.partition];
        let over = |before: Offset| shelf.ever.contains(&before) || owner.finished.contains(&before);
        match self.logs[owner.partition].before(offset).find(|before| !over(before.offset)) {
            Some(before) => Err(format!("{offset} has its turn before {} of its lane is decided", before.offset)),
            None => Ok(()),
        }
    }

    /// An attempt ends.
    pub fn end(&mut self, claim: u64, turn: Turn) -> Checked {
        let Some(owner) = self.owners.get_mut(&claim) else { return Ok(()) };
        let (offset, partition, host) = (turn.offset, owner.partition, owner.host);
        owner.running.retain(|_, running| *running != offset);
        let probed = self.end_probe(claim, turn);
        let profile = self.profile.clone();
        if !self.calm() && self.chance.percent(profile.dropped) {
            self.excused[partition].insert(offset);
            return self.step(claim, Event::NotStarted { offset });
        }
        let wait = self.chance.between(0, profile.wait) * 1_000;
        let at = Timestamp(self.now.0 + wait);
        let dice = self.chance.below(100) as u32;
        let mut used = turn.attempts.used + 1;
        let mut left = dice;
        let mut falls = |share: u32| {
            let hit = left < share;
            left = if hit { u32::MAX } else { left - share };
            hit
        };
        let outcome = if self.calm() {
            Outcome::Handled
        } else if falls(profile.retry) {
            Outcome::Again { state: State::HandleFail, at }
        } else if falls(profile.reject) {
            Outcome::Failed { dead_letter: false }
        } else if falls(profile.hold) {
            Outcome::Held
        } else if falls(profile.unavailable) {
            used = turn.attempts.used;
            if probed || self.hosts[host].gate != Gate::Probe {
                self.shut(host);
            }
            Outcome::Again { state: State::PushFail, at }
        } else {
            Outcome::Handled
        };
        if probed && self.hosts[host].gate == Gate::Probe {
            self.gate(host, Gate::Open)?;
        }
        self.decided(claim, turn, outcome, Attempts { invoked: turn.attempts.invoked + 1, used })
    }

    fn decided(&mut self, claim: u64, turn: Turn, outcome: Outcome, attempts: Attempts) -> Checked {
        let detail = self.next_attempt;
        self.next_attempt += 1;
        self.soon(Task::Mail {
            claim,
            event: Event::AttemptFinished { offset: turn.offset, outcome, attempts, detail },
        });
        Ok(())
    }

    /// Kafka hands over the records that it has, unless it is paused.
    pub fn tick(&mut self, claim: u64) -> Checked {
        let Some(owner) = self.owners.get_mut(&claim) else { return Ok(()) };
        let partition = owner.partition;
        if !owner.paused && !owner.draining {
            let log = &self.logs[partition];
            let records: Vec<_> = log.from(owner.fetch).iter().take(self.profile.burst).cloned().collect();
            let all = records.len() == log.from(owner.fetch).len();
            let end = log.end;
            owner.fetch = records.last().map_or(owner.fetch, |record| record.offset.next());
            if all && owner.fetch < end {
                owner.fetch = end;
                self.hand_over(claim, records)?;
                self.step(claim, Event::End { next: end })?;
            } else {
                self.hand_over(claim, records)?;
            }
        }
        if self.chance.percent(20)
            && let Some(owner) = self.owners.get_mut(&claim)
        {
            let mut actions = Vec::new();
            owner.machine.flush_position(&mut actions);
            self.act(claim, actions)?;
        }
        let wait = self.chance.between(1, 8);
        self.after(wait, Task::Tick { claim });
        Ok(())
    }

    fn hand_over(&mut self, claim: u64, records: Vec<super::log::Record>) -> Checked {
        for record in records {
            let offset = record.offset;
            let event = match record.wanted {
                true => Event::Record { offset, lane: record.lane, bytes: record.bytes },
                false => Event::Skipped { offset },
            };
            self.step(claim, event)?;
        }
        Ok(())
    }

    /// Ends an owner with everything that it held in memory.
    pub fn drop_owner(&mut self, claim: u64) {
        if let Some(owner) = self.owners.remove(&claim) {
            self.excused[owner.partition].extend(owner.flight);
            self.hosts[owner.host].probe.take_if(|(probing, _)| *probing == claim);
        }
    }

    fn released(&mut self, claim: u64, why: Release) -> Checked {
        let Some((host, partition)) = self.owners.get(&claim).map(|owner| (owner.host, owner.partition)) else {
            return Ok(());
        };
        self.drop_owner(claim);
        self.after_release(host, partition, why);
        Ok(())
    }
}
