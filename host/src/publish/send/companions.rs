//! Creates the companions of topics, on which broadcasts go.
//!
//! A companion is created once at a time, in a task of its own: a sender waits for it
//! only as long as for Kafka, and the creation goes on without it. What could not be
//! created for a passing cause is tried again while messages wait for it, see
//! [`Companions::ensure_all`].

use std::collections::HashMap;
use std::sync::Arc;

use courier_core::message::{Kind, base_of_companion};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::kafka::producer::{ProduceError, Producer};
use crate::kafka::topics::TopicError;
use crate::publish::rules::Rules;
use crate::said;

/// Creations at a time: each has a client of Kafka of its own.
const AT_ONCE: usize = 4;

/// What became of a companion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CompanionAnswer {
    /// It exists, maybe only just.
    There,
    /// The topic that it belongs to does not exist.
    NoTopic,
    /// It cannot be created: a person has to change something.
    Refused(String),
    /// It could not be created for a cause that may pass.
    Later(String),
}

/// The end of a creation, for which several may wait.
type Creation = Shared<BoxFuture<'static, CompanionAnswer>>;

/// Creates companions; clones share it.
#[derive(Clone)]
pub(in crate::publish) struct Companions {
    producer: Producer,
    rules: Rules,
    /// The creations under way, by the topics that the companions belong to.
    creating: Arc<Mutex<HashMap<String, Creation>>>,
    at_once: Arc<Semaphore>,
}

/// Removes a creation that has ended, or whose task panicked.
struct CreationEnd {
    companions: Companions,
    topic: String,
}

impl Drop for CreationEnd {
    fn drop(&mut self) {
        self.companions.creating.lock().remove(&self.topic);
    }
}

impl Companions {
    pub(super) fn new(producer: Producer, rules: Rules) -> Self {
        Self { producer, rules, creating: Arc::default(), at_once: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Creates the companion of a topic unless it exists. The creation goes on when
    /// nobody waits for it any more.
    pub(super) fn ensure(&self, topic: &str) -> Creation {
        let Some(settings) = self.rules.companions() else {
            let companion = Kind::Broadcast.log_topic(topic);
            let why = format!(
                "topic {companion}, which carries the broadcasts of topic {topic}, does not exist: create it, or set \
                 create = true in [kafka.topics]"
            );
            return std::future::ready(CompanionAnswer::Refused(why)).boxed().shared();
        };
        let mut creating = self.creating.lock();
        if let Some(creation) = creating.get(topic) {
            return creation.clone();
        }
        let end = CreationEnd { companions: self.clone(), topic: topic.to_owned() };
        let created = tokio::spawn(async move {
            let answer = end.companions.create(&end.topic, settings).await;
            if let CompanionAnswer::Refused(why) | CompanionAnswer::Later(why) = &answer {
                warn_of(&end.topic, why);
            }
            answer
        });
        let creation = created.map(|ended| ended.unwrap_or_else(|error| CompanionAnswer::Later(error.to_string())));
        let creation = creation.boxed().shared();
        creating.insert(topic.to_owned(), creation.clone());
        creation
    }

    /// Creates the companions among topics with unsent rows that are missing. The relay
    /// waits for topics and creates none.
    pub(super) fn ensure_all(&self, topics: &[String]) {
        if self.rules.companions().is_none() || self.producer.is_down() {
            return;
        }
        for topic in topics.iter().filter_map(|topic| base_of_companion(topic)) {
            // Nobody waits: the relay asks for the topic again.
            drop(self.ensure(topic));
        }
    }

    async fn create(&self, topic: &str, (partitions, replication): (i32, i32)) -> CompanionAnswer {
        let companion = Kind::Broadcast.log_topic(topic);
        match self.producer.partitions(&companion).await {
            Ok(_) => return CompanionAnswer::There,
            Err(TopicError::Missing(_)) => {}
            Err(TopicError::Invalid(_)) => return CompanionAnswer::Refused(format!("{companion} is no topic name")),
            Err(TopicError::Unavailable(why)) => return CompanionAnswer::Later(why),
        }
        match self.producer.partitions(topic).await {
            Ok(_) => {}
            Err(TopicError::Missing(_) | TopicError::Invalid(_)) => return CompanionAnswer::NoTopic,
            Err(TopicError::Unavailable(why)) => return CompanionAnswer::Later(why),
        }
        let Ok(_turn) = self.at_once.acquire().await else { return CompanionAnswer::Later("the host ends".to_owned()) };
        match self.producer.create_topic(&companion, partitions, replication, &[]).await {
            Ok(_) => CompanionAnswer::There,
            Err(ProduceError::Refused(why)) => CompanionAnswer::Refused(why),
            Err(error @ (ProduceError::Later(_) | ProduceError::Unknown { .. })) => {
                CompanionAnswer::Later(error.to_string())
            }
        }
    }
}

/// Logs why a companion is missing.
pub(super) fn warn_of(topic: &str, why: &str) {
    if let Some(unsaid) = said::again(&format!("no companion of {topic}")) {
        tracing::warn!(topic, %why, unsaid, "the companion topic for broadcasts cannot be created");
    }
}
