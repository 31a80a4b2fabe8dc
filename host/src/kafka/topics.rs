//! What a producer must know of topics: whether they exist, and how many
//! partitions they have.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use thiserror::Error;

/// How long what is known of a topic is believed.
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// How old it may be until it is asked anew beside its use: a topic that was
/// made anew is noticed within this time.
const FRESH_FOR: Duration = Duration::from_secs(2);
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

/// A topic as a producer knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTopic {
    /// Kafka's id of it; empty where the broker tells none.
    pub id: Arc<str>,
    /// How many partitions it has: at least one.
    pub partitions: i32,
}

/// A cache of what is known of topics.
pub(super) struct TopicCache {
    cache: Arc<Cache>,
}

struct Cache {
    remembered: Mutex<HashMap<String, Remembered>>,
    // One question a topic at a time: many senders to a new topic then ask
    // once, and none of them waits for another topic.
    asking: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Told of a topic that was made anew under its old name.
    made_anew: Box<dyn Fn(&str) + Send + Sync>,
}

struct Remembered {
    answer: Result<KnownTopic, TopicError>,
    asked: Instant,
    until: Instant,
}

impl TopicCache {
    /// An empty cache; `made_anew` hears of topics whose id changed.
    pub(super) fn new(made_anew: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let made_anew = Box::new(made_anew);
        Self { cache: Arc::new(Cache { remembered: Mutex::default(), asking: Mutex::default(), made_anew }) }
    }

    pub(super) fn known(&self, topic: &str) -> Option<Result<KnownTopic, TopicError>> {
        let remembered = self.cache.remembered();
        let found = remembered.get(topic)?;
        (found.until > Instant::now()).then(|| found.answer.clone())
    }

    /// Whether what is known of the topic should be asked anew beside its use.
    pub(super) fn is_stale(&self, topic: &str) -> bool {
        self.cache.remembered().get(topic).is_some_and(|found| found.asked.elapsed() > FRESH_FOR)
    }

    /// Asks anew beside the topic's use, unless somebody is asking already.
    pub(super) fn refresh(
        &self,
        topic: &str,
        fetch: impl Fn(&str, Duration) -> KafkaResult<Metadata> + Send + Sync + 'static,
        id: impl FnOnce(&str) -> String + Send + 'static,
    ) {
        if let Ok(turn) = self.cache.turn(topic).try_lock_owned() {
            // Nobody waits for it: the cache has the answer.
            let _detached = self.cache.start_asking(topic, turn, fetch, id);
        }
    }

    pub(super) fn forget(&self, topic: &str) {
        if let Some(found) = self.cache.remembered().get_mut(topic) {
            // Its id stays, so that a topic made anew is told from it.
            found.until = Instant::now();
        }
    }

    /// Asks `fetch` for the metadata and `id` for the id, which block, and
    /// remembers the answer.
    pub(super) async fn ask(
        &self,
        topic: &str,
        fetch: impl Fn(&str, Duration) -> KafkaResult<Metadata> + Send + Sync + 'static,
        id: impl FnOnce(&str) -> String + Send + 'static,
    ) -> Result<KnownTopic, TopicError> {
        let turn = self.cache.turn(topic).lock_owned().await;
        if let Some(known) = self.known(topic) {
            return known;
        }
        // The question goes on when its asker gives up waiting, and its answer
        // is there for the next one.
        let asked = self.cache.start_asking(topic, turn, fetch, id);
        asked.await.unwrap_or_else(|error| Err(TopicError::Unavailable(error.to_string())))
    }
}

impl Cache {
    fn remembered(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.remembered.lock()
    }

    fn turn(&self, topic: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut asking = self.asking.lock();
        if asking.len() >= MAX_REMEMBERED {
            asking.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(asking.entry(topic.to_owned()).or_default())
    }

    /// Asks on a thread that may block, and remembers the answer.
    fn start_asking(
        self: &Arc<Self>,
        topic: &str,
        turn: tokio::sync::OwnedMutexGuard<()>,
        fetch: impl Fn(&str, Duration) -> KafkaResult<Metadata> + Send + Sync + 'static,
        id: impl FnOnce(&str) -> String + Send + 'static,
    ) -> tokio::task::JoinHandle<Result<KnownTopic, TopicError>> {
        let (topic, cache) = (topic.to_owned(), Arc::clone(self));
        tokio::task::spawn_blocking(move || {
            let answer = ask_until_known(&topic, &fetch);
            let answer = answer.map(|partitions| KnownTopic { id: id(&topic).into(), partitions });
            cache.remember(topic, &answer);
            drop(turn);
            answer
        })
    }

    fn remember(&self, topic: String, answer: &Result<KnownTopic, TopicError>) {
        let keep = match answer {
            Ok(_) => KNOWN_FOR,
            Err(TopicError::Missing(_) | TopicError::Invalid(_)) => MISSING_FOR,
            Err(TopicError::Unavailable(_)) => return,
        };
        let mut remembered = self.remembered();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        let asked = Instant::now();
        let new = Remembered { answer: answer.clone(), asked, until: asked + keep };
        let old = remembered.insert(topic.clone(), new);
        drop(remembered);
        let id = |known: &Result<KnownTopic, TopicError>| known.as_ref().ok().map(|known| Arc::clone(&known.id));
        let changed = match (old.as_ref().and_then(|old| id(&old.answer)), id(answer)) {
            (Some(old), Some(new)) => !old.is_empty() && !new.is_empty() && old != new,
            // A topic that was missing is a new one.
            (None, Some(_)) => old.is_some(),
            _ => false,
        };
        if changed {
            (self.made_anew)(&topic);
        }
    }
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
