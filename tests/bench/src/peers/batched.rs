//! The plain consumer: one `BaseConsumer`, one loop.
//!
//! It polls up to a batch, calls the handler on each record, writes a row for
//! each in one statement, and commits the offsets after it. A failing message
//! stops the whole consumer, and nothing isolates the handler: only Kafka, the
//! handler and the store cost time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::sink::{self, Received, Rows, Sink};
use super::work::Handler;
use super::{Contract, tell};
use crate::progress::{Seen, now};

/// Records in a transaction.
const BATCH: usize = 2_000;
/// How long a batch waits to fill.
const LINGER: Duration = Duration::from_millis(5);

/// Line printed once its tables exist.
pub const OPEN: &str = "open";
/// Line printed once it has its partitions.
pub const JOINED: &str = "joined";

/// A line printed after each commit.
#[derive(Debug)]
pub struct Note {
    /// Number of calls of the handler.
    pub handled: u64,
    /// The durable offsets.
    pub seen: Seen,
}

/// Reads a line that [`run`] printed.
#[must_use]
pub fn parse(line: &str) -> Option<Note> {
    let mut words = line.split(' ');
    let (at, handled) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let next = words.filter_map(|word| {
        let (partition, next) = word.split_once(':')?;
        Some((partition.parse().ok()?, next.parse().ok()?))
    });
    Some(Note { handled, seen: Seen { at, next: next.collect() } })
}

/// Consumes until it is killed.
///
/// # Errors
/// When Kafka or the store fails.
pub async fn run(contract: &Contract) -> Result<()> {
    let Contract { topic, database, work, effects, .. } = contract;
    let store = Sink::open(database, 1, sink::UNNEST_IN_FROM).await?;
    let handler = Handler::new(*work, effects);
    tell(handler.calls());
    println!("{OPEN}");
    let consumer: BaseConsumer = contract.consumer().create()?;
    consumer.subscribe(&[topic])?;
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let (mut handled, mut joined) = (0_u64, false);
    loop {
        let mut rows = Rows::default();
        let begun = Instant::now();
        while rows.len() < BATCH && (rows.len() == 0 || begun.elapsed() < LINGER) {
            if !joined && consumer.assignment()?.count() > 0 {
                joined = true;
                println!("{JOINED}");
            }
            let wait = if rows.len() == 0 { LINGER * 10 } else { LINGER.saturating_sub(begun.elapsed()) };
            let Some(message) = consumer.poll(wait) else { continue };
            let message = message?;
            let (partition, offset) = (message.partition(), message.offset());
            let key = message.key().unwrap_or_default();
            let record_time = message.timestamp().to_millis().unwrap_or_default() * 1_000;
            let record = Received { topic, partition, offset, key, record_time, received_at: now() };
            let outcome = handler.settle(key, message.payload().unwrap_or_default()).await;
            handled += 1;
            rows.push(&record, outcome);
            next.insert(partition, offset + 1);
        }
        store.write(rows).await?;
        let durable = now();
        let mut list = TopicPartitionList::new();
        for (partition, offset) in &next {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        consumer.commit(&list, CommitMode::Async)?;
        let next: Vec<String> = next.iter().map(|(partition, next)| format!("{partition}:{next}")).collect();
        println!("{durable} {handled} {}", next.join(" "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        let note = parse("17 250 0:100 7:150").unwrap();
        assert_eq!((note.handled, note.seen.at, note.seen.done()), (250, 17, 250));
        assert!(parse(OPEN).is_none() && parse(JOINED).is_none() && parse("{\"calls\":3}").is_none());
    }
}
