//! Produces the records of a measurement: all at once before it, or at a fixed
//! rate during it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use courier_tests::{kafka, kafka_client, unique, usage};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use crate::progress::now;

/// Partitions of every topic.
pub const PARTITIONS: i32 = 8;
/// Keys that the records share.
pub const KEYS: u64 = 1_000;
/// Interval at which a paced producer sends records.
const BEAT: Duration = Duration::from_millis(1);
/// How long one rate is tried in the search for half load.
const HALF_LOAD_SEARCH: Duration = Duration::from_secs(4);
/// The share of busy processors from which they count as saturated: what a message costs
/// cannot be told then.
const SATURATED: f64 = 0.9;
/// Rates that are tried, each half of the one before: other programs may keep the processors
/// busy.
const MAX_RATES_TRIED: u32 = 6;
/// The first seconds of a paced run, which do not count.
const WARM_UP: Duration = Duration::from_secs(3);

/// A paced run, once its records were produced.
pub struct Paced {
    /// Records a second.
    pub a_second: f64,
    /// The time from which its records count, in microseconds since 1970.
    pub from: i64,
    /// Records handed to the client, also those that do not count.
    pub sent: u64,
}

/// Makes a topic whose records carry the time at which the broker took them.
pub async fn topic(prefix: &str) -> String {
    let name = unique(prefix);
    let settings = [("message.timestamp.type", "LogAppendTime")];
    kafka_client::create_named_topic(kafka().bootstrap(), &name, PARTITIONS, &settings).await;
    name
}

/// Makes a topic and fills it with records.
///
/// # Errors
/// When Kafka takes no more.
pub async fn full_topic(prefix: &str, body: Vec<u8>, records: u64) -> Result<String> {
    let name = topic(prefix).await;
    let mut load = Load::new(&name, body)?;
    load.send(records)?;
    load.flush()?;
    Ok(name)
}

/// Makes a topic and fills it with orders.
///
/// # Errors
/// When Kafka takes no more.
pub async fn topic_of_orders(prefix: &str, bytes: usize, records: u64) -> Result<String> {
    let name = topic(prefix).await;
    let mut load = Load::of_orders(&name, bytes)?;
    load.send(records)?;
    load.flush()?;
    Ok(name)
}

/// The key of the record with this number. Its last three digits tell the key
/// from the others, so that one in a hundred ends in `00`.
fn key(number: u64) -> String {
    format!("key-{:03}", number % KEYS)
}

/// An order as JSON, padded to `bytes`. The sequence grows from record to record,
/// so that it shows the order of a key's records.
#[must_use]
pub fn order(sequence: u64, key: &str, bytes: usize) -> Vec<u8> {
    let text = |note: &str| {
        format!(r#"{{"sequence":{sequence},"key":"{key}","amount":12.5,"items":["pen","ink"],"note":"{note}"}}"#)
    };
    let note = "x".repeat(bytes.saturating_sub(text("").len()));
    text(&note).into_bytes()
}

/// The bodies of a load's records.
enum Body {
    Same(Vec<u8>),
    Order { bytes: usize },
}

/// A producer of records over a thousand keys in turn.
pub struct Load {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: String,
    body: Body,
    sent: u64,
}

impl Load {
    /// A producer of records with one body.
    ///
    /// # Errors
    /// When librdkafka makes none.
    pub fn new(topic: &str, body: Vec<u8>) -> Result<Self> {
        Self::of(topic, Body::Same(body))
    }

    /// A producer of orders of this size in bytes.
    ///
    /// # Errors
    /// When librdkafka makes none.
    pub fn of_orders(topic: &str, bytes: usize) -> Result<Self> {
        Self::of(topic, Body::Order { bytes })
    }

    fn of(topic: &str, body: Body) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka().bootstrap()).set("acks", "all").set("linger.ms", "5");
        config.set("queue.buffering.max.messages", "1000000").set("partitioner", "murmur2_random");
        Ok(Self { producer: config.create()?, topic: topic.to_owned(), body, sent: 0 })
    }

    /// Number of records handed to the client so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Hands records to the client as fast as it takes them.
    ///
    /// # Errors
    /// When Kafka takes no more.
    pub fn send(&mut self, records: u64) -> Result<()> {
        for _ in 0..records {
            let key = key(self.sent);
            let order;
            let body = match &self.body {
                Body::Same(body) => body,
                Body::Order { bytes } => {
                    order = self::order(self.sent, &key, *bytes);
                    &order
                }
            };
            let mut record = BaseRecord::to(&self.topic).key(&key).payload(body);
            while let Err((error, back)) = self.producer.send(record) {
                let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                ensure!(full, "cannot produce to {}: {error}", self.topic);
                record = back;
                std::thread::sleep(Duration::from_millis(5));
            }
            self.sent += 1;
        }
        Ok(())
    }

    /// Hands over `a_second` records a second, evenly, for the time `lasting`.
    ///
    /// # Errors
    /// When Kafka takes no more.
    pub fn pace(&mut self, a_second: f64, lasting: Duration) -> Result<()> {
        let (begin, before) = (Instant::now(), self.sent);
        while begin.elapsed() < lasting {
            let due = (begin.elapsed().as_secs_f64() * a_second) as u64;
            self.send((before + due).saturating_sub(self.sent))?;
            std::thread::sleep(BEAT);
        }
        self.flush()
    }

    /// Produces for the time `lasting` at half of the load that this machine sustains, for
    /// a contender that had `a_second` on a full topic.
    ///
    /// # Errors
    /// When Kafka takes no more.
    pub fn pace_half(&mut self, a_second: f64, lasting: Duration) -> Result<Paced> {
        let half = self.find_half(a_second)?;
        self.pace_warm(half, lasting)
    }

    /// Produces for the time `lasting` after a warm-up, which does not count.
    ///
    /// # Errors
    /// When Kafka takes no more.
    pub fn pace_warm(&mut self, a_second: f64, lasting: Duration) -> Result<Paced> {
        let from = now() + i64::try_from(WARM_UP.as_micros()).unwrap_or_default();
        self.pace(a_second, WARM_UP + lasting)?;
        Ok(Paced { a_second, from, sent: self.sent })
    }

    /// Estimates half of the load that this machine sustains with everything on it: the
    /// rate at which its processors are half busy, at most half of `a_second`, which a
    /// contender had on a full topic. Producer and broker take part in the load of a paced
    /// run and did not in that rate. It produces meanwhile, at half the rate once more
    /// while the processors are saturated.
    ///
    /// # Errors
    /// When Kafka takes no more, or the processors are saturated at every rate.
    fn find_half(&mut self, a_second: f64) -> Result<f64> {
        let mut tried = a_second / 2.0;
        for _ in 0..MAX_RATES_TRIED {
            self.pace(tried, HALF_LOAD_SEARCH / 2)?;
            let (busy, all) = usage::machine_times();
            self.pace(tried, HALF_LOAD_SEARCH / 2)?;
            let (busy_then, all_then) = usage::machine_times();
            let share = (busy_then - busy).as_secs_f64() / (all_then - all).as_secs_f64().max(1e-3);
            if share < SATURATED {
                return Ok(tried * (0.5 / share.max(0.5)));
            }
            tried /= 2.0;
        }
        bail!("the processors are busy also with {tried:.0} messages a second: end what runs beside the benchmark")
    }

    /// Waits until the broker has everything.
    ///
    /// # Errors
    /// When it has not within a minute.
    pub fn flush(&self) -> Result<()> {
        Ok(self.producer.flush(Duration::from_secs(60))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_in_a_hundred_fails_and_an_order_has_its_size() {
        let failing = (0..KEYS).filter(|number| key(*number).ends_with("00")).count() as u64;
        assert_eq!(failing, KEYS / 100);
        assert_eq!((order(7, "key-007", 100).len(), order(299_999, "key-999", 1_024).len()), (100, 1_024));
    }
}
