//! Reports a broker that gives no topic ids.

use std::time::Duration;

use crate::causes::{Cause, Causes, Subject};
use crate::kafka::topic_watch::TopicWatch;

/// How often the last answer is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Reports while ids are missing.
pub async fn watch(topics: TopicWatch, causes: Causes) {
    let subject = Subject::Host("topic ids".to_owned());
    loop {
        tokio::time::sleep(LOOK).await;
        if topics.has_no_ids() {
            let why = "kafka tells no ids of topics (it is older than 2.8): a topic that is created anew is noticed only \
                       if its log is shorter than the position of a group";
            causes.report(subject.clone(), Cause::new("no_topic_ids", why));
        } else {
            causes.clear(&subject);
        }
    }
}
