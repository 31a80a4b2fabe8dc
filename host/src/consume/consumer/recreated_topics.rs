//! Handles topics that were recreated: finds the owners concerned, and ends the
//! open deliveries of partitions that are gone.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use courier_core::message::Offset;

use super::confirmed::TopicIdentity;
use crate::consume::owner::message::OwnerHandle;
use crate::kafka::buffered::TopicPartition;
use crate::kafka::topic_watch::Answers;
use crate::store::{SharedStore, TopicOfGroup};

/// Wait before a store that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// The owners whose topic was recreated.
pub(in crate::consume) fn compare(
    owners: &mut HashMap<TopicPartition, OwnerHandle>,
    answers: &Answers,
) -> Vec<(TopicPartition, TopicIdentity)> {
    let Some(asked_at) = answers.asked_at else { return Vec::new() };
    let mut other = Vec::new();
    for (place, owner) in owners {
        let Some(now) = answers.of(&place.log_topic()) else { continue };
        let expected = Offset(owner.expected.load(Ordering::Relaxed));
        let found = owner.confirmed.compare(now, asked_at, place.partition, expected);
        if found != TopicIdentity::Same {
            other.push((place.clone(), found));
        }
    }
    other
}

/// Partitions that the recreated topic does not have.
pub(in crate::consume) struct EndedPartitions {
    pub store: SharedStore,
    pub group: String,
    /// The topic without its companion suffix.
    pub topic: String,
    /// The node whose broadcasts they hold; `None` for events.
    pub listener: Option<String>,
    /// Kafka's id of the recreated topic.
    pub topic_id: String,
    /// Its number of partitions.
    pub partitions: i32,
}

impl EndedPartitions {
    /// Ends their open deliveries, once the store answers.
    pub async fn end(self) {
        let topic = TopicOfGroup { group: &self.group, topic: &self.topic, topic_id: &self.topic_id };
        loop {
            match self.store.end_vanished(&topic, self.listener.as_deref(), self.partitions).await {
                Ok(ended) => {
                    if !ended.is_empty() {
                        tracing::warn!(
                            group = self.group, topic = self.topic, partitions = ?ended,
                            "the topic was created anew without these partitions; what lay open in them has failed"
                        );
                    }
                    return;
                }
                Err(error) => tracing::debug!(group = self.group, %error, "cannot end partitions that are gone yet"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}
