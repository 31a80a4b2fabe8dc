//! Asking Kafka about its logs: which topics there are, where they begin and
//! end, and what stands at an offset.
//!
//! It has consumers of its own that belong to no group, so that a question
//! never disturbs what a group is doing. Every call may wait for the network
//! and runs on a thread for that.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use courier_core::message::{Offset, Timestamp};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::record::Record;
use super::topic_id::TopicIds;

/// How long Kafka may take to answer a question.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// A topic that does not exist.
const NOBODYS: &str = "courier.nobodys";

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Kafka did not answer; asking again may help.
    #[error("kafka did not answer: {0}")]
    Unavailable(String),
    /// There is no such topic or partition.
    #[error("topic {0} does not exist")]
    NoTopic(String),
}

/// A topic as Kafka knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Kafka's id of this very topic, which a topic created anew under the
    /// same name does not have. Empty where the broker tells none.
    pub id: String,
    /// Its partitions, ascending.
    pub partitions: Vec<i32>,
}

/// Asks Kafka about its logs; cheap to clone.
#[derive(Clone)]
pub struct Log {
    config: ClientConfig,
    ids: Arc<TopicIds>,
    ask: Arc<BaseConsumer<Quiet>>,
    read: Arc<Mutex<BaseConsumer<Quiet>>>,
}

struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        super::log::line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        super::log::client_error(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

impl Log {
    /// Connects with `config`, which names the servers and how to reach them.
    ///
    /// # Errors
    /// When librdkafka refuses the configuration.
    pub fn new(config: &ClientConfig) -> Result<Self, KafkaError> {
        let mut config = config.clone();
        // The group id is demanded by librdkafka and never used: nothing
        // subscribes and nothing commits.
        config.set("group.id", "courier-log").set("enable.auto.commit", "false").set("auto.offset.reset", "error");
        config.set("isolation.level", "read_committed").set("allow.auto.create.topics", "false");
        let ask = config.create_with_context(Quiet)?;
        let read = config.create_with_context(Quiet)?;
        Ok(Self { config, ids: Arc::default(), ask: Arc::new(ask), read: Arc::new(Mutex::new(read)) })
    }

    async fn asking<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer<Quiet>) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let consumer = Arc::clone(&self.ask);
        tokio::task::spawn_blocking(move || question(&consumer))
            .await
            .unwrap_or_else(|error| Err(LogError::Unavailable(error.to_string())))
    }

    /// Whether a broker answers.
    ///
    /// # Errors
    /// When none does.
    pub async fn ping(&self) -> Result<(), LogError> {
        // A topic that nobody has costs the broker the least to describe.
        self.asking(|consumer| consumer.fetch_metadata(Some(NOBODYS), ANSWER_WAIT).map(drop).map_err(unavailable)).await
    }

    /// The topic, or none when Kafka answers that there is no such topic.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn topic(&self, topic: &str) -> Result<Option<TopicInfo>, LogError> {
        let (topic, ids) = (topic.to_owned(), Arc::clone(&self.ids));
        self.asking(move |consumer| {
            let metadata = consumer.fetch_metadata(Some(&topic), ANSWER_WAIT).map_err(unavailable)?;
            let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
            if found.error().is_some() || found.partitions().is_empty() {
                return Ok(None);
            }
            let mut partitions: Vec<i32> = found.partitions().iter().map(|one| one.id()).collect();
            partitions.sort_unstable();
            let id = ids.of(consumer.client(), &topic);
            Ok(Some(TopicInfo { id, partitions }))
        })
        .await
    }

    /// The first offset of a partition, and the one after its last.
    ///
    /// # Errors
    /// When Kafka does not answer, or there is no such partition.
    pub async fn range(&self, topic: &str, partition: i32) -> Result<(Offset, Offset), LogError> {
        let topic = topic.to_owned();
        self.asking(move |consumer| {
            let (low, high) =
                consumer.fetch_watermarks(&topic, partition, ANSWER_WAIT).map_err(|error| of(&topic, error))?;
            Ok((Offset(low), Offset(high)))
        })
        .await
    }

    /// The first offset whose record is not older than `time`; the end of the
    /// log when there is none.
    ///
    /// # Errors
    /// When Kafka does not answer, or there is no such partition.
    pub async fn offset_at(&self, topic: &str, partition: i32, time: Timestamp) -> Result<Offset, LogError> {
        let topic = topic.to_owned();
        self.asking(move |consumer| {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, partition, KafkaOffset::Offset(time.0.div_euclid(1_000)))
                .map_err(unavailable)?;
            let found = consumer.offsets_for_times(list, ANSWER_WAIT).map_err(|error| of(&topic, error))?;
            if let Some(KafkaOffset::Offset(offset)) = found.elements().first().map(|element| element.offset()) {
                return Ok(Offset(offset));
            }
            let (_, high) =
                consumer.fetch_watermarks(&topic, partition, ANSWER_WAIT).map_err(|error| of(&topic, error))?;
            Ok(Offset(high))
        })
        .await
    }

    /// The records of a partition from `from` on and below `to`. Offsets are
    /// sparse: where none is answered, Kafka has no record.
    ///
    /// A consumer of its own reads them, since only one that never read
    /// anything else can be believed when it says that the log has ended.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn read_range(
        &self,
        topic: &str,
        partition: i32,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<(Offset, Record)>, LogError> {
        let (topic, mut config) = (topic.to_owned(), self.config.clone());
        config.set("enable.partition.eof", "true");
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet).map_err(unavailable)?;
            read_span(&consumer, &topic, partition, from, to)
        })
        .await
        .unwrap_or_else(|error| Err(LogError::Unavailable(error.to_string())))
    }

    /// The record at an offset; none when Kafka no longer has it.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn read(&self, topic: &str, partition: i32, offset: Offset) -> Result<Option<Record>, LogError> {
        let (topic, read) = (topic.to_owned(), Arc::clone(&self.read));
        tokio::task::spawn_blocking(move || {
            // A lock that a panic poisoned guards nothing that could be broken.
            let consumer = read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let result = read_one(&consumer, &topic, partition, offset);
            let _ = consumer.unassign();
            result
        })
        .await
        .unwrap_or_else(|error| Err(LogError::Unavailable(error.to_string())))
    }
}

fn read_span(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    partition: i32,
    from: Offset,
    to: Offset,
) -> Result<Vec<(Offset, Record)>, LogError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, KafkaOffset::Offset(from.0)).map_err(unavailable)?;
    consumer.assign(&list).map_err(unavailable)?;
    let (begun, mut records) = (Instant::now(), Vec::new());
    while let Some(left) = ANSWER_WAIT.checked_sub(begun.elapsed()) {
        match consumer.poll(left) {
            Some(Ok(message)) if message.offset() < to.0 => {
                records.push((Offset(message.offset()), Record::from_kafka(&message)));
                if message.offset() + 1 == to.0 {
                    return Ok(records);
                }
            }
            Some(Ok(_)) | Some(Err(KafkaError::PartitionEOF(_))) => return Ok(records),
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => return Ok(records),
                _ => tracing::debug!(%error, "while reading {topic}:{partition} from {from}"),
            },
            None => break,
        }
    }
    Err(LogError::Unavailable(format!("the records did not come within {ANSWER_WAIT:?}")))
}

fn read_one(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    partition: i32,
    offset: Offset,
) -> Result<Option<Record>, LogError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, KafkaOffset::Offset(offset.0)).map_err(unavailable)?;
    consumer.assign(&list).map_err(unavailable)?;
    let begun = Instant::now();
    while let Some(left) = ANSWER_WAIT.checked_sub(begun.elapsed()) {
        match consumer.poll(left) {
            Some(Ok(message)) if message.topic() == topic && message.partition() == partition => {
                return Ok((message.offset() == offset.0).then(|| Record::from_kafka(&message)));
            }
            // Left over from the question before.
            Some(Ok(_)) => {}
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => return Ok(None),
                _ => tracing::debug!(%error, "while reading {topic}:{partition}:{offset}"),
            },
            None => break,
        }
    }
    Err(LogError::Unavailable(format!("no record within {ANSWER_WAIT:?}")))
}

#[allow(clippy::needless_pass_by_value)]
fn unavailable(error: KafkaError) -> LogError {
    LogError::Unavailable(error.to_string())
}

fn of(topic: &str, error: KafkaError) -> LogError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownPartition) => {
            LogError::NoTopic(topic.to_owned())
        }
        _ => unavailable(error),
    }
}
