//! An idempotent producer that reports the fate of each record.
//!
//! Within a partition records keep the order of [`Producer::send`], also when
//! the client retries: `producer/windows.rs` bounds the records of a partition
//! that the client has at once. A record of unknown fate is
//! [`ProduceError::Later`] or, when the client reported success without an
//! offset, [`ProduceError::Unknown`]; it is never lost and never counted as
//! sent. [`Producer::down`] says whether the cluster is away, so that senders
//! need not wait to find out. A client that no longer works is replaced.
//!
//! Next: `producer/parts.rs`, `producer/cluster_watch.rs`, and `topics.rs`, which
//! caches the partitions of topics.

mod client;
mod cluster_watch;
mod create_topic;
mod error;
mod health;
mod order;
mod parts;
mod refusal;
mod windows;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use courier_core::message::Offset;
use parking_lot::Mutex;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::Producer as _;
use tokio::sync::{oneshot, watch};

pub use self::client::{DELIVERY_TIMEOUT, MAX_RECORD_BYTES};
use self::client::{config, connect};
pub use self::error::ProduceError;
use self::error::{DOWN, judge};
use self::health::ClusterHealth;
pub use self::order::OrderedSends;
use self::parts::ProducerParts;
use self::windows::{ProduceFailure, ProduceResult, Windows};
use super::record::Record;
use super::topic_id::TopicIds;
use super::topics::{KnownTopic, TopicCache, TopicError};
use crate::supervise::{self, Task};

/// How long a sender waits before it tries a full queue again.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(10);

/// A producer; clones share one client.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<ProducerParts>,
}

impl Producer {
    /// A producer for the cluster, with a user's librdkafka `properties`.
    /// Returns at once, whether the cluster is there or not.
    ///
    /// # Errors
    /// When a property is unknown or has a bad value.
    pub fn new(bootstrap_servers: &[String], properties: &BTreeMap<String, String>) -> Result<Self, KafkaError> {
        Self::start(bootstrap_servers, properties, TopicIds::default())
    }

    /// A producer for the embedded broker, which has no ids of topics.
    ///
    /// # Errors
    /// When a property is unknown or has a bad value.
    pub fn of_embedded(
        bootstrap_servers: &[String],
        properties: &BTreeMap<String, String>,
    ) -> Result<Self, KafkaError> {
        Self::start(bootstrap_servers, properties, TopicIds::none())
    }

    fn start(
        bootstrap_servers: &[String],
        properties: &BTreeMap<String, String>,
        ids: TopicIds,
    ) -> Result<Self, KafkaError> {
        let config = config(bootstrap_servers, properties);
        let health = Arc::new(ClusterHealth::new());
        let (windows, rings) = Windows::new();
        let client = connect(&config, &health, &windows)?;
        let inner = Arc::new(ProducerParts {
            config,
            client: Mutex::new(client),
            health,
            topics: TopicCache::new({
                let windows = Arc::clone(&windows);
                // What an earlier topic acknowledged says nothing of this one.
                move |topic| windows.close_topic(topic)
            }),
            ids,
            windows,
        });
        let watched = Arc::downgrade(&inner);
        // A thread of its own, since librdkafka's questions block.
        std::thread::Builder::new()
            .name("kafka-health".to_owned())
            .spawn(move || supervise::thread(Task::ProducerWatch, || cluster_watch::keep_watch(&watched)))
            .map_err(|error| KafkaError::ClientCreation(format!("cannot start a thread: {error}")))?;
        let released = Arc::downgrade(&inner);
        std::thread::Builder::new()
            .name("kafka-windows".to_owned())
            .spawn(move || {
                supervise::thread(Task::ProducerWindows, || ProducerParts::keep_releasing(&released, &rings))
            })
            .map_err(|error| KafkaError::ClientCreation(format!("cannot start a thread: {error}")))?;
        Ok(Self { inner })
    }

    /// Whether the cluster is known to be away.
    #[must_use]
    pub fn down(&self) -> watch::Receiver<bool> {
        self.inner.health.watch()
    }

    /// Whether the cluster is known to be away now.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.inner.health.is_down()
    }

    /// Says that the cluster did not answer in time, so that it is asked
    /// whether it is there at all.
    pub fn suspect(&self) {
        self.inner.health.suspect();
    }

    /// How many partitions `topic` has; see [`Producer::topic`].
    ///
    /// # Errors
    /// When the topic does not exist, or nobody can say.
    pub async fn partitions(&self, topic: &str) -> Result<i32, TopicError> {
        self.topic(topic).await.map(|known| known.partitions)
    }

    /// What is known of `topic`, from a cache that is asked anew beside its use
    /// every two seconds. Asking makes the broker create the topic where it is
    /// set to.
    ///
    /// # Errors
    /// When the topic does not exist, or nobody can say.
    pub async fn topic(&self, topic: &str) -> Result<KnownTopic, TopicError> {
        match self.topic_by_cluster(topic).await {
            // Refused for ever, its messages would be lost for a topic that is there.
            Err(TopicError::Missing(_)) if self.inner.health.may_be_learning(Instant::now()) => {
                Err(TopicError::Unavailable(format!("kafka is just back, and does not know topic {topic} yet")))
            }
            answer => answer,
        }
    }

    /// What the cluster says of a topic.
    async fn topic_by_cluster(&self, topic: &str) -> Result<KnownTopic, TopicError> {
        if let Some(known) = self.inner.topics.known(topic) {
            if self.inner.topics.is_stale(topic) && !self.is_down() {
                let (fetch, id) = self.questions();
                self.inner.topics.refresh(topic, fetch, id);
            }
            return known;
        }
        if self.is_down() {
            return Err(TopicError::Unavailable(DOWN.to_owned()));
        }
        let (fetch, id) = self.questions();
        self.inner.topics.ask(topic, fetch, id).await
    }

    /// The questions to the present client, which block: for a topic's metadata
    /// and for its id.
    fn questions(
        &self,
    ) -> (impl Fn(&str, Duration) -> KafkaResult<Metadata> + use<>, impl FnOnce(&str) -> String + use<>) {
        let (client, inner) = (self.inner.client(), Arc::clone(&self.inner));
        let asked = Arc::clone(&client);
        let fetch = move |topic: &str, timeout| client.client().fetch_metadata(Some(topic), timeout);
        (fetch, move |topic: &str| inner.ids.one(asked.client(), topic))
    }

    /// Hands a record to the client and answers with its acknowledgement to
    /// come. Waits only while the client's queue is full. Records that one
    /// task sends to one partition are taken in this order, and once one of
    /// `order` was not, none behind it is.
    ///
    /// # Errors
    /// When the client refuses the record or has no room until `deadline`.
    pub async fn send(
        &self,
        order: &OrderedSends,
        topic: &str,
        partition: i32,
        record: &Record,
        deadline: tokio::time::Instant,
    ) -> Result<Ack, ProduceError> {
        loop {
            match self.inner.enqueue(order, topic, partition, record) {
                Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => {
                    if tokio::time::Instant::now() + QUEUE_FULL_WAIT > deadline {
                        order.fail(topic, partition);
                        return Err(ProduceError::Later("the queue to kafka is full".to_owned()));
                    }
                    tokio::time::sleep(QUEUE_FULL_WAIT).await;
                }
                Err(error) => {
                    let error = judge(topic, error.rdkafka_error_code(), &error.to_string());
                    // What the client refuses for ever was never under way, and nothing can overtake it.
                    if !matches!(error, ProduceError::Refused(_)) {
                        order.fail(topic, partition);
                    }
                    return Err(error);
                }
                Ok(answer) => return Ok(Ack { answer, topic: topic.to_owned(), partition }),
            }
        }
    }

    /// The client's settings, for the admin calls in `create_topic.rs`.
    fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// Forgets what is known of a topic, after it was created.
    fn forget(&self, topic: &str) {
        self.inner.topics.forget(topic);
    }
}

/// An acknowledgement to come.
pub struct Ack {
    answer: oneshot::Receiver<ProduceResult>,
    topic: String,
    partition: i32,
}

impl Future for Ack {
    type Output = Result<(i32, Offset), ProduceError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(Pin::new(&mut self.answer).poll(context)) {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(ProduceFailure::Code(code))) => Err(judge(&self.topic, Some(code), &code.to_string())),
            Ok(Err(ProduceFailure::BatchRefused(code))) => {
                let topic = &self.topic;
                Err(ProduceError::Later(format!(
                    "topic {topic} refused the message together with others ({code}): it is sent again"
                )))
            }
            Ok(Err(ProduceFailure::WithoutOffset { from })) => {
                Err(ProduceError::Unknown { topic: self.topic.clone(), partition: self.partition, from })
            }
            Ok(Err(ProduceFailure::Behind)) => {
                Err(ProduceError::Later("kafka did not take an earlier message of its partition".to_owned()))
            }
            // The client was replaced or closed with the record in it.
            Err(_) => Err(ProduceError::Later("the producer was closed".to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use courier_core::message::Timestamp;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka_sys::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    fn record(number: u8) -> Record {
        Record {
            timestamp: Timestamp(0),
            key: None,
            value: Some(Bytes::from(vec![number])),
            headers: Vec::new(),
            left_out: None,
        }
    }

    /// librdkafka 2.12 reports success without an offset for the first record
    /// here, and the log lacks it, when all four are with the client at once.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_refusal_for_now_of_the_first_request_to_a_fresh_partition_loses_nothing() {
        let cluster: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).unwrap();
        cluster.create_topic("fresh", 1, 1).unwrap();
        cluster.broker_round_trip_time(1, Duration::from_millis(50)).unwrap();
        let properties = BTreeMap::from([("batch.num.messages".to_owned(), "1".to_owned())]);
        let producer = Producer::new(&[cluster.bootstrap_servers()], &properties).unwrap();
        producer.partitions("fresh").await.unwrap();
        let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART];
        cluster.request_errors(RDKafkaApiKey::Produce, &errors);
        let deadline = tokio::time::Instant::now() + DELIVERY_TIMEOUT;
        let mut acks = Vec::new();
        for number in 0..4 {
            acks.push(producer.send(&OrderedSends::default(), "fresh", 0, &record(number), deadline).await.unwrap());
        }
        let mut offsets = Vec::new();
        for ack in acks {
            offsets.push(ack.await.unwrap().1);
        }
        assert_eq!(offsets, [0, 1, 2, 3].map(Offset));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_waits_behind_a_record_that_failed_is_given_back() {
        let cluster: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).unwrap();
        cluster.create_topic("fresh", 1, 1).unwrap();
        cluster.broker_round_trip_time(1, Duration::from_millis(50)).unwrap();
        let producer = Producer::new(&[cluster.bootstrap_servers()], &BTreeMap::new()).unwrap();
        producer.partitions("fresh").await.unwrap();
        let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE];
        cluster.request_errors(RDKafkaApiKey::Produce, &errors);
        let deadline = tokio::time::Instant::now() + DELIVERY_TIMEOUT;
        let first = producer.send(&OrderedSends::default(), "fresh", 0, &record(0), deadline).await.unwrap();
        let second = producer.send(&OrderedSends::default(), "fresh", 0, &record(1), deadline).await.unwrap();
        assert!(matches!(first.await, Err(ProduceError::Refused(_))));
        let behind = second.await.unwrap_err();
        assert!(behind.to_string().contains("an earlier message of its partition"), "{behind}");
        let third = producer.send(&OrderedSends::default(), "fresh", 0, &record(2), deadline).await.unwrap();
        assert_eq!(third.await.unwrap().1, Offset(0));
    }

    /// The broker answered for all records of a batch, and each of them was refused
    /// for ever, because they were too many for their topic together.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_a_record_that_was_sent_alone_is_believed_to_be_refused() {
        let cluster: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).unwrap();
        cluster.create_topic("fresh", 1, 1).unwrap();
        cluster.broker_round_trip_time(1, Duration::from_millis(50)).unwrap();
        // The records below share a batch.
        let properties = BTreeMap::from([("linger.ms".to_owned(), "500".to_owned())]);
        let producer = Producer::new(&[cluster.bootstrap_servers()], &properties).unwrap();
        producer.partitions("fresh").await.unwrap();
        let deadline = tokio::time::Instant::now() + DELIVERY_TIMEOUT;
        let opens = producer.send(&OrderedSends::default(), "fresh", 0, &record(0), deadline).await.unwrap();
        opens.await.unwrap();
        let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2];
        cluster.request_errors(RDKafkaApiKey::Produce, &errors);
        let mut acks = Vec::new();
        for number in 1..4 {
            acks.push(producer.send(&OrderedSends::default(), "fresh", 0, &record(number), deadline).await.unwrap());
        }
        for ack in acks {
            let refused = ack.await.unwrap_err();
            assert!(matches!(&refused, ProduceError::Later(why) if why.contains("together")), "{refused}");
        }
        let alone = producer.send(&OrderedSends::default(), "fresh", 0, &record(4), deadline).await.unwrap();
        assert!(matches!(alone.await, Err(ProduceError::Refused(_))));
    }

    /// While a pass or request still handed records over, an earlier one failed; the
    /// next found nothing in flight and was taken before it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_sent_behind_a_record_that_failed_is_given_back_too() {
        let cluster: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).unwrap();
        cluster.create_topic("fresh", 2, 1).unwrap();
        let producer = Producer::new(&[cluster.bootstrap_servers()], &BTreeMap::new()).unwrap();
        producer.partitions("fresh").await.unwrap();
        cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
        let deadline = tokio::time::Instant::now() + DELIVERY_TIMEOUT;
        let (order, other) = (OrderedSends::default(), OrderedSends::default());
        let first = producer.send(&order, "fresh", 0, &record(0), deadline).await.unwrap();
        assert!(first.await.is_err());
        let second = producer.send(&order, "fresh", 0, &record(1), deadline).await.unwrap();
        let behind = second.await.unwrap_err();
        assert!(behind.to_string().contains("an earlier message of its partition"), "{behind}");
        // Other partitions and other senders go on.
        for (order, partition) in [(&order, 1), (&other, 0)] {
            let goes_on = producer.send(order, "fresh", partition, &record(2), deadline).await.unwrap();
            assert_eq!(goes_on.await.unwrap(), (partition, Offset(0)));
        }
    }
}
