//! Creates topics of Courier's own, such as dead letters.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::app::groups::RunningGroups;
use crate::app::kafka_status::KafkaStatus;
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
    kafka: Arc<KafkaStatus>,
    causes: Causes,
) {
    let mut created: HashSet<String> = HashSet::new();
    loop {
        let topics = match wanted.wait_for(|topics| topics.create).await {
            Ok(topics) => topics.clone(),
            // The host is going.
            Err(_) => return,
        };
        let needed = fleet.own_topics().into_iter().chain(fleet.companions());
        for topic in to_create(needed, &mut created, &kafka.missing_topics()) {
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

/// The needed topics that were not created yet, or that are missing again: a person may
/// delete a topic, to empty it for example, and what is owed to it would wait until a
/// restart.
fn to_create(needed: impl Iterator<Item = String>, created: &mut HashSet<String>, missing: &[String]) -> Vec<String> {
    for topic in missing {
        created.remove(topic);
    }
    needed.filter(|topic| !created.contains(topic)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_somebody_deleted_is_created_again() {
        let needed = || ["dlq.order.stock", "order.broadcast"].map(str::to_owned).into_iter();
        let mut created = HashSet::new();
        assert_eq!(to_create(needed(), &mut created, &[]).len(), 2);
        created.extend(needed());
        assert_eq!(to_create(needed(), &mut created, &[]), [""; 0]);
        let missing = ["dlq.order.stock".to_owned(), "order".to_owned()];
        assert_eq!(to_create(needed(), &mut created, &missing), ["dlq.order.stock"], "and none that senders own");
    }
}
