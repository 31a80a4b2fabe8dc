//! Chooses the way of messages: directly to Kafka, through the relay, or refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use courier_core::message::Kind;
use tokio::time::Instant;

use super::companions::{CompanionAnswer, warn_of};
use super::parts::AcceptorParts;
use crate::kafka::topics::TopicError;
use crate::publish::backlog::UnsentGuard;
use crate::publish::draft::{Draft, SendableMessage};
use crate::publish::receipt::SendProblem;

/// How much longer than for Kafka a request waits for the creation of companions. That a
/// topic is missing is known after 400 ms, and here two topics may be asked for.
const COMPANIONS_EXTRA: Duration = Duration::from_secs(1);

/// The way of the messages for one topic, for a whole request.
pub(super) enum Route {
    Direct {
        partitions: i32,
    },
    /// Through the relay. `wait`: Kafka is there, so the result comes soon.
    Owed {
        reason: String,
        wait: bool,
        mark: Arc<UnsentGuard>,
    },
    Refused(SendProblem),
}

/// What the messages of a topic must not overtake, by one look at the start of a request.
///
/// The keys of a topic that something stands before are not asked for in the store. So
/// the request keeps to this look: a backlog that ends meanwhile would let messages
/// overtake rows of their keys that other hosts have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendBarrier {
    Nothing,
    /// Kafka is known to be away, so that everything waits.
    Outage,
    /// The topic has unsent rows.
    Backlog,
}

impl AcceptorParts {
    /// Looks what stands before the messages of a topic of Kafka.
    pub(super) fn barrier_of(&self, topic: &str) -> SendBarrier {
        if self.producer.is_down() {
            SendBarrier::Outage
        } else if self.backlog.has(topic) {
            SendBarrier::Backlog
        } else {
            SendBarrier::Nothing
        }
    }

    /// [`Self::barrier_of`] each topic of a request.
    pub(super) fn barriers_of(&self, drafts: &[Draft]) -> HashMap<String, SendBarrier> {
        let mut barriers = HashMap::new();
        for draft in drafts {
            let topic = draft.kind.log_topic(&draft.topic);
            if !barriers.contains_key(&*topic) {
                barriers.insert(topic.to_string(), self.barrier_of(&topic));
            }
        }
        barriers
    }

    /// The way of the messages for a topic, of which a request saw `barrier` at its start.
    pub(super) async fn route(&self, topic: &str, barrier: SendBarrier, answer_by: Instant) -> Route {
        let owed = |reason: String, wait| Route::Owed { reason, wait, mark: Arc::new(self.backlog.mark(topic)) };
        // What has come since counts too.
        let barrier = if barrier == SendBarrier::Nothing { self.barrier_of(topic) } else { barrier };
        match barrier {
            SendBarrier::Nothing => {}
            SendBarrier::Outage => return owed("kafka cannot be reached".to_owned(), false),
            SendBarrier::Backlog => return owed("waits behind earlier messages of its topic".to_owned(), true),
        }
        match tokio::time::timeout_at(answer_by, self.producer.partitions(topic)).await {
            Ok(Ok(partitions)) => Route::Direct { partitions },
            Ok(Err(error @ (TopicError::Missing(_) | TopicError::Invalid(_)))) => {
                Route::Refused(SendProblem::refused(error.to_string()))
            }
            Ok(Err(TopicError::Unavailable(reason))) => owed(reason, false),
            Err(_) => owed("kafka does not answer".to_owned(), false),
        }
    }

    /// The way of a broadcast. The companion of an existing topic is created
    /// when it is missing and the host may create topics. Only what a person has to
    /// change refuses the broadcast: for every other cause it waits for its companion.
    pub(super) async fn route_broadcast(
        &self,
        topic: &str,
        companion: &str,
        barrier: SendBarrier,
        answer_by: Instant,
    ) -> Route {
        let refused = match self.route(companion, barrier, answer_by).await {
            Route::Refused(refused) => refused,
            route => return route,
        };
        let owed = |reason: String, wait| Route::Owed { reason, wait, mark: Arc::new(self.backlog.mark(companion)) };
        let until = answer_by + COMPANIONS_EXTRA;
        match tokio::time::timeout_at(until, self.companions.ensure(topic)).await {
            // The broker may need a moment until it serves a new topic.
            Ok(CompanionAnswer::There) => owed("its topic was just created".to_owned(), true),
            Ok(CompanionAnswer::NoTopic) => Route::Refused(refused),
            Ok(CompanionAnswer::Refused(why)) => Route::Refused(SendProblem::refused(why)),
            Ok(CompanionAnswer::Later(why)) => owed(why, false),
            Err(_) => owed(format!("topic {companion} is being created"), false),
        }
    }

    /// Creates the companion of a topic for broadcasts that the relay will
    /// send, as far as that is possible until `until`. A companion that is
    /// still missing is reported by the relay.
    pub(in crate::publish) async fn prepare_companion(&self, topic: &str, until: Instant) {
        if self.producer.is_down() {
            return;
        }
        let companion = Kind::Broadcast.log_topic(topic);
        let created = async {
            if let Err(TopicError::Missing(_)) = self.producer.partitions(&companion).await
                && let CompanionAnswer::Refused(why) = self.companions.ensure(topic).await
            {
                warn_of(topic, &why);
            }
        };
        // The relay asks for the topic again.
        let _late = tokio::time::timeout_at(until, created).await;
    }

    /// Why Kafka would never take a message for this topic, as far as is known
    /// before it is sent.
    pub(in crate::publish) async fn refusal(&self, ready: &SendableMessage, answer_by: Instant) -> Option<SendProblem> {
        if self.producer.is_down() {
            return None;
        }
        let topic = &*ready.log_topic();
        if ready.message.kind == Kind::Broadcast {
            let barrier = self.barrier_of(topic);
            return match self.route_broadcast(&ready.message.topic, topic, barrier, answer_by).await {
                Route::Refused(problem) => Some(problem),
                Route::Direct { .. } | Route::Owed { .. } => None,
            };
        }
        self.refused_by_kafka(topic, answer_by).await
    }

    /// Why Kafka takes nothing for a topic, as far as it says so in time.
    pub(super) async fn refused_by_kafka(&self, topic: &str, answer_by: Instant) -> Option<SendProblem> {
        match tokio::time::timeout_at(answer_by, self.producer.partitions(topic)).await {
            Ok(Err(error @ (TopicError::Missing(_) | TopicError::Invalid(_)))) => {
                Some(SendProblem::refused(error.to_string()))
            }
            _ => None,
        }
    }
}
