//! The pipelined consumer, the fastest peer: it fetches, handles and writes at the
//! same time.
//!
//! One thread fetches, and hands batches to [`LINES`] lines, each with its own
//! connection and partitions. A line handles the next batch while the one before
//! it is written, and commits a batch's offsets after its write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::sink::{self, Received, Rows, Sink};
use super::work::{Handler, Outcome};
use super::{Contract, tell};
use crate::progress::now;

/// Lines, each with a connection.
const LINES: usize = 2;
/// Records of a batch.
const BATCH: usize = 2_000;
/// How long a batch waits to fill.
const LINGER: Duration = Duration::from_millis(5);
/// Batches that may wait between two stages of a line.
const WAITING: usize = 2;
/// Keys that a line handles at the same time: Courier's default for a binding.
const AT_ONCE: usize = 64;

struct Record {
    partition: i32,
    offset: i64,
    key: Vec<u8>,
    body: Vec<u8>,
    record_time: i64,
    received_at: i64,
}

type Batch = Vec<Record>;

/// Consumes until it is killed.
///
/// # Errors
/// When Kafka or the database fails.
pub async fn run(contract: Contract) -> Result<()> {
    let store = Arc::new(Sink::open(&contract.database, u32::try_from(LINES)?, sink::UNNEST_IN_SELECT).await?);
    let handler = Arc::new(Handler::new(contract.work, &contract.effects));
    tell(handler.calls());
    let consumer: Arc<BaseConsumer> = Arc::new(contract.consumer().create()?);
    consumer.subscribe(&[&contract.topic])?;
    let topic: Arc<str> = contract.topic.as_str().into();
    let mut parts = JoinSet::new();
    let mut lines = Vec::new();
    for _ in 0..LINES {
        let (fetched, batches) = mpsc::channel(WAITING);
        let (handled, rows) = mpsc::channel(WAITING);
        lines.push(fetched);
        parts.spawn(handle(Arc::clone(&handler), Arc::clone(&topic), batches, handled));
        parts.spawn(write(Arc::clone(&store), Arc::clone(&consumer), Arc::clone(&topic), rows));
    }
    parts.spawn_blocking(move || fetch(&consumer, &lines));
    parts.join_next().await.context("nothing was started")??
}

fn fetch(consumer: &BaseConsumer, lines: &[mpsc::Sender<Batch>]) -> Result<()> {
    let mut batches: [Batch; LINES] = Default::default();
    let mut begun = Instant::now();
    loop {
        if let Some(message) = consumer.poll(LINGER) {
            let message = message?;
            let line = message.partition().unsigned_abs() as usize % LINES;
            batches[line].push(Record {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().unwrap_or_default().to_vec(),
                body: message.payload().unwrap_or_default().to_vec(),
                record_time: message.timestamp().to_millis().unwrap_or_default() * 1_000,
                received_at: now(),
            });
        }
        let late = begun.elapsed() >= LINGER;
        for (batch, line) in batches.iter_mut().zip(lines) {
            if batch.len() >= BATCH || (late && !batch.is_empty()) {
                line.blocking_send(std::mem::take(batch)).ok().context("a line has ended")?;
            }
        }
        if late {
            begun = Instant::now();
        }
    }
}

/// Rows with the offsets that may be committed once they are durable.
type Handled = (Rows, BTreeMap<i32, i64>);

async fn handle(
    handler: Arc<Handler>,
    topic: Arc<str>,
    mut batches: mpsc::Receiver<Batch>,
    handled: mpsc::Sender<Handled>,
) -> Result<()> {
    while let Some(batch) = batches.recv().await {
        let (mut rows, mut next) = (Rows::default(), BTreeMap::new());
        let mut push = |record: &Record, outcome: Outcome| {
            let Record { partition, offset, key, record_time, received_at, .. } = record;
            let (partition, offset, record_time, received_at) = (*partition, *offset, *record_time, *received_at);
            rows.push(&Received { topic: &topic, partition, offset, key, record_time, received_at }, outcome);
            let next = next.entry(partition).or_insert(0);
            *next = (offset + 1).max(*next);
        };
        if handler.waits() {
            for (record, outcome) in by_key(&handler, batch).await? {
                push(&record, outcome);
            }
        } else {
            for record in batch {
                let outcome = handler.settle(&record.key, &record.body).await;
                push(&record, outcome);
            }
        }
        handled.send((rows, next)).await.ok().context("the writer has ended")?;
    }
    Ok(())
}

/// Handles the records of each key in order, and different keys concurrently.
async fn by_key(handler: &Arc<Handler>, batch: Batch) -> Result<Vec<(Record, Outcome)>> {
    let mut keys: BTreeMap<Vec<u8>, Batch> = BTreeMap::new();
    for record in batch {
        keys.entry(record.key.clone()).or_default().push(record);
    }
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for records in keys.into_values() {
        let (handler, room) = (Arc::clone(handler), Arc::clone(&room));
        running.spawn(async move {
            let _place = room.acquire_owned().await;
            let mut done = Vec::with_capacity(records.len());
            for record in records {
                let outcome = handler.settle(&record.key, &record.body).await;
                done.push((record, outcome));
            }
            done
        });
    }
    let mut all = Vec::new();
    while let Some(done) = running.join_next().await {
        all.append(&mut done?);
    }
    Ok(all)
}

async fn write(
    store: Arc<Sink>,
    consumer: Arc<BaseConsumer>,
    topic: Arc<str>,
    mut rows: mpsc::Receiver<Handled>,
) -> Result<()> {
    while let Some((rows, next)) = rows.recv().await {
        store.write(rows).await?;
        let mut list = TopicPartitionList::new();
        for (partition, offset) in next {
            list.add_partition_offset(&topic, partition, Offset::Offset(offset))?;
        }
        consumer.commit(&list, CommitMode::Async)?;
    }
    Ok(())
}
