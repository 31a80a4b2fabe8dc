//! The one way out for all that the host owes Kafka: rows first, then Kafka.
//!
//! A relay leases shards of keys, so that one host at a time sends the rows of
//! a key, in the order of their ids. What is done with the rows of a shard is
//! decided by the machine of [`courier_core::outbound`]; this file carries its
//! actions out, for all shards at once, so that they share transactions.
//!
//! No transaction is open while Kafka is waited for. While Kafka is known to
//! be away nothing is taken, so that no tries are wasted. What takes nothing
//! now ([`waits`]) holds up neither other topics nor its own order. Only the
//! rows in flight at the very moment a partition stops answering were sent
//! together: a later one of them is taken after an earlier one was given back
//! if the partition answers again within the second in which the client looks
//! for records to give back, and looks between those two.

pub mod delayed;
pub mod lease;
mod pass;
mod waits;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use courier_core::message::{Offset, Timestamp};
use courier_core::outbound::{Choice, Fate, Row, RowEnd, RowId, ShardAction, ShardEvent, TopicAnswer, TopicId};
use courier_core::status::State;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use self::delayed::{DelayedScheduler, DelayedWaker};
use self::lease::{Leases, Shards, keep_leases};
use self::pass::{Pass, fate_of, result_of};
use self::waits::Waits;
use super::waker::Waker;
use crate::causes::Causes;
use crate::kafka::log_reader::LogReader;
use crate::kafka::producer::Producer;
use crate::kafka::record::Record;
use crate::kafka::topics::{KnownTopic, TopicError};
use crate::publish::send::result::count;
use crate::said;
use crate::store::{ChosenPartition, RelayResult, Relayed, SharedStore, StoreError, WriterId};
use crate::supervise::{self, Task};

/// Rows taken at a time.
const TAKE: u32 = 1_000;
/// Pause between polls: while there is traffic, and otherwise.
const BUSY: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(250);
/// How long polls stay frequent after rows were found. The rows of an outbox
/// that another host reads, say, are heard of by polling alone.
const STAY_BUSY: Duration = Duration::from_secs(2);
/// Pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause after the store refused results for a cause that lasts.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// How long a row may wait for room in the client's queue.
const ROOM_WITHIN: Duration = Duration::from_secs(5);
/// How long rows wait to learn of their topic, before they are put off.
const KNOWN_WITHIN: Duration = Duration::from_millis(50);
/// How long a stop waits for rows in flight.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// What the relay works with.
pub struct Parts {
    /// Where the rows are.
    pub store: SharedStore,
    /// The way to Kafka.
    pub producer: Producer,
    /// Reads Kafka, for records of unknown fate.
    pub log: LogReader,
    /// The writer of this process, which leases the shards.
    pub writer: WriterId,
    /// Wakes the relay.
    pub waker: Waker,
    /// Tells of delayed messages.
    pub alarm: DelayedWaker,
    /// Where the relay says what stands still.
    pub causes: Causes,
}

/// Sends the rows that the host owes Kafka.
pub struct Relay {
    store: SharedStore,
    producer: Producer,
    log: LogReader,
    waker: Waker,
    shards: watch::Receiver<Shards>,
    waits: Waits,
    passes: HashMap<i32, Pass>,
    working: FuturesUnordered<BoxFuture<'static, Vec<Done>>>,
    /// Actions that machines want and that are not carried out yet.
    wanted: Vec<(i32, ShardAction)>,
    begun: Instant,
    shutdown: CancellationToken,
}

/// Something that the relay waited for.
enum Done {
    /// None where nobody could say in time.
    Topic {
        topic: Arc<str>,
        answer: Option<Result<KnownTopic, TopicError>>,
        shards: Vec<i32>,
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
            // What ended first: it frees shards and memory before more is taken.
            tokio::select! {
                biased;
                Some(done) = self.working.next(), if !self.working.is_empty() => {
                    self.went_on(done).await;
                    // A shard that got free may have rows which waited for it.
                    if self.passes.len() == self.shards.borrow().held.len() {
                        continue;
                    }
                }
                () = shutdown.cancelled() => break,
                () = self.waker.woken() => {}
                // What was said of partitions while it was away is over.
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

    /// Takes the next rows of shards that are free; answers how many.
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
        let rows = self.store.outbound(&free, TAKE, &self.waits.topics(Instant::now())).await?;
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

    /// Tells the machines how long their leases last, and which are lost.
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

    /// Takes in what ended, and whatever else has ended by now.
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
                let answer = self.learn(&topic, answer);
                for shard in shards {
                    self.tell(shard, ShardEvent::Topic { topic: Arc::clone(&topic), answer: answer.clone() });
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
                    // They are sent again, with their ids.
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

    /// What is known of a topic, for its rows.
    fn learn(&mut self, topic: &str, answer: Option<Result<KnownTopic, TopicError>>) -> TopicAnswer {
        let Some(answer) = answer else {
            self.waits.topic_is_looked_for(Instant::now(), topic);
            return TopicAnswer::Waits(format!("topic {topic} is being looked for"));
        };
        match answer {
            Ok(known) => {
                self.waits.topic_is_there(topic);
                TopicAnswer::Known { id: TopicId(known.id), partitions: known.partitions, max_bytes: None }
            }
            Err(error @ TopicError::Invalid(_)) => TopicAnswer::Invalid(error.to_string()),
            Err(error) => {
                let code = if matches!(error, TopicError::Missing(_)) { "topic_missing" } else { "topic_unavailable" };
                if self.waits.topic(Instant::now(), topic).is_none() {
                    self.waits.topic_waits(Instant::now(), topic, code, &error.to_string());
                }
                TopicAnswer::Waits(error.to_string())
            }
        }
    }

    /// Remembers which partitions answer.
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

    /// Carries out what the machines want, in as few transactions as possible.
    async fn carry_out(&mut self) {
        let (mut topics, mut choices, mut settles) = (HashMap::<Arc<str>, Vec<i32>>::new(), Vec::new(), Vec::new());
        // Actions may bring about others at once, such as a row that must wait.
        while !self.wanted.is_empty() {
            for (shard, action) in std::mem::take(&mut self.wanted) {
                match action {
                    ShardAction::AskTopic(topic) => topics.entry(topic).or_default().push(shard),
                    ShardAction::StoreChoices(chosen) => choices.push((shard, chosen)),
                    ShardAction::Produce { row, partition } => self.produce(shard, row, partition).await,
                    ShardAction::LookUp { row, partition, from } => self.look_up(shard, row, partition, from),
                    ShardAction::Settle(ends) => settles.push((shard, ends)),
                }
            }
            for (topic, shards) in std::mem::take(&mut topics) {
                self.ask(topic, shards);
            }
        }
        if !choices.is_empty() {
            self.store_choices(choices);
        }
        if !settles.is_empty() {
            self.settle(settles);
        }
    }

    fn ask(&mut self, topic: Arc<str>, shards: Vec<i32>) {
        if let Some(reason) = self.waits.topic(Instant::now(), &topic) {
            for shard in shards {
                let answer = TopicAnswer::Waits(reason.clone());
                self.tell(shard, ShardEvent::Topic { topic: Arc::clone(&topic), answer });
            }
            return;
        }
        let producer = self.producer.clone();
        self.working.push(Box::pin(async move {
            // One topic that the broker has to look for must not hold up others.
            let answer = tokio::time::timeout(KNOWN_WITHIN, producer.topic(&topic)).await.ok();
            vec![Done::Topic { topic, answer, shards }]
        }));
    }

    fn store_choices(&mut self, choices: Vec<(i32, Vec<Choice>)>) {
        let shards: Vec<i32> = choices.iter().map(|(shard, _)| *shard).collect();
        // No other shard's lease is locked for it.
        let leases = self.epochs(&shards);
        let chosen = choices.into_iter().flat_map(|(_, chosen)| chosen).map(|choice| ChosenPartition {
            row: choice.row.0,
            topic_id: choice.topic_id.0.to_string(),
            partition: choice.partition,
        });
        let chosen: Vec<_> = chosen.collect();
        let store = Arc::clone(&self.store);
        self.working.push(Box::pin(async move {
            let stored = store.choose_partitions(&leases, &chosen).await;
            vec![Done::Choices { shards, stored }]
        }));
    }

    async fn produce(&mut self, shard: i32, row: RowId, partition: i32) {
        let Some(kept) = self.passes.get_mut(&shard).and_then(|pass| pass.rows.get_mut(&row)) else { return };
        kept.partition = Some(partition);
        let record = match Record::decode(&kept.row.record) {
            Ok(record) => record,
            Err(error) => {
                return self.tell(shard, ShardEvent::Produced { row, fate: Fate::Refused(error.to_string()) });
            }
        };
        let topic = kept.row.topic.clone();
        if !self.waits.admits(Instant::now(), &(topic.clone(), partition)) {
            let fate = Fate::Later("its partition does not answer".to_owned());
            return self.tell(shard, ShardEvent::Produced { row, fate });
        }
        kept.asked = true;
        match self.producer.send(&topic, partition, &record, Instant::now() + ROOM_WITHIN).await {
            Ok(ack) => self.working.push(Box::pin(async move {
                vec![Done::Row { shard, row, event: ShardEvent::Produced { row, fate: fate_of(ack.await) } }]
            })),
            Err(error) => {
                let fate = fate_of(Err(error));
                self.note(shard, row, &fate);
                self.tell(shard, ShardEvent::Produced { row, fate });
            }
        }
    }

    fn look_up(&mut self, shard: i32, row: RowId, partition: i32, from: Offset) {
        let Some(kept) = self.passes.get(&shard).and_then(|pass| pass.rows.get(&row)) else { return };
        let (log, topic, record) = (self.log.clone(), kept.row.topic.clone(), kept.row.record.clone());
        self.working.push(Box::pin(async move {
            let event = match Record::decode(&record) {
                Ok(record) => match log.find(&topic, partition, from, &record).await {
                    Ok(found) => ShardEvent::LookedUp { row, found },
                    Err(error) => ShardEvent::NotLookedUp { row, reason: error.to_string() },
                },
                Err(error) => ShardEvent::NotLookedUp { row, reason: error.to_string() },
            };
            vec![Done::Row { shard, row, event }]
        }));
    }

    fn settle(&mut self, settles: Vec<(i32, Vec<(RowId, RowEnd)>)>) {
        let shards: Vec<i32> = settles.iter().map(|(shard, _)| *shard).collect();
        let leases = self.epochs(&shards);
        let mut results = Vec::new();
        for (shard, ends) in settles {
            for (row, end) in ends {
                results.push((shard, row, Relayed { id: row.0, shard, result: result_of(end) }));
            }
        }
        let (store, shutdown) = (Arc::clone(&self.store), self.shutdown.clone());
        self.working.push(Box::pin(async move {
            let rows: Vec<Relayed> = results.iter().map(|(_, _, relayed)| relayed.clone()).collect();
            let stored = if rows.is_empty() { Ok(()) } else { store_results(&store, &leases, &rows, &shutdown).await };
            vec![Done::Settled { results, shards, stored }]
        }));
    }

    fn epochs(&self, shards: &[i32]) -> Vec<(i32, i64)> {
        shards.iter().filter_map(|shard| Some((*shard, self.passes.get(shard)?.epoch))).collect()
    }

    /// A time of the machines' clock.
    fn time_of(&self, instant: Instant) -> Timestamp {
        Timestamp(i64::try_from(instant.saturating_duration_since(self.begun).as_micros()).unwrap_or(i64::MAX))
    }
}

/// Stores results and insists until the store is there or the host stops.
/// To repeat it is safe, since rows that are gone are left alone; to drop it
/// would send them again.
async fn store_results(
    store: &SharedStore,
    shards: &[(i32, i64)],
    results: &[Relayed],
    shutdown: &CancellationToken,
) -> Result<(), StoreError> {
    let mut pause = STORE_PAUSE;
    loop {
        match store.relayed(shards, results).await {
            Err(error) if error.may_pass() && !shutdown.is_cancelled() => {
                if !error.is_transient() {
                    pause = (pause * 2).min(REFUSED_PAUSE);
                    if let Some(unsaid) = said::again("refused results of the relay") {
                        warn!(%error, again_in = ?pause, unsaid, "the store refused what became of rows; they wait");
                    }
                }
                tokio::time::sleep(pause).await;
            }
            Err(StoreError::Data(reason)) if results.len() > 1 => {
                warn!(%reason, "the store refused a result: storing each alone");
                for result in results {
                    if let Err(error) = store.relayed(shards, std::slice::from_ref(result)).await
                        && let Some(unsaid) = said::again("a result of the relay")
                    {
                        error!(%error, row = result.id, unsaid, "cannot store what became of a row");
                    }
                }
                return Ok(());
            }
            answer => return answer,
        }
    }
}
