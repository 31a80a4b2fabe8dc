//! Learns what topics take, so that a sender is told before Kafka refuses a message.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::app::groups::RunningGroups;
use crate::config::Property;
use crate::kafka::limits::TopicLimits;
use crate::publish::rules::Rules;

/// How often the limits are asked for.
const INTERVAL: Duration = Duration::from_secs(10);

/// Learns how large a message may be for the topics that bindings read and
/// publish on, and which topics have companions.
pub async fn watch(limits: TopicLimits, rules: Rules, fleet: Arc<RunningGroups>) {
    loop {
        let bound = fleet.bound();
        let topics: BTreeSet<&String> =
            bound.iter().flat_map(|bound| bound.binding.topics.iter().chain(&bound.binding.grant.publish)).collect();
        let topics: Vec<String> = topics.into_iter().cloned().collect();
        match limits.of(&topics).await {
            Ok(limits) => rules.learn_limits(limits),
            // What is not known is found out when Kafka refuses a message.
            Err(error) => tracing::debug!(%error, "cannot ask how large messages may be"),
        }
        match limits.with_companions().await {
            Ok(bases) => rules.learn_companions(bases),
            Err(error) => tracing::debug!(%error, "cannot ask which topics have companions"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Whether records are packed before Kafka measures them, so that nobody knows
/// beforehand whether one is too large.
pub fn compresses(properties: &BTreeMap<String, Property>) -> bool {
    let named = ["compression.type", "compression.codec"].iter().filter_map(|name| properties.get(*name));
    named.into_iter().any(|codec| codec.expose() != "none")
}
