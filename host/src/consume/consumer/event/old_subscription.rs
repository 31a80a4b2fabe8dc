//! Detects an assignment that belongs to an earlier subscription, and joins anew.
//!
//! Kafka gives a member that joins under a known instance id the partitions of the one
//! before it, without a rebalance and whatever it subscribes to. That one may have
//! been a host that was killed before its bindings changed, or a consumer whose leave
//! did not arrive. Topics that were bound since would have no reader.

use std::time::{Duration, Instant};

use super::EventConsumer;
use crate::consume::consumer::assignment::AssignmentLook;
use crate::kafka::buffered::TopicPartition;
use crate::kafka::consumer::{ConsumerCommand, ConsumerThread};

/// How long after the first assignment the topics without partitions are looked at.
const FIRST_LOOK: Duration = Duration::from_secs(5);

impl EventConsumer {
    /// Joins anew if partitions of other topics than the bound ones are assigned.
    pub(super) fn is_of_old_subscription(&self, partitions: &[TopicPartition], source: &ConsumerThread) -> bool {
        let Some(unbound) = partitions.iter().find(|place| self.bound(&place.topic).is_none()) else { return false };
        tracing::warn!(
            group = self.name,
            topic = %unbound.topic,
            "partitions of a topic that is not bound were assigned; joining the group anew"
        );
        // The assignment wants its answer before the group can be left.
        source.order(ConsumerCommand::Assign(Vec::new()));
        source.order(ConsumerCommand::Rejoin);
        true
    }

    /// Joins anew if the only member of the group was given nothing of a bound topic
    /// that exists. Looks once after each start of a consumer.
    pub(super) async fn look_for_topics_without_reader(&mut self, source: &ConsumerThread) {
        let AssignmentLook::At(time) = self.assignment_look else { return };
        if Instant::now() < time {
            return;
        }
        self.assignment_look = AssignmentLook::Done;
        let is_read = |topic: &str| self.given.places().any(|place| &*place.topic == topic);
        let Some(topic) = self.topics().into_iter().find(|topic| self.topic_ids.contains_key(topic) && !is_read(topic))
        else {
            return;
        };
        match self.node.tools.log.group(&self.name).await {
            Ok(group) if group.members.len() == 1 => {
                tracing::warn!(group = self.name, %topic, "no partition of a bound topic was assigned; joining the group anew");
                source.order(ConsumerCommand::Rejoin);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(group = self.name, %error, "cannot look who is in the group"),
        }
    }

    /// Notes an assignment, whose topics are looked at once.
    pub(super) fn note_assignment(&mut self) {
        if self.assignment_look == AssignmentLook::Unassigned {
            self.assignment_look = AssignmentLook::At(Instant::now() + FIRST_LOOK);
        }
    }
}
