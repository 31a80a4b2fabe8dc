//! Sends the outbound rows of the store to Kafka.
//!
//! A relay leases shards of keys, so that one host at a time sends the rows of
//! a key, in the order of their ids. The machine of [`courier_core::outbound`]
//! decides what happens to the rows of a pass, which are those of a shard that
//! were taken together; `actions` carries that out for all passes, so that they
//! share transactions. More rows are taken while passes are under way, but none
//! of a key that has a row under way, and what Kafka took is stored as it comes:
//! a row that takes long delays no others.
//!
//! No transaction is open while Kafka is awaited. While Kafka is known to be
//! away no rows are taken. Topics and partitions that take nothing now
//! ([`waits`]) delay no others and keep their order. Known limit: rows of one
//! key that are in flight together when a partition stops answering can be
//! reordered, if the partition recovers within the second between the client's
//! two timeout scans.

mod actions;
pub mod delayed;
pub mod lease;
mod pass;
mod settling;
mod waits;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use courier_core::message::Timestamp;
use courier_core::outbound::{Fate, RowId, ShardAction, ShardEvent, TopicAnswer, TopicId};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::delayed::{DelayedScheduler, DelayedWaker};
use self::lease::{Leases, Shards, keep_leases};
use self::pass::{Pass, PassId, RowResult, Settling};
use self::waits::Waits;
use super::waker::Waker;
use crate::causes::Causes;
use crate::kafka::log_reader::LogReader;
use crate::kafka::producer::Producer;
use crate::kafka::topics::{KnownTopic, TopicError};
use crate::store::{LeftOut, OutboundRow, SharedStore, StoreError, WriterId};
use crate::supervise::{self, Task};

/// Rows taken at a time.
const TAKE: usize = 1_000;
/// Rows under way, which are in memory with their records. More than one take, so
/// that rows which end late leave room for others.
const MAX_UNDER_WAY: usize = 4 * TAKE;
/// How long a pass has its shard alone. Most end within this time, and the store need
/// not search a backlog for keys without rows under way; one that lasts longer, for a
/// partition that does not answer, delays no others of its shard.
const PASS_ALONE: Duration = Duration::from_millis(200);
/// Poll interval: while there is traffic, and otherwise.
const BUSY: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(250);
/// How long polls stay frequent after rows were found: rows that other hosts
/// write are found by polling alone.
const STAY_BUSY: Duration = Duration::from_secs(2);
/// Pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause after the store refused results for a lasting cause.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// How long a row may wait for space in the client's queue.
const ROOM_WITHIN: Duration = Duration::from_secs(5);
/// How long rows wait for the description of their topic before they are deferred.
const KNOWN_WITHIN: Duration = Duration::from_millis(50);
/// How long a stop waits for rows in flight.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// The parts that the relay uses.
pub struct Parts {
    pub store: SharedStore,
    pub producer: Producer,
    /// Looks for records of unknown fate.
    pub log: LogReader,
    /// The writer of this process, which leases the shards.
    pub writer: WriterId,
    /// Wakes the relay.
    pub waker: Waker,
    /// Wakes the scheduler of delayed messages.
    pub alarm: DelayedWaker,
    /// Where the relay reports what stands still.
    pub causes: Causes,
}

/// The relay of this host.
pub struct Relay {
    store: SharedStore,
    producer: Producer,
    log: LogReader,
    waker: Waker,
    shards: watch::Receiver<Shards>,
    waits: Waits,
    /// Topics of which an answer is awaited that came too late for its rows.
    awaited: HashSet<Arc<str>>,
    passes: HashMap<PassId, Pass>,
    /// Counts the passes.
    begun_passes: u64,
    /// The shards with rows under way, which are not released.
    busy: watch::Sender<BTreeSet<i32>>,
    working: FuturesUnordered<BoxFuture<'static, Vec<Done>>>,
    /// Actions that are not carried out yet.
    wanted: Vec<(PassId, ShardAction)>,
    settling: Settling,
    begun: Instant,
    shutdown: CancellationToken,
}

/// The end of something that the relay awaited.
enum Done {
    /// `None` without an answer in time.
    Topic {
        topic: Arc<str>,
        answer: Option<Result<KnownTopic, TopicError>>,
        passes: Vec<PassId>,
    },
    /// An answer that came too late for the rows which asked; none at a stop.
    LateTopic {
        topic: Arc<str>,
        answer: Option<Result<KnownTopic, TopicError>>,
    },
    Choices {
        passes: Vec<PassId>,
        stored: Result<(), StoreError>,
    },
    Row {
        pass: PassId,
        row: RowId,
        event: ShardEvent,
    },
    Settled {
        results: Vec<RowResult>,
        stored: Result<(), StoreError>,
    },
}

impl Relay {
    /// Starts a relay, and with it the mover of delayed messages, which lives
    /// on the same shards; tells under which leases they work. It ends some
    /// time after `shutdown`: it finishes what
    /// is in flight, as far as Kafka answers soon, and lets go of its shards.
    #[must_use]
    pub fn start(parts: Parts, shutdown: CancellationToken) -> (JoinHandle<()>, Leases) {
        let Parts { store, producer, log, writer, waker, alarm, causes } = parts;
        let (leased, shards) = watch::channel(Shards::default());
        let kept = Leases(shards.clone());
        let stopped = CancellationToken::new();
        let (busy, are_busy) = watch::channel(BTreeSet::new());
        let keep = keep_leases(Arc::clone(&store), writer, (leased, are_busy), causes.clone(), stopped.clone());
        let leases = supervise::spawn_until(Task::RelayLeases, stopped.clone(), keep);
        let mover = DelayedScheduler::new(Arc::clone(&store), producer.clone(), shards.clone(), waker.clone(), alarm);
        let mover = supervise::spawn_until(Task::DelayedMover, shutdown.clone(), mover.run(shutdown.clone()));
        let stop = shutdown.clone();
        let relay = Self {
            store,
            producer,
            log,
            waker,
            shards,
            waits: Waits::new(causes),
            awaited: HashSet::new(),
            passes: HashMap::new(),
            begun_passes: 0,
            busy,
            working: FuturesUnordered::new(),
            wanted: Vec::new(),
            settling: Settling::default(),
            begun: Instant::now(),
            shutdown,
        };
        let task = supervise::spawn_until(Task::Relay, stop, async move {
            relay.run().await;
            let _panicked = mover.await;
            // Only now, when nothing of ours is in flight any more, may
            // another host take the shards.
            stopped.cancel();
            let _panicked = leases.await;
        });
        (task, kept)
    }

    async fn run(mut self) {
        let mut next_take = Instant::now();
        let mut busy_until = Instant::now();
        let mut down = self.producer.down();
        let shutdown = self.shutdown.clone();
        loop {
            // Finished work first: it frees keys and memory before more rows are taken.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(done) = self.working.next(), if !self.working.is_empty() => {
                    let settled = self.went_on(done).await;
                    // The keys of rows with a stored result may have more rows.
                    if !settled && Instant::now() < next_take {
                        continue;
                    }
                }
                () = self.waker.woken() => {}
                // Failures from while the cluster was away are over.
                Ok(()) = down.changed() => self.waits.forget_partitions(),
                () = tokio::time::sleep_until(next_take) => {}
            }
            let asked = Instant::now();
            let taken = self.take().await;
            let took = asked.elapsed();
            self.waits.asked_the_store(taken.as_ref().err());
            let pause = match taken {
                Ok(0) if Instant::now() < busy_until => BUSY,
                Ok(0) => IDLE,
                Ok(_) => {
                    busy_until = Instant::now() + STAY_BUSY;
                    self.carry_out().await;
                    BUSY
                }
                Err(_) => STORE_PAUSE,
            };
            // A store that takes long to answer has half of the time for other questions.
            next_take = Instant::now() + pause.max(took);
        }
        let under_way: Vec<PassId> = self.passes.keys().copied().collect();
        for pass in under_way {
            self.tell(pass, ShardEvent::Shutdown);
        }
        self.carry_out().await;
        let deadline = Instant::now() + STOP_WITHIN;
        while let Ok(Some(done)) = tokio::time::timeout_at(deadline, self.working.next()).await {
            self.went_on(done).await;
        }
    }

    /// Takes the next rows, and returns how many.
    async fn take(&mut self) -> Result<usize, StoreError> {
        self.follow_leases();
        let now = Instant::now();
        let young: HashSet<i32> =
            self.passes.values().filter(|pass| now < pass.begun + PASS_ALONE).map(|pass| pass.shard).collect();
        let (free, until) = {
            let shards = self.shards.borrow();
            let free = shards.kept().filter(|(shard, _)| !young.contains(shard));
            (free.collect::<HashMap<i32, i64>>(), shards.until)
        };
        let under_way: Vec<i64> = self.passes.values().flat_map(|pass| pass.machine.rows()).map(|row| row.0).collect();
        let limit = TAKE.min(MAX_UNDER_WAY.saturating_sub(under_way.len()));
        if free.is_empty() || limit == 0 || now >= until || self.producer.is_down() {
            return Ok(0);
        }
        let left_out = LeftOut { under_way, ..self.waits.left_out(now) };
        let asked: Vec<_> = free.iter().map(|(shard, epoch)| (*shard, *epoch)).collect();
        let rows = self.store.outbound(&asked, u32::try_from(limit).unwrap_or(u32::MAX), &left_out).await?;
        // A shard that was marked meanwhile is released once it has no rows under way.
        let still: HashMap<i32, i64> = self.shards.borrow().kept().collect();
        let mut of_shard: HashMap<i32, Vec<OutboundRow>> = HashMap::new();
        for row in rows.into_iter().filter(|row| still.get(&row.shard) == free.get(&row.shard)) {
            of_shard.entry(row.shard).or_default().push(row);
        }
        let leased_until = self.time_of(until);
        let count = of_shard.values().map(Vec::len).sum();
        for (shard, rows) in of_shard {
            let mut pass = Pass::new(shard, free[&shard]);
            let rows = rows.into_iter().map(|row| pass.keep(row)).collect();
            self.begun_passes += 1;
            let id = PassId(self.begun_passes);
            self.passes.insert(id, pass);
            self.tell(id, ShardEvent::Taken { rows, leased_until });
        }
        self.note_busy();
        Ok(count)
    }

    /// Notes which shards have rows under way.
    fn note_busy(&self) {
        let busy = self.passes.values().map(|pass| pass.shard).collect();
        self.busy.send_if_modified(|known| {
            let changed = *known != busy;
            *known = busy;
            changed
        });
    }

    /// Tells the machines which leases were renewed and which are lost.
    fn follow_leases(&mut self) {
        let (held, until) = {
            let shards = self.shards.borrow();
            (shards.held.iter().copied().collect::<HashMap<i32, i64>>(), shards.until)
        };
        let leased_until = self.time_of(until);
        let is_ours = |pass: &Pass| held.get(&pass.shard) == Some(&pass.epoch);
        let under_way: Vec<(PassId, bool)> = self.passes.iter().map(|(id, pass)| (*id, is_ours(pass))).collect();
        for (pass, ours) in under_way {
            self.tell(pass, if ours { ShardEvent::Renewed { leased_until } } else { ShardEvent::LeaseLost });
        }
    }

    /// Handles finished work, and whatever else is finished by now. Returns whether
    /// results were stored.
    async fn went_on(&mut self, done: Vec<Done>) -> bool {
        let mut ended = done;
        while let Some(Some(more)) = futures::FutureExt::now_or_never(self.working.next()) {
            ended.extend(more);
        }
        self.follow_leases();
        let settled = ended.iter().any(|done| matches!(done, Done::Settled { .. }));
        for done in ended {
            self.take_in(done);
        }
        self.carry_out().await;
        self.note_busy();
        settled
    }

    fn take_in(&mut self, done: Done) {
        match done {
            Done::Topic { topic, answer, passes } => {
                let answer = match answer {
                    Some(answer) => self.learn(&topic, answer),
                    None => {
                        self.await_late(&topic);
                        TopicAnswer::Unknown(self.waits.topic_is_looked_for(Instant::now(), &topic))
                    }
                };
                for pass in passes {
                    self.tell(pass, ShardEvent::Topic { topic: Arc::clone(&topic), answer: answer.clone() });
                }
            }
            Done::LateTopic { topic, answer } => {
                self.awaited.remove(&topic);
                if let Some(answer) = answer {
                    // No row waits for it: it is for those that are taken next,
                    // and for people.
                    let _for_rows = self.learn(&topic, answer);
                }
            }
            Done::Choices { passes, stored } => {
                if let Err(error) = &stored {
                    debug!(%error, "partitions that were chosen are not stored");
                }
                for pass in passes {
                    self.tell(pass, if stored.is_ok() { ShardEvent::ChoicesStored } else { ShardEvent::LeaseLost });
                }
            }
            Done::Row { pass, row, event } => {
                match &event {
                    ShardEvent::Produced { fate, .. } => self.note(pass, row, fate),
                    ShardEvent::NotLookedUp { reason, .. } => self.note_search(pass, row, Some(reason)),
                    _ => self.note_search(pass, row, None),
                }
                self.tell(pass, event);
            }
            Done::Settled { results, stored } => self.settled(results, stored),
        }
    }

    /// The answer about a topic for its rows.
    fn learn(&mut self, topic: &str, answer: Result<KnownTopic, TopicError>) -> TopicAnswer {
        match answer {
            Ok(known) => {
                self.waits.topic_is_there(topic);
                TopicAnswer::Known { id: TopicId(known.id), partitions: known.partitions, max_bytes: None }
            }
            Err(error @ TopicError::Invalid(_)) => TopicAnswer::Invalid(error.to_string()),
            Err(error) => {
                let code = if matches!(error, TopicError::Missing(_)) { "topic_missing" } else { "topic_unavailable" };
                if !self.waits.is_told(Instant::now(), topic) {
                    self.waits.topic_waits(Instant::now(), topic, code, &error.to_string());
                }
                TopicAnswer::Unknown(error.to_string())
            }
        }
    }

    /// Notes whether the partition of a row answered.
    fn note(&mut self, pass: PassId, row: RowId, fate: &Fate) {
        let Some(partition) = self.passes.get(&pass).and_then(|pass| pass.asked(row)) else { return };
        match fate {
            Fate::Later(reason) if !self.producer.is_down() => {
                self.waits.partition_waits(Instant::now(), partition, reason)
            }
            Fate::Later(_) => {}
            Fate::Acknowledged(_) | Fate::Refused(_) | Fate::Unknown(_) => self.waits.partition_answered(&partition),
        }
    }

    /// Notes whether the partition of a row of unknown fate was searched.
    fn note_search(&mut self, pass: PassId, row: RowId, failure: Option<&str>) {
        let Some(partition) = self.passes.get(&pass).and_then(|pass| pass.partition(row)) else { return };
        match failure {
            Some(reason) => self.waits.search_failed(partition, reason),
            None => self.waits.searched(&partition),
        }
    }

    fn tell(&mut self, id: PassId, event: ShardEvent) {
        let now = self.time_of(Instant::now());
        let Some(pass) = self.passes.get_mut(&id) else { return };
        self.wanted.extend(pass.machine.step(now, event).into_iter().map(|action| (id, action)));
        if pass.rows.len() > pass.machine.rows().len() {
            pass.rows.retain(|row, _| pass.machine.has(*row));
        }
        if pass.machine.is_idle() {
            self.passes.remove(&id);
        }
    }

    /// An instant on the machines' clock.
    fn time_of(&self, instant: Instant) -> Timestamp {
        Timestamp(i64::try_from(instant.saturating_duration_since(self.begun).as_micros()).unwrap_or(i64::MAX))
    }
}
