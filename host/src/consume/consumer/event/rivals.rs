//! Detects rivals of this consumer: another installation with the same node
//! name, or a client with another assignment strategy in its group.
//!
//! Two installations with one node name on one cluster fence each other for
//! ever, and each runs what the other runs. The one that is fenced repeatedly
//! stands back until the name is free.

use std::time::{Duration, Instant};

use super::EventConsumer;
use crate::causes::Cause;
use crate::kafka::consumer::ConsumerEvent;
use crate::said;

/// How often the members of the group are looked at.
const LOOK: Duration = Duration::from_secs(5);

impl EventConsumer {
    /// Handles a consumer that failed for good. Returns whether to stand back
    /// before another is started.
    pub(super) fn consumer_ended(&mut self, why: &ConsumerEvent) -> bool {
        self.lose_all();
        match why {
            ConsumerEvent::Fenced => {
                // Seldom, since a consumer that is fenced repeatedly stands back.
                tracing::error!(group = self.name, node = %self.node.tools.node, "the consumer was fenced: another one joined under this node's name");
                self.fenced.again(Instant::now())
            }
            why => {
                if let Some(unsaid) = said::again(&format!("{} consumer beyond use {why:?}", self.name)) {
                    tracing::error!(group = self.name, ?why, unsaid, "the consumer is beyond use; starting another");
                }
                false
            }
        }
    }

    /// Waits until no other member of the group has this node's name.
    pub(super) async fn until_alone(&mut self) {
        let name = self.node.consumer.get("group.instance.id").unwrap_or_default().to_owned();
        let why = format!(
            "another installation is in the group under the node name {name}: give each host on this Kafka cluster a \
             [server] node of its own"
        );
        let cause = Cause::new("node_name_taken", why).with("node", &name).at_once();
        loop {
            self.stands_still(cause.clone());
            tokio::time::sleep(LOOK).await;
            match self.node.tools.log.group(&self.name).await {
                Ok(group) if group.has_instance(&name) => {}
                Ok(_) => break,
                Err(error) => tracing::debug!(group = self.name, %error, "cannot look who is in the group"),
            }
        }
        tracing::info!(group = self.name, node = name, "the node's place in the group is free; joining again");
        self.goes_on();
    }

    /// Reports the members with another assignment strategy, because of which
    /// this consumer cannot join.
    pub(super) async fn held_by_others(&mut self) {
        if self.foreign.is_some_and(|looked| looked.elapsed() < LOOK) {
            return;
        }
        self.foreign = Some(Instant::now());
        let held = match self.node.tools.log.group(&self.name).await {
            Ok(group) if group.protocol.is_empty() => "another assignor".to_owned(),
            Ok(group) => format!("the assignor {}", group.protocol),
            Err(_) => "another assignor".to_owned(),
        };
        let why = format!(
            "a client that is not Courier holds the group with {held}, and Courier divides partitions by \
             cooperative-sticky: stop that client, or name the binding's group otherwise"
        );
        self.stands_still(Cause::new("foreign_assignor", why).with("held_by", held));
    }

    /// Clears that report, because Kafka has assigned partitions.
    pub(super) fn joined(&mut self) {
        if self.foreign.take().is_some() {
            self.goes_on();
        }
    }
}
