//! Reads logs outside of groups: which topics exist, where they begin and end,
//! and the record at an offset.
//!
//! It has consumers of its own that belong to no group, so that a question
//! never disturbs a group. Every call may wait for the network and runs on a
//! blocking thread. It sees what a group sees: records of committed
//! transactions.

mod retention;
mod search;
mod topic_settings;
mod topics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use courier_core::message::{Offset, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use rdkafka::admin::AdminClient;
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

pub use self::search::Search;
pub use self::topics::{GroupInfo, TopicInfo};
use super::record::Record;
use super::stale_client::{self, StaleClient};
use super::topic_id::TopicIds;
use crate::said;

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
    /// Kafka refuses to answer; a person has to do something.
    #[error("kafka refuses to tell of topic {topic}: {why}")]
    Refused {
        topic: String,
        /// In Kafka's words.
        why: String,
    },
}

/// Asks Kafka about its logs; cheap to clone.
#[derive(Clone)]
pub struct LogReader {
    ids: Arc<TopicIds>,
    config: ClientConfig,
    /// Replaced when they no longer find a cluster that is there.
    clients: Arc<Mutex<Arc<Clients>>>,
    rescue: Arc<Mutex<StaleClient>>,
    retentions: Arc<Mutex<topic_settings::Retentions>>,
    /// The id of topics of which the broker tells none.
    stand_in: Arc<str>,
    /// Bytes of a record that is read whole.
    max_record: usize,
}

struct Clients {
    /// Sees what is committed, as groups do.
    ask: BaseConsumer<Quiet>,
    /// Sees the whole log.
    ask_all: BaseConsumer<Quiet>,
    /// Reads records.
    read: BaseConsumer<Quiet>,
    /// One reading at a time.
    reading: Mutex<()>,
    /// Asks for the settings of topics.
    admin: AdminClient<DefaultClientContext>,
}

impl Clients {
    fn connect(config: &ClientConfig) -> Result<Self, KafkaError> {
        let ask = config.create_with_context(Quiet)?;
        // Having read what was asked for, the client asks for more until it is
        // told to stop, and the next question waits for the broker to answer.
        let mut read = config.clone();
        let read =
            read.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "10").create_with_context(Quiet)?;
        let ask_all = config.clone().set("isolation.level", "read_uncommitted").create_with_context(Quiet)?;
        Ok(Self { ask, ask_all, read, reading: Mutex::default(), admin: topic_settings::connect(config)? })
    }

    fn all(&self) -> [&BaseConsumer<Quiet>; 3] {
        [&self.ask, &self.ask_all, &self.read]
    }
}

struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        super::client_log::line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        super::client_log::client_error(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

impl LogReader {
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
        // A byte that the network or a disk changed is no message.
        config.set("check.crcs", "true");
        let clients = Arc::new(Mutex::new(Arc::new(Clients::connect(&config)?)));
        Ok(Self {
            ids: Arc::default(),
            config,
            clients,
            rescue: Arc::default(),
            retentions: Arc::default(),
            stand_in: "".into(),
            max_record: usize::MAX,
        })
    }

    /// Gives `id` to topics of which the broker tells none. An embedded broker
    /// starts empty each time: its topics are not those of an earlier run,
    /// although they have their names and tell no ids.
    #[must_use]
    pub fn with_stand_in(self, id: &str) -> Self {
        Self { stand_in: id.into(), ids: Arc::new(TopicIds::none()), ..self }
    }

    /// Reads no record of more bytes whole, see [`Record::from_kafka`].
    #[must_use]
    pub fn with_max_record(self, max_record: usize) -> Self {
        Self { max_record, ..self }
    }

    fn clients(&self) -> Arc<Clients> {
        Arc::clone(&lock(&self.clients))
    }

    async fn asking<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Clients) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let clients = self.clients();
        tokio::task::spawn_blocking(move || question(&clients))
            .await
            .unwrap_or_else(|error| Err(LogError::Unavailable(error.to_string())))
    }

    /// Whether a broker answers. Meant to be asked again and again: clients
    /// that no longer find a cluster which is there are replaced here.
    ///
    /// # Errors
    /// When none does.
    pub async fn ping(&self) -> Result<(), LogError> {
        let log = self.clone();
        self.asking(move |clients| {
            let answers = clients.all().map(|client| {
                // A topic that nobody has costs the broker the least to describe.
                stale_client::found(client.fetch_metadata(Some(NOBODYS), ANSWER_WAIT))
            });
            let answer = answers.into_iter().collect::<Result<(), String>>().map_err(LogError::Unavailable);
            if lock(&log.rescue).is_needed(answer.is_ok(), || stale_client::ask_afresh(&log.config)) {
                if let Some(unsaid) = said::again("lost clients that ask") {
                    tracing::warn!(
                        unsaid,
                        "the clients that ask kafka no longer find it, which is there: replacing them"
                    );
                }
                let connected = Clients::connect(&log.config).map_err(|error| LogError::Unavailable(error.to_string()));
                let lost = std::mem::replace(&mut *lock(&log.clients), Arc::new(connected?));
                // The destructor waits for the clients' threads.
                std::thread::spawn(move || drop(lost));
            }
            answer
        })
        .await
    }

    /// The first offset of a partition, and the one after the last that a
    /// group can read: a transaction that is open holds it back.
    ///
    /// # Errors
    /// When Kafka does not answer, or there is no such partition.
    pub async fn range(&self, topic: &str, partition: i32) -> Result<(Offset, Offset), LogError> {
        let topic = topic.to_owned();
        self.asking(move |clients| watermarks(&clients.ask, &topic, partition)).await
    }

    /// The end of the log, open transactions included.
    ///
    /// # Errors
    /// When Kafka does not answer, or there is no such partition.
    pub async fn end_of_all(&self, topic: &str, partition: i32) -> Result<Offset, LogError> {
        let topic = topic.to_owned();
        self.asking(move |clients| Ok(watermarks(&clients.ask_all, &topic, partition)?.1)).await
    }

    /// Where the next record at or after `from` stands; where one can stand at
    /// the earliest when there is none yet. What lies between are holes.
    ///
    /// # Errors
    /// When Kafka does not answer, or there is no such partition.
    pub async fn next_record(&self, topic: &str, partition: i32, from: Offset) -> Result<Offset, LogError> {
        let topic = topic.to_owned();
        self.asking(move |clients| {
            // The end is asked first: whoever reads to the end after that has
            // seen all that stands below this one.
            let (_, end) = watermarks(&clients.ask, &topic, partition)?;
            if end <= from {
                return Ok(from);
            }
            match read_from(clients, &topic, partition, from, 0)? {
                ReadResult::Record(offset, _) => Ok(offset),
                ReadResult::End => Ok(end),
                ReadResult::OutOfRange => {
                    Err(LogError::Unavailable(format!("{topic}:{partition} has no offset {from}")))
                }
            }
        })
        .await
    }

    /// The first offset whose record is not older than `time`; the end of the
    /// log when there is none. No record is older than 1970, so that an earlier
    /// time is the beginning of the log: Kafka takes such a number for a word.
    ///
    /// # Errors
    /// When Kafka does not answer, or there is no such partition.
    pub async fn offset_at(&self, topic: &str, partition: i32, time: Timestamp) -> Result<Offset, LogError> {
        let topic = topic.to_owned();
        self.asking(move |clients| {
            let consumer = &clients.ask;
            let time_ms = time.0.div_euclid(1_000);
            if time_ms <= 0 {
                return Ok(watermarks(consumer, &topic, partition)?.0);
            }
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, partition, KafkaOffset::Offset(time_ms)).map_err(unavailable)?;
            let found = consumer.offsets_for_times(list, ANSWER_WAIT).map_err(|error| of(&topic, error))?;
            if let Some(KafkaOffset::Offset(offset)) = found.elements().first().map(|element| element.offset()) {
                return Ok(Offset(offset));
            }
            Ok(watermarks(consumer, &topic, partition)?.1)
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
        let (topic, mut config, max_record) = (topic.to_owned(), self.config.clone(), self.max_record);
        config.set("enable.partition.eof", "true");
        self.asking(move |_| {
            let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet).map_err(unavailable)?;
            read_span(&consumer, &topic, partition, (from, to), max_record, |_| true)
        })
        .await
    }

    /// Of the records of a partition those at `offsets`, ascending. What lies
    /// between is read and dropped. Where none is answered, Kafka has no record.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn read_these(
        &self,
        topic: &str,
        partition: i32,
        offsets: &[Offset],
    ) -> Result<Vec<(Offset, Record)>, LogError> {
        let (Some(first), Some(last)) = (offsets.first().copied(), offsets.last().copied()) else {
            return Ok(Vec::new());
        };
        let (topic, offsets, mut config) = (topic.to_owned(), offsets.to_vec(), self.config.clone());
        let max_record = self.max_record;
        config.set("enable.partition.eof", "true");
        self.asking(move |_| {
            let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet).map_err(unavailable)?;
            let is_wanted = |offset| offsets.binary_search(&offset).is_ok();
            read_span(&consumer, &topic, partition, (first, last.next()), max_record, is_wanted)
        })
        .await
    }

    /// The record at an offset; none when Kafka no longer has it.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn read(&self, topic: &str, partition: i32, offset: Offset) -> Result<Option<Record>, LogError> {
        let (topic, max_record) = (topic.to_owned(), self.max_record);
        self.asking(move |clients| match read_from(clients, &topic, partition, offset, max_record)? {
            ReadResult::Record(at, record) if at == offset => Ok(Some(record)),
            ReadResult::Record(..) | ReadResult::End | ReadResult::OutOfRange => Ok(None),
        })
        .await
    }
}

/// The result of reading from an offset.
enum ReadResult {
    /// The first record there, which may stand behind the offset.
    Record(Offset, Record),
    /// There is none up to the end of what is committed.
    End,
    /// The log has no such offset.
    OutOfRange,
}

fn read_from(
    clients: &Clients,
    topic: &str,
    partition: i32,
    offset: Offset,
    max_record: usize,
) -> Result<ReadResult, LogError> {
    let _turn = lock(&clients.reading);
    let found = read_first(&clients.read, topic, partition, offset, max_record);
    let _ = clients.read.unassign();
    found
}

fn read_span(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    partition: i32,
    (from, to): (Offset, Offset),
    max_record: usize,
    is_wanted: impl Fn(Offset) -> bool,
) -> Result<Vec<(Offset, Record)>, LogError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, KafkaOffset::Offset(from.0)).map_err(unavailable)?;
    consumer.assign(&list).map_err(unavailable)?;
    let (begun, mut records) = (Instant::now(), Vec::new());
    while let Some(left) = ANSWER_WAIT.checked_sub(begun.elapsed()) {
        match consumer.poll(left) {
            Some(Ok(message)) if message.offset() < to.0 => {
                let offset = Offset(message.offset());
                if is_wanted(offset) {
                    records.push((offset, Record::from_kafka(&message, max_record)));
                }
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

fn read_first(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    partition: i32,
    offset: Offset,
    max_record: usize,
) -> Result<ReadResult, LogError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, KafkaOffset::Offset(offset.0)).map_err(unavailable)?;
    consumer.assign(&list).map_err(unavailable)?;
    let begun = Instant::now();
    while let Some(left) = ANSWER_WAIT.checked_sub(begun.elapsed()) {
        match consumer.poll(left) {
            Some(Ok(message)) if message.topic() == topic && message.partition() == partition => {
                return Ok(ReadResult::Record(Offset(message.offset()), Record::from_kafka(&message, max_record)));
            }
            // Left over from the question before.
            Some(Ok(_)) => {}
            // The client drops what it has of an earlier assignment, so this
            // is the end of the partition that was assigned just now.
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(ReadResult::End),
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                    return Ok(ReadResult::OutOfRange);
                }
                _ => tracing::debug!(%error, "while reading {topic}:{partition}:{offset}"),
            },
            None => {}
        }
    }
    Err(LogError::Unavailable(format!("no record within {ANSWER_WAIT:?}")))
}

fn watermarks(consumer: &BaseConsumer<Quiet>, topic: &str, partition: i32) -> Result<(Offset, Offset), LogError> {
    let (low, high) = consumer.fetch_watermarks(topic, partition, ANSWER_WAIT).map_err(|error| of(topic, error))?;
    Ok((Offset(low), Offset(high)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
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
        Some(code @ RDKafkaErrorCode::TopicAuthorizationFailed) => refused(topic, code),
        _ => unavailable(error),
    }
}

/// What an error of a topic itself means.
fn refused(topic: &str, code: RDKafkaErrorCode) -> LogError {
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
            LogError::Refused { topic: topic.to_owned(), why: code.to_string() }
        }
        code => LogError::Unavailable(format!("topic {topic}: {code}")),
    }
}
