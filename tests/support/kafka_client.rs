//! Kafka programs other than Courier: they create topics, produce as any client
//! does, and read records.

use std::collections::HashSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::servers::{Sasl, setup};
use crate::unique;

const LIMIT: Duration = Duration::from_secs(30);

/// A client's configuration for this broker.
#[must_use]
pub fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

/// A client's configuration for the listener with TLS and SCRAM.
#[must_use]
pub fn sasl_config(sasl: &Sasl) -> ClientConfig {
    let mut config = config(&sasl.bootstrap);
    config.set("security.protocol", "SASL_SSL").set("sasl.mechanism", "SCRAM-SHA-256");
    config.set("sasl.username", &sasl.user).set("sasl.password", &sasl.password);
    config.set("ssl.ca.location", sasl.ca_file.display().to_string());
    config
}

/// Creates a topic whose name begins with `prefix`, and returns the name.
pub async fn create_topic(bootstrap: &str, prefix: &str, partitions: i32) -> String {
    let name = unique(prefix);
    create_named_topic(bootstrap, &name, partitions, &[]).await;
    name
}

/// Creates a topic of exactly this name and with these settings.
///
/// An existing topic of the name will do: handlers publish to the topics that their
/// events name, and several tests run them.
pub async fn create_named_topic(bootstrap: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().expect("an admin client can be made");
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(LIMIT));
    let results = admin.create_topics([&topic], &options).await;
    let results = results.unwrap_or_else(|error| panic!("cannot ask {bootstrap} for topic {name}: {error}"));
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, error)) => panic!("Kafka does not make topic {topic}: {error}"),
        }
    }
}

/// A producer that does not know Courier.
pub fn producer(config: &ClientConfig) -> FutureProducer {
    let mut config = config.clone();
    config.set("linger.ms", "5").set("acks", "all").set("enable.idempotence", "true");
    // It partitions as Java and Courier do: a key keeps its order only while all its
    // senders agree on the partition.
    config.set("partitioner", "murmur2_random");
    config.create().expect("a producer can be made")
}

/// Produces one record and returns its partition and offset.
pub async fn produce(
    producer: &FutureProducer,
    topic: &str,
    key: Option<&[u8]>,
    headers: &[(&str, &str)],
    payload: &[u8],
) -> (i32, i64) {
    let mut record = FutureRecord::<[u8], [u8]>::to(topic).payload(payload);
    if let Some(key) = key {
        record = record.key(key);
    }
    if !headers.is_empty() {
        let mut all = OwnedHeaders::new();
        for (name, value) in headers {
            all = all.insert(Header { key: name, value: Some(*value) });
        }
        record = record.headers(all);
    }
    match producer.send(record, LIMIT).await {
        Ok(delivery) => (delivery.partition, delivery.offset),
        Err((error, _)) => panic!("Kafka did not take a record for {topic}: {error}"),
    }
}

/// Produces one record whose create time is `time_ms`, in milliseconds since 1970.
pub async fn produce_at(producer: &FutureProducer, topic: &str, key: &[u8], time_ms: i64, payload: &[u8]) {
    let record = FutureRecord::<[u8], [u8]>::to(topic).key(key).payload(payload).timestamp(time_ms);
    if let Err((error, _)) = producer.send(record, LIMIT).await {
        panic!("Kafka did not take a record for {topic}: {error}");
    }
}

/// Produces a tombstone, a record without a value, whose headers may have none
/// either.
pub async fn produce_tombstone(producer: &FutureProducer, topic: &str, key: &[u8], headers: &[(&str, Option<&str>)]) {
    let mut all = OwnedHeaders::new();
    for (name, value) in headers {
        all = all.insert(Header { key: name, value: *value });
    }
    let record = FutureRecord::<[u8], [u8]>::to(topic).key(key).headers(all);
    if let Err((error, _)) = producer.send(record, LIMIT).await {
        panic!("Kafka did not take a tombstone for {topic}: {error}");
    }
}

/// Produces one record without a key to a partition of the sender's choice.
pub async fn produce_to(
    producer: &FutureProducer,
    topic: &str,
    partition: i32,
    headers: &[(&str, &str)],
    payload: &[u8],
) -> (i32, i64) {
    let mut all = OwnedHeaders::new();
    for (name, value) in headers {
        all = all.insert(Header { key: name, value: Some(*value) });
    }
    let record = FutureRecord::<[u8], [u8]>::to(topic).partition(partition).payload(payload).headers(all);
    match producer.send(record, LIMIT).await {
        Ok(delivery) => (delivery.partition, delivery.offset),
        Err((error, _)) => panic!("Kafka did not take a record for {topic}: {error}"),
    }
}

/// A transactional producer, ready to begin; the broker ends transactions that stay
/// open for longer than `timeout`.
pub fn transactional(bootstrap: &str, timeout: Duration) -> FutureProducer {
    let mut config = config(bootstrap);
    config.set("transactional.id", unique("transactions"));
    config.set("transaction.timeout.ms", timeout.as_millis().to_string());
    let producer: FutureProducer = config.create().expect("a producer can be made");
    tokio::task::block_in_place(|| producer.init_transactions(LIMIT))
        .unwrap_or_else(|error| panic!("Kafka makes no transactions: {error}"));
    producer
}

/// Commits `count` records with this payload in one transaction.
pub async fn commit_records(producer: &FutureProducer, topic: &str, count: usize, payload: &[u8]) {
    producer.begin_transaction().expect("a producer that was made for it begins a transaction");
    for _ in 0..count {
        produce(producer, topic, Some(b"k"), &[], payload).await;
    }
    tokio::task::block_in_place(|| producer.commit_transaction(LIMIT))
        .unwrap_or_else(|error| panic!("Kafka does not commit to {topic}: {error}"));
}

/// Deletes the records of a partition below `offset`, as retention would.
pub async fn delete_records(bootstrap: &str, topic: &str, partition: i32, offset: i64) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().expect("an admin client can be made");
    let mut below = TopicPartitionList::new();
    below.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset fits");
    let options = AdminOptions::new().operation_timeout(Some(LIMIT));
    let done = admin.delete_records(&below, &options).await;
    let done = done.unwrap_or_else(|error| panic!("Kafka does not delete records of {topic}: {error}"));
    for element in done.elements() {
        element.error().unwrap_or_else(|error| panic!("Kafka does not delete records of {topic}: {error}"));
    }
}

/// Deletes a topic, and waits until it is gone.
pub async fn delete_topic(bootstrap: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().expect("an admin client can be made");
    let options = AdminOptions::new().operation_timeout(Some(LIMIT));
    let results = admin.delete_topics(&[topic], &options).await;
    for result in results.unwrap_or_else(|error| panic!("cannot ask {bootstrap} to delete {topic}: {error}")) {
        result.unwrap_or_else(|(topic, error)| panic!("Kafka does not delete topic {topic}: {error}"));
    }
}

/// Adds partitions to a topic, so that it has `count`.
pub async fn create_partitions(bootstrap: &str, topic: &str, count: usize) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().expect("an admin client can be made");
    let options = AdminOptions::new().operation_timeout(Some(LIMIT));
    let results = admin.create_partitions(&[NewPartitions::new(topic, count)], &options).await;
    for result in results.unwrap_or_else(|error| panic!("cannot ask {bootstrap} to extend {topic}: {error}")) {
        result.unwrap_or_else(|(topic, error)| panic!("Kafka does not extend topic {topic}: {error}"));
    }
}

/// Produces one record with kcat, Debian's Kafka client. A tab separates the key
/// from the body.
pub fn kcat(bootstrap: &str, topic: &str, key: &str, body: &str) {
    setup::require(setup::FOREIGN_PRODUCER).unwrap_or_else(|error| panic!("{error:#}"));
    let mut kcat = Command::new("kcat");
    kcat.args(["-P", "-b", bootstrap, "-t", topic, "-K", "\t"]).stdin(Stdio::piped());
    let mut child = kcat.spawn().unwrap_or_else(|error| panic!("kcat does not run: {error}"));
    let mut input = child.stdin.take().expect("the pipe was asked for above");
    writeln!(input, "{key}\t{body}").unwrap_or_else(|error| panic!("kcat takes no input: {error}"));
    drop(input);
    let status = child.wait().unwrap_or_else(|error| panic!("kcat does not end: {error}"));
    assert!(status.success(), "kcat could not produce to {topic}: {status}");
}

/// A record of a topic.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its Kafka timestamp, in milliseconds since 1970.
    pub time_ms: i64,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The value's bytes; a tombstone has none.
    pub payload: Option<Vec<u8>>,
    /// The record's time, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Headers in their order; the value of one without a value is empty.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The names of the headers that have no value.
    pub bare_headers: Vec<String>,
}

impl Record {
    /// The first header of this name, as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The value as JSON; panics when it is not JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let payload = self.payload.as_deref().unwrap_or_default();
        serde_json::from_slice(payload).unwrap_or_else(|error| panic!("{self:?} is no JSON: {error}"))
    }
}

/// Reads the present records of a topic, committed ones only, each partition in its
/// order. A topic that does not exist has no records.
pub async fn read_topic(bootstrap: &str, topic: &str) -> Vec<Record> {
    read_topic_as(config(bootstrap), topic).await
}

/// The same with another client configuration.
pub async fn read_topic_as(config: ClientConfig, topic: &str) -> Vec<Record> {
    let topic = topic.to_owned();
    let reading = tokio::task::spawn_blocking(move || read_all(config, &topic));
    reading.await.expect("reading a topic does not panic")
}

fn read_all(mut config: ClientConfig, topic: &str) -> Vec<Record> {
    // The group is never joined: partitions are assigned by hand.
    config.set("group.id", unique("reader")).set("enable.auto.commit", "false");
    config.set("auto.offset.reset", "earliest").set("isolation.level", "read_committed");
    config.set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().expect("a consumer can be made");
    let metadata =
        consumer.fetch_metadata(Some(topic), LIMIT).unwrap_or_else(|error| panic!("no metadata of {topic}: {error}"));
    let mut assignment = TopicPartitionList::new();
    let mut unfinished = HashSet::new();
    for partition in metadata.topics().first().map_or(&[][..], |topic| topic.partitions()) {
        assignment.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("an offset fits");
        unfinished.insert(partition.id());
    }
    if unfinished.is_empty() {
        return Vec::new();
    }
    consumer.assign(&assignment).unwrap_or_else(|error| panic!("cannot read {topic}: {error}"));
    let deadline = Instant::now() + LIMIT;
    let mut records = Vec::new();
    while !unfinished.is_empty() {
        assert!(Instant::now() < deadline, "reading {topic} took longer than {LIMIT:?}");
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            // The end of a partition also covers aborted records, for which counting
            // offsets would wait in vain.
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                unfinished.remove(&partition);
            }
            Some(Err(error)) => panic!("cannot read {topic}: {error}"),
            Some(Ok(message)) => records.push(Record {
                partition: message.partition(),
                offset: message.offset(),
                time_ms: message.timestamp().to_millis().unwrap_or(0),
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().map(<[u8]>::to_vec),
                timestamp_ms: message.timestamp().to_millis(),
                headers: message.headers().map_or_else(Vec::new, |headers| {
                    headers
                        .iter()
                        .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
                        .collect()
                }),
                bare_headers: message.headers().map_or_else(Vec::new, |headers| {
                    let bare = headers.iter().filter(|header| header.value.is_none());
                    bare.map(|header| header.key.to_owned()).collect()
                }),
            }),
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}
