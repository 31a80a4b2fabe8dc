//! Restarts the owners of a topic that was recreated.
//!
//! librdkafka continues at its old offset in the new topic. So the owner is
//! dropped with everything in flight, and the next claim begins a new
//! incarnation, under whose position no outcome of the old one can be written.

use courier_core::message::Kind;

use super::EventConsumer;
use crate::consume::consumer::confirmed::TopicIdentity;
use crate::consume::consumer::recreated_topics::{EndedPartitions, compare};
use crate::consume::owner::message::OwnerMessage;
use crate::kafka::buffered::TopicPartition;
use crate::kafka::topic_watch::{Answers, TopicNow};

impl EventConsumer {
    /// Takes Kafka's present answer about the topics.
    pub(super) fn compare_topics(&mut self, answers: &Answers) {
        for (place, found) in compare(&mut self.owners, answers) {
            let Some(owner) = self.take_owner(&place) else { continue };
            let _ = owner.mail.send(OwnerMessage::Lost);
            metrics::counter!("courier_topics_created_anew_total", "group" => self.name.clone()).increment(1);
            match found {
                TopicIdentity::Anew { unconfirmed } => {
                    tracing::warn!(group = self.name, %place, %unconfirmed, "the topic was created anew; claiming again");
                    self.claim(place);
                }
                TopicIdentity::Gone => {
                    tracing::warn!(group = self.name, %place, "the topic was created anew without a partition")
                }
                TopicIdentity::Same => {}
            }
        }
        // A partition that does not exist cannot be claimed.
        let gone: Vec<TopicPartition> = self.claiming.keys().filter(|place| is_gone(place, answers)).cloned().collect();
        for place in gone {
            if let Some((_, claiming)) = self.claiming.remove(&place) {
                claiming.abort();
            }
        }
        for bound in &self.bindings {
            for topic in &bound.binding.topics {
                let Some(TopicNow::Present { id, partitions }) = answers.of(topic) else { continue };
                if self.topic_ids.get(topic.as_str()).is_some_and(|known| known == id) {
                    continue;
                }
                // At the first answer too: the topic may have been recreated
                // while no host ran.
                self.topic_ids.insert(topic.as_str().into(), id.clone());
                let vanished = EndedPartitions {
                    store: std::sync::Arc::clone(&self.node.tools.store),
                    group: self.name.clone(),
                    topic: topic.clone(),
                    listener: None,
                    topic_id: id.clone(),
                    partitions: *partitions,
                };
                self.chores.spawn(vanished.end());
            }
        }
    }

    /// Whether the topic had no such partition at Kafka's last answer.
    pub(super) fn is_gone(&self, place: &TopicPartition) -> bool {
        is_gone(place, &self.watched.last())
    }
}

fn is_gone(place: &TopicPartition, answers: &Answers) -> bool {
    debug_assert!(place.kind == Kind::Event, "broadcasts are not followed");
    matches!(answers.of(&place.topic), Some(TopicNow::Present { partitions, .. }) if place.partition >= *partitions)
}
