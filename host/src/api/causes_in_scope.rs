//! The causes that a caller may see, with what they tell of the topics in its scope.

use courier_core::message::base_of_companion;

use super::App;
use super::auth::Caller;
use crate::causes::{Standing, Subject};

/// The fields of causes that name a topic, or several.
const TOPIC: &str = "topic";
const TOPICS: &str = "topics";
/// What stands between the names in [`TOPICS`].
const SEPARATOR: &str = ", ";

/// The causes that the caller may see.
pub(super) fn shown(app: &App, caller: &Caller) -> Vec<Standing> {
    let seen = app.causes.shown().into_iter().filter(|standing| sees(caller, &standing.subject));
    seen.map(|standing| without_foreign_topics(standing, caller)).collect()
}

/// Whether the caller may see a subject.
fn sees(caller: &Caller, subject: &Subject) -> bool {
    match (subject.group(), subject.topic()) {
        (None, None) => caller.sees_all(),
        (group, topic) => {
            group.is_none_or(|group| caller.sees_group(group)) && topic.is_none_or(|topic| sees_log(caller, topic))
        }
    }
}

/// Whether the caller may see a topic of Kafka: who sees a topic sees its companion.
pub(super) fn sees_log(caller: &Caller, topic: &str) -> bool {
    caller.sees_topic(topic) || base_of_companion(topic).is_some_and(|base| caller.sees_topic(base))
}

/// A group or binding that a caller sees may read topics that it does not see.
fn without_foreign_topics(mut standing: Standing, caller: &Caller) -> Standing {
    if standing.fields.get(TOPIC).is_some_and(|topic| !sees_log(caller, topic)) {
        standing.fields.remove(TOPIC);
    }
    if let Some(topics) = standing.fields.get_mut(TOPICS) {
        let seen: Vec<&str> = topics.split(SEPARATOR).filter(|topic| sees_log(caller, topic)).collect();
        *topics = seen.join(SEPARATOR);
    }
    standing
}
