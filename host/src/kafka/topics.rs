//! What a producer must know of topics: whether they exist, how many
//! partitions they have; and the creation of Courier's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig as _;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use thiserror::Error;

use super::producer::{ProduceError, Producer};

/// How long a count of partitions is believed.
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// How long a topic is believed to be missing: long enough that a sender who
/// insists does not flood the broker with questions.
const MISSING_FOR: Duration = Duration::from_secs(1);
/// Topics that are remembered; past it, all are forgotten.
const MAX_REMEMBERED: usize = 10_000;
/// How long one question may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// A topic that was just created is known to the broker after a moment: how
/// often to ask, and how long to wait between.
const ASK_TRIES: u32 = 5;
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long the creation of a topic may take.
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the partitions of a topic are not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// The broker says that it does not exist, and does not create it.
    #[error("topic {0} does not exist: create it, or set auto.create.topics.enable on the broker")]
    Missing(String),
    /// The broker takes no topic of this name.
    #[error("{0} is not a valid topic name")]
    Invalid(String),
    /// Nobody can say now.
    #[error("{0}")]
    Unavailable(String),
}

/// A cache of partition counts.
#[derive(Default)]
pub(super) struct Topics {
    remembered: Arc<Mutex<HashMap<String, Remembered>>>,
    // One question at a time: many senders to one new topic then ask once.
    asking: Arc<tokio::sync::Mutex<()>>,
}

struct Remembered {
    answer: Result<i32, TopicError>,
    until: Instant,
}

impl Topics {
    pub(super) fn known(&self, topic: &str) -> Option<Result<i32, TopicError>> {
        let remembered = self.locked();
        let found = remembered.get(topic)?;
        (found.until > Instant::now()).then(|| found.answer.clone())
    }

    pub(super) fn forget(&self, topic: &str) {
        self.locked().remove(topic);
    }

    /// Asks `fetch`, which blocks, and remembers the answer.
    pub(super) async fn ask(
        &self,
        topic: &str,
        fetch: impl Fn(&str, Duration) -> KafkaResult<Metadata> + Send + Sync + 'static,
    ) -> Result<i32, TopicError> {
        let turn = Arc::clone(&self.asking).lock_owned().await;
        if let Some(known) = self.known(topic) {
            return known;
        }
        let (name, remembered) = (topic.to_owned(), Arc::clone(&self.remembered));
        // The question goes on when its asker gives up waiting, and its answer
        // is there for the next one.
        let asked = tokio::task::spawn_blocking(move || {
            let answer = ask_until_known(&name, &fetch);
            remember(&remembered, name, &answer);
            drop(turn);
            answer
        });
        asked.await.unwrap_or_else(|error| Err(TopicError::Unavailable(error.to_string())))
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remember(remembered: &Mutex<HashMap<String, Remembered>>, topic: String, answer: &Result<i32, TopicError>) {
    let keep = match answer {
        Ok(_) => KNOWN_FOR,
        Err(TopicError::Missing(_) | TopicError::Invalid(_)) => MISSING_FOR,
        Err(TopicError::Unavailable(_)) => return,
    };
    let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
    if remembered.len() >= MAX_REMEMBERED {
        remembered.clear();
    }
    remembered.insert(topic, Remembered { answer: answer.clone(), until: Instant::now() + keep });
}

fn ask_until_known(topic: &str, fetch: &impl Fn(&str, Duration) -> KafkaResult<Metadata>) -> Result<i32, TopicError> {
    let mut answer = ask_once(topic, fetch);
    for _ in 1..ASK_TRIES {
        match &answer {
            Err(TopicError::Missing(_) | TopicError::Unavailable(_)) => {
                std::thread::sleep(ASK_AGAIN);
                answer = ask_once(topic, fetch);
            }
            _ => break,
        }
    }
    answer
}

fn ask_once(topic: &str, fetch: &impl Fn(&str, Duration) -> KafkaResult<Metadata>) -> Result<i32, TopicError> {
    let metadata = fetch(topic, ASK_TIMEOUT)
        .map_err(|error| TopicError::Unavailable(format!("kafka does not answer: {error}")))?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Err(TopicError::Missing(topic.to_owned()));
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None if !found.partitions().is_empty() => Ok(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX)),
        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
            Err(TopicError::Missing(topic.to_owned()))
        }
        Some(RDKafkaErrorCode::InvalidTopic) => Err(TopicError::Invalid(topic.to_owned())),
        // The broker is just creating it, or elects its leaders.
        None => Err(TopicError::Unavailable(format!("topic {topic} is not ready yet"))),
        Some(code) => Err(TopicError::Unavailable(format!("topic {topic}: {code}"))),
    }
}

impl Producer {
    /// Creates one of Courier's own topics unless it exists; `replication` 0
    /// or less leaves the factor to the broker. Answers whether it is new.
    ///
    /// # Errors
    /// When the broker refuses, or cannot be reached.
    pub async fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i32,
        settings: &[(&str, &str)],
    ) -> Result<bool, ProduceError> {
        let later =
            |error: &dyn std::fmt::Display| ProduceError::Later(format!("cannot create topic {topic}: {error}"));
        let mut config = self.config().clone();
        for producer_only in ["enable.idempotence", "partitioner", "acks", "message.timeout.ms", "linger.ms"] {
            config.remove(producer_only);
        }
        let admin: AdminClient<DefaultClientContext> =
            AdminClient::from_config(&config).map_err(|error| later(&error))?;
        let factor = if replication > 0 { replication } else { -1 };
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(factor));
        new.config.extend_from_slice(settings);
        let options = AdminOptions::new().operation_timeout(Some(CREATE_TIMEOUT)).request_timeout(Some(CREATE_TIMEOUT));
        let created = admin.create_topics([&new], &options).await.map_err(|error| later(&error))?;
        // The client's destructor waits for its threads: not on this one.
        tokio::task::spawn_blocking(move || drop(admin));
        self.forget(topic);
        match created.into_iter().next() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((
                _,
                code @ (RDKafkaErrorCode::InvalidTopic
                | RDKafkaErrorCode::InvalidPartitions
                | RDKafkaErrorCode::InvalidReplicationFactor
                | RDKafkaErrorCode::InvalidConfig
                | RDKafkaErrorCode::PolicyViolation
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed),
            ))) => Err(ProduceError::Refused(format!("cannot create topic {topic}: {code}"))),
            Some(Err((_, code))) => Err(later(&code)),
            None => Err(later(&"the broker gave no answer")),
        }
    }
}
