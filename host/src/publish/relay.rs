//! The one way out for all that the host owes Kafka: rows first, then Kafka.
//!
//! A relay leases shards of keys, so that one host at a time sends the rows of
//! a key, in the order of their ids. It stores the partition of a row before
//! it first produces it, and the result under the shard's epoch afterwards; a
//! crash in between sends the row twice, with one id and to one partition. A
//! row that cannot be sent now hides those of its key behind it; one that
//! Kafka will never take becomes SEND_FAIL and its key goes on.
//!
//! No transaction is open while Kafka is waited for. While Kafka is known to
//! be away nothing is taken, so that no tries are wasted. A partition that
//! does not answer is asked with one row at a time ([`Stuck`]), so that it
//! holds up neither other topics nor its own order. Only the rows in flight at
//! the very moment it stops answering were sent together: a later one of them
//! is taken after an earlier one was given up if the partition answers again
//! within the second in which the client looks for records to give up, and
//! looks between those two.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courier_core::status::State;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::delayed::{Alarm, Mover};
use super::landing::count;
use super::lease::{Leases, Shards, keep_leases};
use super::waker::Waker;
use crate::kafka::producer::{Ack, ProduceError, Producer};
use crate::kafka::record::{Record, murmur2_partition};
use crate::kafka::topics::TopicError;
use crate::store::{OutboundRow, RelayResult, Relayed, SharedStore, StoreError, WriterId};

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
/// First and longest wait of a row that cannot be sent now. The longest is
/// short, since what waits should go soon after its cause has passed.
const WAIT_FIRST: Duration = Duration::from_millis(250);
const WAIT_LONGEST: Duration = Duration::from_secs(5);
/// How often a row for a topic that does not exist is tried: about 20 s, so
/// that a topic which is created just after its first message still gets it.
const MISSING_TRIES: u32 = 8;
/// How long a row may wait for room in the client's queue.
const ROOM_WITHIN: Duration = Duration::from_secs(5);
/// How long a row waits to learn of its topic, before it is put off.
const KNOWN_WITHIN: Duration = Duration::from_millis(50);
/// How long a stop waits for rows in flight.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Sends the rows that the host owes Kafka.
pub struct Relay {
    store: SharedStore,
    producer: Producer,
    waker: Waker,
    shards: watch::Receiver<Shards>,
    stuck: HashMap<(String, i32), Stuck>,
    /// Shards with rows in flight: their next rows are taken when all of those
    /// have ended and their results are stored.
    busy: HashSet<i32>,
    /// Whether a look left such shards out: what is there may have waited for
    /// nothing but the end of those flights.
    passed_over: bool,
}

/// A partition that did not take a row in time.
struct Stuck {
    /// Nothing is sent to it before this.
    until: Instant,
    /// How often in a row it failed.
    times: u32,
}

/// The end of one shard's rows.
struct ShardEnd {
    shard: i32,
    epoch: i64,
    results: Vec<(Row, RelayResult)>,
}

/// What must be remembered of a row while it is in flight.
struct Row {
    id: i64,
    message_id: String,
    topic: String,
    partition: Option<i32>,
    tries: u32,
    /// Whether the client had it, so that its result tells of the partition.
    asked: bool,
}

/// A row that was handed to the client, or what kept it from that.
enum Sent {
    Ack(Ack),
    Not(RelayResult),
}

impl Relay {
    /// Starts a relay, and with it the mover of delayed messages, which lives
    /// on the same shards; tells under which leases they work. It ends some
    /// time after `shutdown`: it finishes what
    /// is in flight, as far as Kafka answers soon, and lets go of its shards.
    #[must_use]
    pub fn start(
        store: SharedStore,
        producer: Producer,
        writer: WriterId,
        waker: Waker,
        alarm: Alarm,
        shutdown: CancellationToken,
    ) -> (JoinHandle<()>, Leases) {
        let (leased, shards) = watch::channel(Shards::default());
        let kept = Leases(shards.clone());
        let stopped = CancellationToken::new();
        let leases = tokio::spawn(keep_leases(Arc::clone(&store), writer, leased, stopped.clone()));
        let mover = Mover::new(Arc::clone(&store), producer.clone(), shards.clone(), waker.clone(), alarm);
        let mover = tokio::spawn(mover.run(shutdown.clone()));
        let relay =
            Self { store, producer, waker, shards, stuck: HashMap::new(), busy: HashSet::new(), passed_over: false };
        let task = tokio::spawn(async move {
            relay.run(shutdown).await;
            let _panicked = mover.await;
            // Only now, when nothing of ours is in flight any more, may
            // another host take the shards.
            stopped.cancel();
            let _panicked = leases.await;
        });
        (task, kept)
    }

    async fn run(mut self, shutdown: CancellationToken) {
        let mut flights = FuturesUnordered::new();
        let mut pause = IDLE;
        let mut busy_until = Instant::now();
        let mut down = self.producer.down();
        loop {
            // Results first: they free shards and memory before more is taken.
            tokio::select! {
                biased;
                Some(end) = flights.next(), if !flights.is_empty() => {
                    let mut ends = vec![end];
                    while let Some(Some(end)) = futures::FutureExt::now_or_never(flights.next()) {
                        ends.push(end);
                    }
                    self.settle(ends, &shutdown).await;
                    pause = if self.passed_over { Duration::ZERO } else { BUSY };
                    continue;
                }
                () = shutdown.cancelled() => break,
                () = self.waker.woken() => {}
                Ok(()) = down.changed() => {
                    // What was said of partitions while it was away is over.
                    self.stuck.clear();
                }
                () = tokio::time::sleep(pause) => {}
            }
            pause = match self.take().await {
                Ok(rows) if rows.is_empty() => {
                    if Instant::now() < busy_until {
                        BUSY
                    } else {
                        IDLE
                    }
                }
                Ok(rows) => {
                    busy_until = Instant::now() + STAY_BUSY;
                    for flight in self.send(rows).await {
                        flights.push(flight.end());
                    }
                    BUSY
                }
                Err(error) => {
                    if error.is_transient() {
                        debug!(%error, "the relay waits for the store");
                    } else {
                        warn!(%error, "the relay cannot take rows");
                    }
                    STORE_PAUSE
                }
            };
        }
        let deadline = Instant::now() + STOP_WITHIN;
        while let Ok(Some(end)) = tokio::time::timeout_at(deadline, flights.next()).await {
            self.settle(vec![end], &shutdown).await;
        }
    }

    /// Takes the next rows, with their partitions chosen and stored.
    async fn take(&mut self) -> Result<Vec<(OutboundRow, i64)>, StoreError> {
        self.passed_over = !self.busy.is_empty();
        let shards = self.free_shards();
        if shards.is_empty() || self.producer.is_down() {
            return Ok(Vec::new());
        }
        let mut rows = self.store.outbound(&shards, TAKE).await?;
        let mut chosen = Vec::new();
        for row in rows.iter_mut().filter(|row| row.partition.is_none()) {
            if let Ok(partitions) = self.partitions(&row.topic).await {
                // The same choice as the direct way makes.
                let key = row.key.as_deref().unwrap_or(row.message_id.as_bytes());
                let partition = murmur2_partition(key, partitions);
                row.partition = Some(partition);
                chosen.push((row.id, partition));
            }
        }
        if !chosen.is_empty() {
            // No other shard's lease is locked for it.
            let theirs: HashSet<i32> = rows.iter().map(|row| row.shard).collect();
            let shards: Vec<_> = shards.iter().filter(|(shard, _)| theirs.contains(shard)).copied().collect();
            self.store.choose_partitions(&shards, &chosen).await?;
        }
        let epochs: HashMap<i32, i64> = shards.into_iter().collect();
        Ok(rows.into_iter().filter_map(|row| epochs.get(&row.shard).copied().map(|epoch| (row, epoch))).collect())
    }

    /// The partitions of a topic, if they are known soon: one topic that the
    /// broker has to look for must not hold up the others.
    async fn partitions(&self, topic: &str) -> Result<i32, TopicError> {
        match tokio::time::timeout(KNOWN_WITHIN, self.producer.partitions(topic)).await {
            Ok(answer) => answer,
            Err(_) => Err(TopicError::Unavailable(format!("topic {topic} is being looked for"))),
        }
    }

    fn free_shards(&self) -> Vec<(i32, i64)> {
        let shards = self.shards.borrow();
        if Instant::now() >= shards.until {
            // Somebody else may have them by now.
            return Vec::new();
        }
        shards.held.iter().filter(|(shard, _)| !self.busy.contains(shard)).copied().collect()
    }

    /// Hands rows to the client in the order of their ids.
    async fn send(&mut self, rows: Vec<(OutboundRow, i64)>) -> Vec<Flight> {
        let mut flights: HashMap<i32, Flight> = HashMap::new();
        // Keys of which a row could not be sent, so that no later one is.
        let mut waiting: HashSet<(String, Bytes)> = HashSet::new();
        let mut asked: HashSet<(String, i32)> = HashSet::new();
        for (row, epoch) in rows {
            let lane = row.key.clone().map(|key| (row.topic.clone(), key));
            if lane.as_ref().is_some_and(|lane| waiting.contains(lane)) {
                continue;
            }
            let sent = self.send_one(&row, &mut asked).await;
            if let (Sent::Not(RelayResult::Later { .. }), Some(lane)) = (&sent, lane) {
                waiting.insert(lane);
            }
            let flight =
                flights.entry(row.shard).or_insert_with(|| Flight { shard: row.shard, epoch, rows: Vec::new() });
            let kept = Row {
                id: row.id,
                message_id: row.message_id,
                topic: row.topic,
                partition: row.partition,
                tries: row.tries,
                asked: matches!(sent, Sent::Ack(_)),
            };
            flight.rows.push((kept, sent));
        }
        self.busy.extend(flights.keys());
        flights.into_values().collect()
    }

    async fn send_one(&self, row: &OutboundRow, asked: &mut HashSet<(String, i32)>) -> Sent {
        let record = match Record::decode(&row.record) {
            Ok(record) => record,
            Err(error) => return Sent::Not(RelayResult::Refused { reason: error.to_string() }),
        };
        let partition = match (row.partition, self.partitions(&row.topic).await) {
            (Some(partition), Ok(_)) => partition,
            (None, Ok(_)) => return later("its topic was not known when it was taken", row.tries),
            (_, Err(error @ TopicError::Invalid(_))) => {
                return Sent::Not(RelayResult::Refused { reason: error.to_string() });
            }
            (_, Err(error @ TopicError::Missing(_))) if row.tries >= MISSING_TRIES => {
                return Sent::Not(RelayResult::Refused { reason: error.to_string() });
            }
            (_, Err(error)) => return later(&error.to_string(), row.tries),
        };
        let place = (row.topic.clone(), partition);
        if let Some(stuck) = self.stuck.get(&place) {
            if Instant::now() < stuck.until {
                return later("its partition does not answer", row.tries);
            }
            // One row asks whether the partition takes rows again. With more,
            // a later row of a key could be taken after an earlier one was
            // given up.
            if !asked.insert(place) {
                return later("its partition does not answer", row.tries);
            }
        }
        match self.producer.send(&row.topic, partition, &record, Instant::now() + ROOM_WITHIN).await {
            Ok(ack) => Sent::Ack(ack),
            Err(error) => Sent::Not(judged(error, row.tries)),
        }
    }

    /// Stores what became of rows, and frees their shards.
    async fn settle(&mut self, ends: Vec<ShardEnd>, shutdown: &CancellationToken) {
        let shards: Vec<(i32, i64)> = ends.iter().map(|end| (end.shard, end.epoch)).collect();
        let mut results = Vec::new();
        let mut told = Vec::new();
        for end in ends {
            for (row, result) in end.results {
                self.note(&row, &result);
                results.push(Relayed { id: row.id, shard: end.shard, result: result.clone() });
                told.push((row.message_id, result));
            }
        }
        match self.store_results(&shards, &results, shutdown).await {
            Ok(()) => {
                for (id, result) in told {
                    let state = match result {
                        RelayResult::Taken { .. } => Some(State::Committed),
                        RelayResult::Refused { .. } => Some(State::SendFail),
                        RelayResult::Later { .. } => None,
                    };
                    if let Some(state) = state {
                        count(state);
                    }
                    self.waker.tell(&id, result);
                }
            }
            // They are sent again, with their ids.
            Err(error) => error!(%error, "cannot store what became of {} rows of the relay", results.len()),
        }
        for (shard, _) in shards {
            self.busy.remove(&shard);
        }
    }

    /// Remembers which partitions answer.
    fn note(&mut self, row: &Row, result: &RelayResult) {
        let Some(partition) = row.partition.filter(|_| row.asked) else { return };
        let place = (row.topic.clone(), partition);
        match result {
            RelayResult::Later { reason, .. } if !self.producer.is_down() => {
                let now = Instant::now();
                let stuck = self.stuck.entry(place).or_insert(Stuck { until: now, times: 0 });
                if stuck.until <= now {
                    stuck.until = now + wait(stuck.times);
                    stuck.times += 1;
                    warn!(topic = %row.topic, partition, times = stuck.times, %reason, "kafka does not take messages");
                }
            }
            RelayResult::Later { .. } => {}
            RelayResult::Taken { .. } | RelayResult::Refused { .. } => {
                if self.stuck.remove(&place).is_some() {
                    info!(topic = %row.topic, partition, "kafka takes messages again");
                }
            }
        }
    }

    /// Stores results and insists until the store is there or the host stops.
    /// To repeat it is safe, since rows that are gone are left alone.
    async fn store_results(
        &self,
        shards: &[(i32, i64)],
        results: &[Relayed],
        shutdown: &CancellationToken,
    ) -> Result<(), StoreError> {
        loop {
            match self.store.relayed(shards, results).await {
                Err(error) if error.is_transient() && !shutdown.is_cancelled() => {
                    tokio::time::sleep(STORE_PAUSE).await;
                }
                Err(StoreError::Data(reason)) if results.len() > 1 => {
                    warn!(%reason, "the store refuses a result: storing each alone");
                    for result in results {
                        if let Err(error) = self.store.relayed(shards, std::slice::from_ref(result)).await {
                            error!(%error, row = result.id, "cannot store what became of a row");
                        }
                    }
                    return Ok(());
                }
                answer => return answer,
            }
        }
    }
}

/// The rows of one shard that are on their way.
struct Flight {
    shard: i32,
    epoch: i64,
    rows: Vec<(Row, Sent)>,
}

impl Flight {
    /// Waits for all acknowledgements. The client gives each record back after
    /// its delivery timeout, so that this ends.
    async fn end(self) -> ShardEnd {
        let mut results = Vec::with_capacity(self.rows.len());
        for (row, sent) in self.rows {
            let result = match sent {
                Sent::Not(result) => result,
                Sent::Ack(ack) => match ack.await {
                    Ok((partition, offset)) => RelayResult::Taken { partition, offset },
                    Err(error) => judged(error, row.tries),
                },
            };
            results.push((row, result));
        }
        ShardEnd { shard: self.shard, epoch: self.epoch, results }
    }
}

fn judged(error: ProduceError, tries: u32) -> RelayResult {
    match error {
        ProduceError::Refused(reason) => RelayResult::Refused { reason },
        ProduceError::Later(reason) => RelayResult::Later { reason, wait: wait(tries) },
    }
}

fn later(reason: &str, tries: u32) -> Sent {
    Sent::Not(RelayResult::Later { reason: reason.to_owned(), wait: wait(tries) })
}

/// How long a row waits after this many tries.
fn wait(tries: u32) -> Duration {
    WAIT_FIRST.saturating_mul(1 << tries.min(8)).min(WAIT_LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound() {
        let waits: Vec<u128> = [0, 1, 4, 5, u32::MAX].map(wait).iter().map(Duration::as_millis).collect();
        assert_eq!(waits, [250, 500, 4_000, 5_000, 5_000]);
    }
}
