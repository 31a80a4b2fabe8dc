//! Load with known results, and the check of the results.
//!
//! A [`Ledger`] produces messages for the scripted guest. Each has a number within
//! its key and emits a copy of itself on a second topic as part of its success.
//! That topic is the handlers' own log: it shows in which order they ran for each
//! key, and an effect that was recorded twice is there as two records of different
//! ids.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use courier_core::status::State;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use serde_json::{Value, json};

use crate::host::Host;
use crate::kafka_client::{self, Record};
use crate::shapes::Delivery;

/// The result that a message's script leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Succeeds at once.
    Plain,
    /// Asks for a retry, then succeeds.
    Retried,
    /// Is rejected after it emitted, so that nothing may be emitted.
    Rejected,
    /// Traps after it emitted.
    Trapped,
}

impl Fate {
    fn script(self, out: &str) -> Vec<String> {
        match self {
            Self::Plain => vec![format!("publish:{out}+ok")],
            Self::Retried => vec![format!("publish:{out}+retry:200ms"), format!("publish:{out}+ok")],
            Self::Rejected => vec![format!("publish:{out}+reject")],
            Self::Trapped => vec![format!("publish:{out}+trap")],
        }
    }

    fn succeeds(self) -> bool {
        matches!(self, Self::Plain | Self::Retried)
    }
}

/// How many of a thousand messages have each result; the rest succeed at once.
#[derive(Clone, Copy, Debug)]
pub struct Mixture {
    /// Retried once.
    pub retried: u32,
    /// Rejected.
    pub rejected: u32,
    /// Trapped.
    pub trapped: u32,
}

impl Mixture {
    /// Everything succeeds.
    pub const PLAIN: Self = Self { retried: 0, rejected: 0, trapped: 0 };
    /// 5 % retries, 1 % rejections, 0.1 % traps.
    pub const USUAL: Self = Self { retried: 50, rejected: 10, trapped: 1 };

    fn draw(self, chance: &mut StdRng) -> Fate {
        let number = chance.random_range(0..1_000);
        if number < self.retried {
            Fate::Retried
        } else if number < self.retried + self.rejected {
            Fate::Rejected
        } else if number < self.retried + self.rejected + self.trapped {
            Fate::Trapped
        } else {
            Fate::Plain
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    key: u32,
    sequence: u64,
    fate: Fate,
}

/// The messages sent, and their topics.
#[derive(Debug)]
pub struct Ledger {
    bootstrap: String,
    topic: String,
    out: String,
    keys: u32,
    mixture: Mixture,
    state: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    chance: StdRng,
    next: Vec<u64>,
    sent: HashMap<String, Sent>,
}

impl Ledger {
    /// A ledger on two topics of its own. The seed is part of the names, so
    /// that a failure says how to repeat it.
    pub async fn open(bootstrap: &str, partitions: i32, keys: u32, mixture: Mixture, seed: u64) -> Self {
        let topic = kafka_client::create_topic(bootstrap, &format!("load-{seed}"), partitions).await;
        let out = format!("{topic}-out");
        kafka_client::create_named_topic(bootstrap, &out, partitions, &[]).await;
        let next = vec![0; keys as usize];
        let book = Book { chance: StdRng::seed_from_u64(seed), next, sent: HashMap::new() };
        Self { bootstrap: bootstrap.to_owned(), topic, out, keys, mixture, state: Mutex::new(book) }
    }

    /// The topic that the binding consumes.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// A binding of the scripted guest to this ledger's topics. `retry` is
    /// allowed, since the mixture asks for it.
    #[must_use]
    pub fn binding(&self, group: &str, policy: &str) -> String {
        let policy =
            format!("{policy}\n[binding.retry]\nmax_attempts = 5\n[binding.grant]\npublish = [\"{}\"]", self.out);
        crate::host::scripted_binding(group, &self.topic, &policy)
    }

    /// How many messages it sent.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.book().sent.len()
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next message: its id, its key and its body.
    fn next(&self) -> (String, String, Value) {
        let mut book = self.book();
        let key = book.chance.random_range(0..self.keys);
        let fate = self.mixture.draw(&mut book.chance);
        let sequence = &mut book.next[key as usize];
        let sent = Sent { key, sequence: *sequence, fate };
        *sequence += 1;
        let id = format!("{}/{key}/{}", self.topic, sent.sequence);
        book.sent.insert(id.clone(), sent);
        let body = json!({ "do": fate.script(&self.out), "of": id });
        (id, format!("key-{key}"), body)
    }

    /// Produces `count` messages straight to Kafka, as fast as it takes them
    /// or at `rate` a second.
    pub async fn produce(&self, count: usize, rate: Option<u32>) {
        let producer = kafka_client::producer(&kafka_client::config(&self.bootstrap));
        let begin = Instant::now();
        for number in 0..count {
            let (id, key, body) = self.next();
            self.enqueue(&producer, &id, &key, &body).await;
            if let Some(rate) = rate {
                let due = begin + Duration::from_secs_f64(number as f64 / f64::from(rate));
                tokio::time::sleep_until(due.into()).await;
            }
        }
        let flushed = tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(120)));
        flushed.await.expect("flushing does not panic").expect("Kafka takes what was produced");
    }

    /// Hands one record to librdkafka, which keeps the order; waits while its
    /// queue is full.
    async fn enqueue(&self, producer: &FutureProducer, id: &str, key: &str, body: &Value) {
        let payload = body.to_string();
        let header = |key, value| Header { key, value: Some(value) };
        let headers = OwnedHeaders::new()
            .insert(header("ce_specversion", "1.0"))
            .insert(header("ce_id", id))
            .insert(header("ce_type", "Scripted"))
            .insert(header("ce_source", "tests"));
        let mut record = FutureRecord::to(&self.topic).key(key).payload(&payload).headers(headers);
        loop {
            match producer.send_result(record) {
                Ok(_delivery) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err((error, _)) => panic!("cannot produce to {}: {error}", self.topic),
            }
        }
    }

    /// Publishes `count` messages through a host, in batches. A batch without an answer
    /// is published again: its ids make that harmless.
    pub async fn publish(&self, host: &Host, count: usize) {
        for begin in (0..count).step_by(500) {
            let batch: Vec<Value> = (begin..count.min(begin + 500))
                .map(|_| {
                    let (id, key, body) = self.next();
                    json!({ "topic": self.topic, "type": "Scripted", "source": "tests", "id": id, "key": key, "body": body })
                })
                .collect();
            crate::wait_until("a batch is accepted", Duration::from_secs(120), async || {
                let accepted = host.try_publish_all(batch.clone()).await.map_err(|error| format!("{error:#}"))?;
                let refused = accepted.iter().find(|item| item.problem.is_some());
                refused.map_or(Ok(()), |refused| Err(format!("{refused:?}")))
            })
            .await;
        }
    }

    /// Waits until the group has finished every message that was sent.
    pub async fn settled(&self, host: &Host, group: &str, limit: Duration) {
        host.settled(group, self.sent(), limit).await;
    }

    /// Checks all results once the load is settled. Panics with a list of the faults.
    pub async fn reconcile(&self, host: &Host, group: &str) {
        let deliveries = host.deliveries(&format!("group={}", crate::encode(group))).await;
        let mut wrong = Findings::default();
        self.check_deliveries(&deliveries, &mut wrong);
        // The relay sends after the settle: wait for the last emission.
        let expected = self.book().sent.values().filter(|sent| sent.fate.succeeds()).count();
        let emitted = crate::wait_until("every success has been emitted", Duration::from_secs(60), async || {
            let records = kafka_client::read_topic(&self.bootstrap, &self.out).await;
            let distinct = records.iter().filter_map(|record| record.header("ce_id")).collect::<BTreeSet<_>>().len();
            if distinct >= expected { Ok(records) } else { Err(format!("{distinct} of {expected} emissions")) }
        })
        .await;
        self.check_emissions(&emitted, &mut wrong);
        wrong.panic_if_any(&format!("{} messages on {} in {group}", self.sent(), self.topic));
    }

    fn check_deliveries(&self, deliveries: &[Delivery], wrong: &mut Findings) {
        let mut found: BTreeMap<&str, u32> = BTreeMap::new();
        let book = self.book();
        for delivery in deliveries {
            *found.entry(&delivery.message_id).or_default() += 1;
            let Some(sent) = book.sent.get(&delivery.message_id) else {
                wrong.add(format!("nobody sent {}", delivery.brief()));
                continue;
            };
            let state = if sent.fate.succeeds() { State::Handled } else { State::HandleFail };
            if delivery.state != state || !delivery.is_final() {
                wrong.add(format!("{:?} should have become {state}: {}", sent.fate, delivery.brief()));
            }
            let numbers: Vec<u32> = delivery.attempts.iter().map(|attempt| attempt.number).collect();
            if !numbers.windows(2).all(|pair| pair[0] < pair[1]) || numbers.is_empty() {
                wrong.add(format!("attempts {numbers:?} of {}", delivery.brief()));
            }
            if sent.fate == Fate::Retried && numbers.len() < 2 {
                wrong.add(format!("a retry is missing: {}", delivery.brief()));
            }
        }
        for id in book.sent.keys() {
            match found.get(id.as_str()) {
                Some(1) => {}
                None => wrong.add(format!("lost: {id} has no delivery")),
                Some(count) => wrong.add(format!("doubled: {id} has {count} deliveries")),
            }
        }
    }

    /// A record may be on the topic twice, with the same id. Two ids for one message are
    /// an effect recorded twice; the order is that of the first records.
    fn check_emissions(&self, records: &[Record], wrong: &mut Findings) {
        let book = self.book();
        let mut ids = BTreeSet::new();
        let mut by_message: BTreeMap<String, u32> = BTreeMap::new();
        let mut last: HashMap<u32, u64> = HashMap::new();
        for record in records {
            let Some(id) = record.header("ce_id") else {
                wrong.add(format!("an emission without an id at {}:{}", record.partition, record.offset));
                continue;
            };
            if !ids.insert(id) {
                continue;
            }
            let of = record.json()["of"].as_str().unwrap_or_default().to_owned();
            let Some(sent) = book.sent.get(&of) else {
                wrong.add(format!("an emission of a message nobody sent: {of}"));
                continue;
            };
            if !sent.fate.succeeds() {
                wrong.add(format!("{of} was {:?} and must not have emitted", sent.fate));
            }
            *by_message.entry(of.clone()).or_default() += 1;
            if let Some(before) = last.insert(sent.key, sent.sequence)
                && before >= sent.sequence
            {
                wrong.add(format!("inversion: {of} was handled after number {before} of its key"));
            }
        }
        for (of, count) in by_message.iter().filter(|(_, count)| **count > 1) {
            wrong.add(format!("the effect of {of} was recorded {count} times"));
        }
        for (id, _) in book.sent.iter().filter(|(id, sent)| sent.fate.succeeds() && !by_message.contains_key(*id)) {
            wrong.add(format!("{id} succeeded and its emission is missing"));
        }
    }
}

/// The faults of a check; shows the first few and counts the rest.
#[derive(Debug, Default)]
struct Findings {
    text: String,
    count: usize,
}

impl Findings {
    fn add(&mut self, finding: String) {
        const SHOWN: usize = 20;
        self.count += 1;
        if self.count <= SHOWN {
            writeln!(self.text, "  {finding}").expect("a String takes any text");
        }
    }

    fn panic_if_any(&self, of: &str) {
        assert!(self.count == 0, "{} findings in {of}:\n{}", self.count, self.text);
    }
}
