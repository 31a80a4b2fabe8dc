//! Keeps in the store where the logs of topics end, while they are there.
//!
//! Once a topic is deleted Kafka does not tell how much it held, so that a group
//! which was behind could not list all that it lost. An end is kept only once
//! Kafka told the same id of the topic before and after it was asked for: it
//! would be that of another topic otherwise.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use courier_core::message::Offset;

use crate::kafka::topic_watch::{Answers, TopicNow};
use crate::store::{SeenLogEnd, SharedStore};

/// The ends of one host.
#[derive(Debug, Default)]
pub(super) struct SeenLogEnds {
    /// Seen in the last round of questions, by topic and partition.
    seen: Vec<SeenLogEnd>,
    /// When that round was over.
    seen_until: Option<Instant>,
    /// In the store already.
    kept: HashMap<(String, i32), (String, Offset)>,
}

impl SeenLogEnds {
    /// Keeps the ends of the round before that Kafka's answer confirms, and
    /// remembers those of `seen`, a round that is over now.
    pub(super) async fn take(&mut self, seen: Vec<SeenLogEnd>, answers: &Answers, store: &SharedStore) {
        let confirmed = self.confirmed(answers);
        if !confirmed.is_empty() {
            match store.keep_log_ends(&confirmed).await {
                Ok(()) => self.kept(confirmed),
                Err(error) => tracing::debug!(%error, "cannot keep where logs end yet"),
            }
        }
        // What is no longer asked about is forgotten, so that topics which come
        // and go leave nothing behind.
        let asked: HashSet<(&str, i32)> = seen.iter().map(|one| (one.log_topic.as_str(), one.partition)).collect();
        self.kept.retain(|(topic, partition), _| asked.contains(&(topic.as_str(), *partition)));
        (self.seen, self.seen_until) = (seen, Some(Instant::now()));
    }

    /// What is of the topic that has the name still, and not in the store.
    fn confirmed(&self, answers: &Answers) -> Vec<SeenLogEnd> {
        if self.seen_until.is_none_or(|until| answers.asked_at.is_none_or(|asked| asked < until)) {
            return Vec::new();
        }
        let is_same = |one: &&SeenLogEnd| {
            !one.topic_id.is_empty()
                && matches!(answers.of(&one.log_topic), Some(TopicNow::Present { id, .. }) if *id == one.topic_id)
        };
        let is_new = |one: &&SeenLogEnd| {
            let kept = self.kept.get(&(one.log_topic.clone(), one.partition));
            kept.is_none_or(|(id, end)| *id != one.topic_id || *end < one.end)
        };
        self.seen.iter().filter(is_same).filter(is_new).cloned().collect()
    }

    fn kept(&mut self, ends: Vec<SeenLogEnd>) {
        for SeenLogEnd { log_topic, partition, topic_id, end } in ends {
            self.kept.insert((log_topic, partition), (topic_id, end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(topic_id: &str, end: i64) -> SeenLogEnd {
        SeenLogEnd { log_topic: "order".into(), partition: 0, topic_id: topic_id.into(), end: Offset(end) }
    }

    fn told(id: &str, asked_at: Instant) -> Answers {
        let now = TopicNow::Present { id: id.to_owned(), partitions: 1 };
        Answers::told(HashMap::from([("order".to_owned(), now)]), asked_at)
    }

    #[test]
    fn an_end_counts_once_a_later_answer_tells_the_same_id() {
        let begun = Instant::now();
        let mut ends = SeenLogEnds { seen: vec![seen("a", 9)], seen_until: Some(Instant::now()), ..Default::default() };
        assert!(ends.confirmed(&Answers::default()).is_empty(), "Kafka told no ids");
        let before = begun.checked_sub(std::time::Duration::from_secs(1)).unwrap();
        assert!(ends.confirmed(&told("a", before)).is_empty(), "the topic may have changed since");
        assert!(ends.confirmed(&told("b", Instant::now())).is_empty(), "it did");
        let confirmed = ends.confirmed(&told("a", Instant::now()));
        assert_eq!(confirmed, [seen("a", 9)]);
        ends.kept(confirmed);
        assert!(ends.confirmed(&told("a", Instant::now())).is_empty(), "the store has it");
        ends.seen = vec![seen("a", 10)];
        assert_eq!(ends.confirmed(&told("a", Instant::now())).len(), 1);
        ends.seen = vec![seen("b", 2)];
        assert_eq!(ends.confirmed(&told("b", Instant::now())).len(), 1, "another topic begins anew");
        ends.seen = vec![seen("", 12)];
        assert!(ends.confirmed(&told("", Instant::now())).is_empty(), "a broker without ids");
    }
}
