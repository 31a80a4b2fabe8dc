//! Sends the outbound rows of the store to Kafka.
//!
//! A relay leases shards of keys, so that one host at a time sends the rows of
//! a key, in the order of their ids. The machine of [`courier_core::outbound`]
//! decides what happens to the rows of a shard; `actions` carries that out for
//! all shards together, so that they share transactions.
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
mod waits;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use courier_core::message::Timestamp;
use courier_core::outbound::{Fate, Row, RowId, ShardAction, ShardEvent, TopicAnswer, TopicId};
use courier_core::status::State;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use self::delayed::{DelayedScheduler, DelayedWaker};
use self::lease::{Leases, Shards, keep_leases};
use self::pass::Pass;
use self::waits::Waits;
use super::waker::Waker;
use crate::causes::Causes;
use crate::kafka::log_reader::LogReader;
use crate::kafka::producer::Producer;
use crate::kafka::topics::{KnownTopic, TopicError};
use crate::publish::send::result::count;
use crate::said;
use crate::store::{RelayResult, Relayed, SharedStore, StoreError, WriterId};
use crate::supervise::{self, Task};

/// Rows taken at a time.
const TAKE: u32 = 1_000;
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
    passes: HashMap<i32, Pass>,
    working: FuturesUnordered<BoxFuture<'static, Vec<Done>>>,
    /// Actions that are not carried out yet.
    wanted: Vec<(i32, ShardAction)>,
    begun: Instant,
    shutdown: CancellationToken,
}

/// The end of something that the relay awaited.
enum Done {
    /// `None` without an answer in time.
    Topic {
        topic: Arc<str>,
        answer: Option<Result<KnownTopic, TopicError>>,
        shards: Vec<i32>,
    },
    /// An answer that came too late for the rows which asked; none at a stop.
    LateTopic {
        topic: Arc<str>,
        answer: Option<Result<KnownTopic, TopicError>>,
    },
    Choices {
        shards: Vec<i32>,
        stored: Result<(), StoreError>,
    },
    Row {
        shard: i32,
        row: RowId,
        event: ShardEvent,
    },
    Settled {
        results: Vec<(i32, RowId, Relayed)>,
        shards: Vec<i32>,
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
        let keep = keep_leases(Arc::clone(&store), writer, leased, causes.clone(), stopped.clone());
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
            working: FuturesUnordered::new(),
            wanted: Vec::new(),
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
        let mut pause = IDLE;
        let mut busy_until = Instant::now();
        let mut down = self.producer.down();
        let shutdown = self.shutdown.clone();
        loop {
            // Finished work first: it frees shards and memory before more rows are taken.
            tokio::select! {
                biased;
                Some(done) = self.working.next(), if !self.working.is_empty() => {
                    self.went_on(done).await;
                    // A free shard may have more rows.
                    if self.passes.len() == self.shards.borrow().held.len() {
                        continue;
                    }
                }
                () = shutdown.cancelled() => break,
                () = self.waker.woken() => {}
                // Failures from while the cluster was away are over.
                Ok(()) = down.changed() => self.waits.forget_partitions(),
                () = tokio::time::sleep(pause) => {}
            }
            let taken = self.take().await;
            self.waits.asked_the_store(taken.as_ref().err());
            pause = match taken {
                Ok(0) if Instant::now() < busy_until => BUSY,
                Ok(0) => IDLE,
                Ok(_) => {
                    busy_until = Instant::now() + STAY_BUSY;
                    self.carry_out().await;
                    BUSY
                }
                Err(_) => STORE_PAUSE,
            };
        }
        let under_way: Vec<i32> = self.passes.keys().copied().collect();
        for shard in under_way {
            self.tell(shard, ShardEvent::Shutdown);
        }
        self.carry_out().await;
        let deadline = Instant::now() + STOP_WITHIN;
        while let Ok(Some(done)) = tokio::time::timeout_at(deadline, self.working.next()).await {
            self.went_on(done).await;
        }
    }

    /// Takes the next rows of idle shards, and returns how many.
    async fn take(&mut self) -> Result<usize, StoreError> {
        self.follow_leases();
        let (free, until) = {
            let shards = self.shards.borrow();
            let free: Vec<_> =
                shards.held.iter().filter(|(shard, _)| !self.passes.contains_key(shard)).copied().collect();
            (free, shards.until)
        };
        if free.is_empty() || Instant::now() >= until || self.producer.is_down() {
            return Ok(0);
        }
        let rows = self.store.outbound(&free, TAKE, &self.waits.left_out(Instant::now())).await?;
        let count = rows.len();
        let epochs: HashMap<i32, i64> = free.into_iter().collect();
        let mut of_shard: HashMap<i32, Vec<Row>> = HashMap::new();
        for row in rows {
            let Some(epoch) = epochs.get(&row.shard).copied() else { continue };
            let pass = self.passes.entry(row.shard).or_insert_with(|| Pass::new(epoch));
            of_shard.entry(row.shard).or_default().push(pass.keep(row));
        }
        let leased_until = self.time_of(until);
        for (shard, rows) in of_shard {
            self.tell(shard, ShardEvent::Taken { rows, leased_until });
        }
        Ok(count)
    }

    /// Tells the machines which leases were renewed and which are lost.
    fn follow_leases(&mut self) {
        let (held, until) = {
            let shards = self.shards.borrow();
            (shards.held.iter().copied().collect::<HashMap<i32, i64>>(), shards.until)
        };
        let leased_until = self.time_of(until);
        let under_way: Vec<(i32, i64)> = self.passes.iter().map(|(shard, pass)| (*shard, pass.epoch)).collect();
        for (shard, epoch) in under_way {
            let ours = held.get(&shard) == Some(&epoch);
            self.tell(shard, if ours { ShardEvent::Renewed { leased_until } } else { ShardEvent::LeaseLost });
        }
    }

    /// Handles finished work, and whatever else is finished by now.
    async fn went_on(&mut self, done: Vec<Done>) {
        let mut ended = done;
        while let Some(Some(more)) = futures::FutureExt::now_or_never(self.working.next()) {
            ended.extend(more);
        }
        self.follow_leases();
        for done in ended {
            self.take_in(done);
        }
        self.carry_out().await;
    }

    fn take_in(&mut self, done: Done) {
        match done {
            Done::Topic { topic, answer, shards } => {
                let answer = match answer {
                    Some(answer) => self.learn(&topic, answer),
                    None => {
                        self.await_late(&topic);
                        TopicAnswer::Unknown(self.waits.topic_is_looked_for(Instant::now(), &topic))
                    }
                };
                for shard in shards {
                    self.tell(shard, ShardEvent::Topic { topic: Arc::clone(&topic), answer: answer.clone() });
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
            Done::Choices { shards, stored } => {
                if let Err(error) = &stored {
                    debug!(%error, "partitions that were chosen are not stored");
                }
                for shard in shards {
                    self.tell(shard, if stored.is_ok() { ShardEvent::ChoicesStored } else { ShardEvent::LeaseLost });
                }
            }
            Done::Row { shard, row, event } => {
                if let ShardEvent::Produced { fate, .. } = &event {
                    self.note(shard, row, fate);
                }
                self.tell(shard, event);
            }
            Done::Settled { results, shards, stored } => {
                if let Err(error) = stored {
                    // The rows are sent again, with the same ids.
                    if let Some(unsaid) = said::again("results of the relay") {
                        error!(%error, unsaid, "cannot store what became of {} rows of the relay", results.len());
                    }
                } else {
                    for (shard, row, relayed) in results {
                        match relayed.result {
                            RelayResult::Taken { .. } => count(State::Committed),
                            RelayResult::Undelivered { .. } => count(State::SendFail),
                            RelayResult::Later { .. } => {}
                        }
                        if let Some(message) = self.passes.get(&shard).and_then(|pass| pass.message(row)) {
                            self.waker.tell(&message, relayed.result);
                        }
                    }
                }
                for shard in shards {
                    self.tell(shard, ShardEvent::Settled);
                    self.passes.remove(&shard);
                }
            }
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
    fn note(&mut self, shard: i32, row: RowId, fate: &Fate) {
        let Some(partition) = self.passes.get(&shard).and_then(|pass| pass.asked(row)) else { return };
        match fate {
            Fate::Later(reason) if !self.producer.is_down() => {
                self.waits.partition_waits(Instant::now(), partition, reason)
            }
            Fate::Later(_) => {}
            Fate::Acknowledged(_) | Fate::Refused(_) | Fate::Unknown(_) => self.waits.partition_answered(&partition),
        }
    }

    fn tell(&mut self, shard: i32, event: ShardEvent) {
        let now = self.time_of(Instant::now());
        if let Some(pass) = self.passes.get_mut(&shard) {
            self.wanted.extend(pass.machine.step(now, event).into_iter().map(|action| (shard, action)));
        }
    }

    fn epochs(&self, shards: &[i32]) -> Vec<(i32, i64)> {
        shards.iter().filter_map(|shard| Some((*shard, self.passes.get(shard)?.epoch))).collect()
    }

    /// An instant on the machines' clock.
    fn time_of(&self, instant: Instant) -> Timestamp {
        Timestamp(i64::try_from(instant.saturating_duration_since(self.begun).as_micros()).unwrap_or(i64::MAX))
    }
}
