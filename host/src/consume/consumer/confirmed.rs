//! Up to where what an owner received is known to be of its topic.
//!
//! Kafka tells the id of a topic now and then, and librdkafka tells none with a
//! record. What came before a question that was answered with the owner's id is
//! of its topic; what came later may be of a topic that was created anew under
//! the same name, and is listed when it turns out that there is one.

use std::sync::Arc;
use std::time::Instant;

use courier_core::message::Offset;

use crate::kafka::topic_watch::TopicNow;

/// What an owner's topic turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicIdentity {
    /// The topic that it was claimed in, or nobody can say.
    Same,
    /// Another one. What was received from this offset on may be of either.
    Anew {
        /// The first such offset.
        unconfirmed: Offset,
    },
    /// Another one, which does not have the partition.
    Gone,
}

/// What is confirmed of one owner.
#[derive(Debug)]
pub struct Confirmed {
    topic_id: Arc<str>,
    /// Everything below is of the topic.
    below: Offset,
    /// What was expected next when Kafka last answered, and when that was.
    latest: (Offset, Instant),
}

impl Confirmed {
    /// A partition that was claimed in a topic of this id, from `next` on.
    #[must_use]
    pub fn new(topic_id: Arc<str>, next: Offset) -> Self {
        Self { topic_id, below: next, latest: (next, Instant::now()) }
    }

    /// Everything that was received below is of the topic.
    #[must_use]
    pub fn below(&self) -> Offset {
        self.below
    }

    /// Takes an answer to a question of `asked_at`, while `expected` is what the
    /// owner receives next.
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
        // A question that was asked before the last answer says no more.
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
