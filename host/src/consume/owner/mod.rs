//! The owner of one partition: a task that drives the machine of
//! [`courier_core::partition`].
//!
//! It takes records from the consumer thread and outcomes from the workers,
//! passes both to the machine, and carries out the actions that come back
//! (`actions`): it dispatches, settles and pauses. It decides nothing itself.
//! It lives for one claim: when the machine releases the partition the task
//! tells its group why and ends, and drops what it still held in memory.

mod actions;
pub mod dedupe;
mod foresight;
pub mod lanes;
pub mod log_end;
pub mod message;
pub mod older_partitions;
pub mod preserver;
pub mod record_loader;
mod requests;
pub mod reruns;
pub mod rescuer;
mod waits;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use courier_core::lanes::LaneKey;
use courier_core::message::{Epoch, Offset, Timestamp};
use courier_core::partition::{Action, Bounds, Claim, Event, Gate, Machine, Release};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::dedupe::Duplicates;
use self::lanes::LaneRule;
use self::log_end::LogEndProbe;
use self::message::{LoadedRecord, OwnerExit, OwnerHandle, OwnerMessage, OwnerRef, ReadyDelivery};
use self::older_partitions::OlderPartitions;
use self::preserver::Preserver;
use self::record_loader::Room;
use self::rescuer::Rescuer;
use self::waits::{PositionWait, UnderWay, answered, sleep_for, sleep_until};
use crate::clock::now;
use crate::consume::attempt::binding::RunningBinding;
use crate::consume::attempt::circuit_breaker::Permission;
use crate::consume::attempt::finished::FinishedAttempt;
use crate::consume::consumer::claim::{Begun, ClaimedPartition};
use crate::consume::consumer::confirmed::Confirmed;
pub use crate::consume::context::OwnerDeps;
use crate::kafka::buffered::{BufferedRecord, FeedItem};
use crate::kafka::consumer::ConsumerCommand;
use crate::supervise::{self, Task};

/// Messages taken in one go before the machine is flushed.
const MAX_MAIL: usize = 1_024;

/// Starts the owner of a claimed partition.
pub fn start(
    tools: OwnerDeps,
    bound: Arc<RunningBinding>,
    begun: Begun,
    orders: std::sync::mpsc::Sender<ConsumerCommand>,
    released: mpsc::UnboundedSender<OwnerExit>,
) -> OwnerHandle {
    let Begun { ready: ClaimedPartition { place, claimed, topic_id, ahead }, records: feed } = begun;
    let (mail, inbox) = mpsc::unbounded_channel();
    let durable = Arc::new(AtomicI64::new(claimed.next.0));
    let expected = Arc::new(AtomicI64::new(claimed.next.0));
    let (full, parked_full) = watch::channel(false);
    let busy = Arc::new(AtomicBool::new(false));
    bound.watch_full(place.clone(), parked_full.clone());
    let handle = OwnerHandle {
        epoch: claimed.epoch,
        mail: mail.clone(),
        position: claimed.position,
        durable: Arc::clone(&durable),
        expected: Arc::clone(&expected),
        parked_full,
        busy: Arc::clone(&busy),
        confirmed: Confirmed::new(Arc::clone(&topic_id), claimed.next),
        passed_over: 0,
    };
    // A request that the claim tells of is no new one when the store is polled for it.
    let seen_asks = claimed.open.iter().filter_map(|row| Some((row.offset, row.asked_at?))).collect();
    let ahead = OlderPartitions::of(ahead, bound.binding.ordering, topic_id);
    let rule = LaneRule::of(&bound);
    let claim = Claim {
        epoch: Epoch(claimed.epoch),
        position: claimed.next,
        settled: claimed.settled,
        open: claimed.open.iter().map(|row| rule.open(row)).collect(),
        blocked: ahead.keys().cloned().map(LaneKey::Key).collect(),
    };
    let bounds = Bounds { max_gap: bound.binding.max_gap as usize, ..Bounds::default() };
    let refused = watch::Sender::new(false);
    let address = Arc::new(OwnerRef {
        place: place.clone(),
        position: claimed.position,
        mail,
        no_more: CancellationToken::new(),
        dropped: CancellationToken::new(),
        refused: refused.subscribe(),
    });
    let owner = Owner {
        machine: Machine::new(bounds, claim),
        duplicates: Duplicates::of(&bound, &tools, &address),
        preserver: Preserver::of(&bound.binding, &place),
        address,
        tools,
        bound,
        epoch: claimed.epoch,
        records: HashMap::new(),
        answer: None,
        orders,
        released,
        durable,
        expected,
        full,
        refused,
        busy,
        actions: Vec::new(),
        seen_asks,
        recalls: HashMap::new(),
        recalled: watch::Sender::new(()),
        room: Room::default(),
        log_end: LogEndProbe::default(),
        ahead,
        rescuer: Rescuer::default(),
        now: now(),
    };
    supervise::spawn(Task::PartitionOwner, owner.run(feed, inbox));
    handle
}

struct Owner {
    machine: Machine<Box<FinishedAttempt>>,
    address: Arc<OwnerRef>,
    tools: OwnerDeps,
    bound: Arc<RunningBinding>,
    epoch: i64,
    /// Records whose deliveries have no durable outcome and no open row yet.
    records: HashMap<Offset, Arc<BufferedRecord>>,
    answer: Option<UnderWay>,
    orders: std::sync::mpsc::Sender<ConsumerCommand>,
    released: mpsc::UnboundedSender<OwnerExit>,
    durable: Arc<AtomicI64>,
    expected: Arc<AtomicI64>,
    full: watch::Sender<bool>,
    /// Whether the store refuses the batch under way.
    refused: watch::Sender<bool>,
    busy: Arc<AtomicBool>,
    actions: Vec<Action<Box<FinishedAttempt>>>,
    /// Handled messages; `None` where duplicates run.
    duplicates: Option<Duplicates>,
    /// Rerun requests that were passed on, by delivery: the store is polled for
    /// a window of time, so it returns a request more than once.
    seen_asks: HashMap<Offset, Timestamp>,
    /// Recalls a dispatched delivery that was given up before its attempt
    /// began.
    recalls: HashMap<Offset, CancellationToken>,
    /// Tells loaders of each recall.
    recalled: watch::Sender<()>,
    /// Bounds the reloaded records in memory.
    room: Room,
    /// Asks for the end of the log.
    log_end: LogEndProbe,
    /// Keys that are still open in older partitions.
    ahead: OlderPartitions,
    /// Copies parked records before Kafka removes them.
    preserver: Preserver,
    rescuer: Rescuer,
    /// The time that the machine was told last. It does not go back within a batch of
    /// events, in which some read the clock and others do not.
    now: Timestamp,
}

impl Owner {
    async fn run(
        mut self,
        mut feed: mpsc::UnboundedReceiver<FeedItem>,
        mut inbox: mpsc::UnboundedReceiver<OwnerMessage>,
    ) {
        let mut gate = self.bound.gate.watch();
        let mut refused = self.refused.subscribe();
        let mut deadline = None;
        let mut fed = true;
        let mut position_wait = PositionWait::default();
        self.gate_moved(&gate.borrow_and_update().clone());
        self.step(Event::Due);
        let mut visit = tokio::time::Instant::now() + self.rescuer.next();
        loop {
            self.machine.flush(&mut self.actions);
            if let Some(why) = self.act().await {
                return self.end(why);
            }
            self.busy.store(self.machine.running() > 0 || self.answer.is_some(), Ordering::Relaxed);
            let due = self.machine.next_due().map(|at| at.since(now()));
            let (look_at, look_ahead_at) = (self.log_end.look_at(), self.ahead.look_at());
            let preserve_at = self.preserver.look_at(self.machine.parked_bare());
            let write_position_at = position_wait.until(self.machine.is_position_unwritten());
            // Answers and outcomes come before new records, because they free
            // memory and records take it.
            tokio::select! {
                biased;
                answer = answered(&mut self.answer) => self.answered(answer),
                // Before the deliveries that workers return for it, which would
                // be dispatched again.
                Ok(()) = refused.changed() => {
                    let now = gate.borrow().clone();
                    self.gate_moved(&now);
                }
                // Before the outcome of the probe that moved it, behind which another
                // delivery would be dispatched to probe again.
                Ok(()) = gate.changed() => {
                    let now = gate.borrow_and_update().clone();
                    self.gate_moved(&now);
                }
                // This task holds a sender, so the inbox never closes.
                Some(first) = inbox.recv() => self.take_all(first, &mut inbox, &mut deadline),
                () = sleep_until(deadline) => self.step(Event::Deadline),
                () = sleep_for(due) => self.step(Event::Due),
                () = sleep_until(look_at) => {
                    self.log_end.look(&self.tools.log, &self.address, self.machine.next());
                }
                () = sleep_until(look_ahead_at) => {
                    self.ahead.look(Arc::clone(&self.tools.store), &self.address, &self.bound.binding.group);
                }
                () = sleep_until(preserve_at) => {
                    self.preserver.look(self.tools.clone(), &self.address, self.epoch);
                }
                () = tokio::time::sleep_until(visit) => {
                    self.rescuer.visit(Arc::clone(&self.tools.store), Arc::clone(&self.address));
                    visit = tokio::time::Instant::now() + self.rescuer.next();
                }
                () = sleep_until(write_position_at) => {
                    position_wait.is_over();
                    self.machine.flush_position(&mut self.actions);
                }
                // Last, because there may always be more: on a busy topic nothing
                // behind it would have a turn.
                fed_now = feed.recv(), if fed => match fed_now {
                    Some(FeedItem::Records(records)) => self.receive(records),
                    Some(FeedItem::End) => self.log_end.ended(tokio::time::Instant::now(), self.machine.next()),
                    // The consumer thread has dropped this partition; its event
                    // is on the way.
                    None => fed = false,
                },
            }
        }
    }

    fn step(&mut self, event: Event<Box<FinishedAttempt>>) {
        self.now = now();
        self.step_on(event);
    }

    /// Steps the machine for one of many events that are taken together, without reading
    /// the clock for each.
    fn step_on(&mut self, event: Event<Box<FinishedAttempt>>) {
        self.machine.step(self.now, event, &mut self.actions);
    }

    fn receive(&mut self, records: Vec<BufferedRecord>) {
        self.now = now();
        for buffered in records {
            let offset = buffered.offset;
            if let Some(types) = &self.bound.binding.types
                && !types.contains(&buffered.message().type_name)
                // The type of a record that is too large may stand in its body, which was not kept.
                && !(buffered.record.left_out.is_some() && buffered.message().type_name.is_empty())
            {
                self.step_on(Event::Skipped { offset });
                continue;
            }
            let lane = LaneRule::of(&self.bound).lane_of_record(&buffered);
            let bytes = buffered.record.size();
            if self.machine.wants(offset) {
                self.records.insert(offset, Arc::new(buffered));
            }
            self.step_on(Event::Record { offset, lane, bytes });
        }
        self.expected.store(self.machine.next().0, Ordering::Relaxed);
    }

    /// Takes a message and those behind it, at most [`MAX_MAIL`].
    fn take_all(
        &mut self,
        first: OwnerMessage,
        inbox: &mut mpsc::UnboundedReceiver<OwnerMessage>,
        deadline: &mut Option<tokio::time::Instant>,
    ) {
        self.now = now();
        self.take(first, deadline);
        for _ in 1..MAX_MAIL {
            let Ok(mail) = inbox.try_recv() else { break };
            self.take(mail, deadline);
        }
    }

    fn take(&mut self, mail: OwnerMessage, deadline: &mut Option<tokio::time::Instant>) {
        match mail {
            OwnerMessage::AttemptFinished(mut finished) => {
                if finished.invoked {
                    finished.log = self.rescuer.explain(finished.buffered.offset, finished.log.take());
                }
                let (offset, outcome) = (finished.buffered.offset, finished.outcome);
                self.recalls.remove(&offset);
                if let Some(duplicates) = &mut self.duplicates {
                    // Before the next delivery of its lane has its turn.
                    duplicates.decided(&finished);
                }
                let attempts = finished.attempts;
                self.step_on(Event::AttemptFinished { offset, outcome, attempts, detail: finished });
            }
            OwnerMessage::NotStarted(offset) => {
                self.recalls.remove(&offset);
                self.step(Event::NotStarted { offset });
            }
            OwnerMessage::Loaded(loaded) => {
                let LoadedRecord { offset, attempts, asked, give_up, buffered } = loaded;
                match buffered {
                    Some(buffered) => {
                        if let Some(at) = buffered.asked_at {
                            // The attempt begins with what this request reset.
                            let seen = self.seen_asks.entry(offset).or_insert(at);
                            *seen = at.max(*seen);
                        }
                        let delivery = self.ready(buffered, attempts);
                        match give_up {
                            Some(give_up) => delivery.give_up(&self.bound, give_up),
                            None => self.begin(delivery, asked),
                        }
                    }
                    None => {
                        self.recalls.remove(&offset);
                        self.step(Event::RowGone { offset });
                    }
                }
            }
            OwnerMessage::LookedUp(delivery, handled) => {
                let decided = self.duplicates.as_ref().is_some_and(|duplicates| duplicates.is_decided(&delivery));
                if handled || decided { self.drop_duplicate(delivery) } else { self.dispatch(delivery, false) }
            }
            OwnerMessage::LogEndMoved(next) => {
                self.step(Event::End { next });
                self.expected.store(self.machine.next().0, Ordering::Relaxed);
            }
            OwnerMessage::OpenAhead(open) => {
                for key in self.ahead.open(&open) {
                    self.step(Event::Unblocked(LaneKey::Key(key)));
                }
            }
            OwnerMessage::Foreseen(found) => self.foreseen(found.as_ref()),
            OwnerMessage::RerunRequested(rows) => self.asked(rows),
            OwnerMessage::OpenRowsScanned(rows) => self.visited(&rows),
            OwnerMessage::Revoke(wait) => {
                self.address.no_more.cancel();
                *deadline = Some(tokio::time::Instant::now() + wait);
                self.step(Event::Revoke);
                // Workers would return the queued deliveries as well, but may
                // be busy for longer than the revocation may take. The first
                // owner returns them for all partitions that are revoked.
                let gives_up = |delivery: &ReadyDelivery| delivery.owner.no_more.is_cancelled();
                self.bound.ready.drain_where(gives_up).into_iter().for_each(ReadyDelivery::give_back);
            }
            OwnerMessage::Lost => self.step(Event::Lost),
        }
    }

    fn gate_moved(&mut self, gate: &Permission) {
        let gate = if *self.refused.borrow() { Gate::Closed } else { gate.of_partitions() };
        self.step(Event::Gate(gate));
    }

    fn end(self, why: Release) {
        self.address.no_more.cancel();
        self.address.dropped.cancel();
        self.preserver.end(&self.tools.causes);
        let released = OwnerExit {
            place: self.address.place.clone(),
            epoch: self.epoch,
            why,
            position: Offset(self.durable.load(Ordering::Relaxed)),
        };
        // A group that has ended needs no answer.
        let _ = self.released.send(released);
    }
}
