//! Tracks up to which offset the records of an owner are known to be of its topic.
//!
//! librdkafka gives no topic id with a record, and Kafka is asked for it only
//! now and then. Records from before a question that was answered with the
//! owner's id are of its topic. Later ones may be of a topic that was recreated
//! under the same name, and are listed when it turns out that there is one.

use std::sync::Arc;
use std::time::Instant;

use courier_core::message::Offset;

use crate::kafka::topic_watch::TopicNow;

/// The topic of an owner, compared with Kafka's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicIdentity {
    /// The topic of the claim, or unknown.
    Same,
    /// Another topic. Records from this offset on may be of either.
    Anew {
        /// The first such offset.
        unconfirmed: Offset,
    },
    /// Another topic, which does not have the partition.
    Gone,
}

/// The confirmation of one owner.
#[derive(Debug)]
pub struct Confirmed {
    topic_id: Arc<str>,
    /// Records below are of the topic.
    below: Offset,
    /// The next offset when Kafka last answered, and when that was.
    latest: (Offset, Instant),
}

impl Confirmed {
    /// A partition claimed in the topic of this id, from `next` on.
    #[must_use]
    pub fn new(topic_id: Arc<str>, next: Offset) -> Self {
        Self { topic_id, below: next, latest: (next, Instant::now()) }
    }

    /// The offset below which records are of the topic.
    #[must_use]
    pub fn below(&self) -> Offset {
        self.below
    }

    /// Takes an answer to a question of `asked_at`; `expected` is the next
    /// offset of the owner.
    pub fn compare(&mut self, now: &TopicNow, asked_at: Instant, partition: i32, expected: Offset) -> TopicIdentity {
        let TopicNow::Present { id, partitions } = now else { return TopicIdentity::Same };
        if **id != *self.topic_id {
            let is_gone = partition >= *partitions;
            return if is_gone { TopicIdentity::Gone } else { TopicIdentity::Anew { unconfirmed: self.below } };
        }
        if self.latest.1 <= asked_at {
            self.below = self.latest.0;
            self.latest = (expected, Instant::now());
        }
        TopicIdentity::Same
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn present(id: &str, partitions: i32) -> TopicNow {
        TopicNow::Present { id: id.to_owned(), partitions }
    }

    #[test]
    fn what_came_before_a_question_is_confirmed_by_its_answer() {
        let mut confirmed = Confirmed::new("a".into(), Offset(5));
        let unconfirmed =
            |confirmed: &mut Confirmed| match confirmed.compare(&present("b", 3), Instant::now(), 0, Offset(99)) {
                TopicIdentity::Anew { unconfirmed } => unconfirmed.0,
                other => panic!("{other:?}"),
            };
        assert_eq!(unconfirmed(&mut confirmed), 5);
        assert_eq!(confirmed.compare(&present("a", 3), Instant::now(), 0, Offset(20)), TopicIdentity::Same);
        assert_eq!(unconfirmed(&mut confirmed), 5, "5 to 20 may have come after the question");
        // A question from before the last answer adds nothing.
        let earlier = Instant::now() - Duration::from_secs(1);
        assert_eq!(confirmed.compare(&present("a", 3), earlier, 0, Offset(25)), TopicIdentity::Same);
        assert_eq!(unconfirmed(&mut confirmed), 5);
        assert_eq!(confirmed.compare(&present("a", 3), Instant::now(), 0, Offset(30)), TopicIdentity::Same);
        assert_eq!(unconfirmed(&mut confirmed), 20);
    }

    #[test]
    fn a_topic_that_is_missing_or_untold_changes_nothing_and_fewer_partitions_are_a_loss() {
        let mut confirmed = Confirmed::new("a".into(), Offset(5));
        for now in [TopicNow::Missing, TopicNow::Untold("denied".to_owned())] {
            assert_eq!(confirmed.compare(&now, Instant::now(), 2, Offset(9)), TopicIdentity::Same);
        }
        assert_eq!(confirmed.compare(&present("b", 2), Instant::now(), 2, Offset(9)), TopicIdentity::Gone);
        assert_eq!(confirmed.compare(&present("a", 3), Instant::now(), 2, Offset(9)), TopicIdentity::Same);
    }
}
