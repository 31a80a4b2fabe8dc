//! Creates topics of Courier's own, such as dead letters.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::app::groups::RunningGroups;
use crate::causes::{Cause, Causes, Subject};
use crate::config::OwnTopics;
use crate::kafka::producer::Producer;

/// How often missing ones are created.
const INTERVAL: Duration = Duration::from_secs(2);
/// The code of the cause that a topic of Courier's own cannot be created.
const NOT_CREATED: &str = "not_created";

/// Creates those that bindings need, while the configuration in force says so.
pub async fn create(
    mut wanted: watch::Receiver<OwnTopics>,
    producer: Producer,
    fleet: Arc<RunningGroups>,
    causes: Causes,
) {
    let mut created: HashSet<String> = HashSet::new();
    loop {
        let topics = match wanted.wait_for(|topics| topics.create).await {
            Ok(topics) => topics.clone(),
            // The host is going.
            Err(_) => return,
        };
        for topic in fleet.own_topics().into_iter().chain(fleet.companions()) {
            if created.contains(&topic) {
                continue;
            }
            match producer.create_topic(&topic, topics.partitions, topics.replication, &[]).await {
                Ok(_) => {
                    causes.clear_code(&Subject::Topic(topic.clone()), NOT_CREATED);
                    created.insert(topic);
                }
                Err(error) => {
                    let why = format!("topic {topic} cannot be created: {error}");
                    causes.report(Subject::Topic(topic), Cause::new(NOT_CREATED, why));
                }
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
