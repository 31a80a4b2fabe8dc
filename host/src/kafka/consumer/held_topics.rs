//! The topics that are not read for now, because they hold their part of the budget.
//!
//! Without this the records of a binding that stands still would use up the budget of
//! its group, and the thread would hardly poll for the bindings that go on.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::kafka::buffered::TopicUse;

/// The topics that are held back.
#[derive(Debug, Default)]
pub struct HeldTopics(BTreeSet<String>);

/// What changes for a topic.
#[derive(Debug, PartialEq, Eq)]
pub enum HoldChange {
    Hold(String),
    Release(String),
}

impl HeldTopics {
    /// Compares with what the topics hold now. Of a single topic nothing is held back:
    /// not polling does the same, and throws away nothing that is prefetched.
    pub fn compare(&mut self, is_used_up: bool, uses: &HashMap<String, Arc<TopicUse>>) -> Vec<HoldChange> {
        let topics = uses.len();
        if topics < 2 || !is_used_up && self.0.is_empty() {
            return Vec::new();
        }
        let change = |(topic, its_use): (&String, &Arc<TopicUse>)| match self.0.contains(topic) {
            false if is_used_up && its_use.is_part_used_up(topics) => Some(HoldChange::Hold(topic.clone())),
            true if its_use.is_half_free(topics) => Some(HoldChange::Release(topic.clone())),
            _ => None,
        };
        let changes: Vec<HoldChange> = uses.iter().filter_map(change).collect();
        for change in &changes {
            match change {
                HoldChange::Hold(topic) => self.0.insert(topic.clone()),
                HoldChange::Release(topic) => self.0.remove(topic),
            };
        }
        changes
    }

    /// Whether a topic is held back.
    pub fn contains(&self, topic: &str) -> bool {
        self.0.contains(topic)
    }

    /// Whether no topic is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use courier_core::message::{Kind, Offset, Timestamp};

    use super::*;
    use crate::kafka::buffered::{Budget, BufferedRecord, MAX_BUFFERED_RECORDS, TopicPartition};
    use crate::kafka::record::Record;

    struct Bench {
        budget: Arc<Budget>,
        uses: HashMap<String, Arc<TopicUse>>,
        held: HeldTopics,
    }

    impl Bench {
        fn new(topics: &[&str]) -> Self {
            let uses = topics.iter().map(|topic| ((*topic).to_owned(), Arc::default())).collect();
            Self { budget: Arc::new(Budget::new(usize::MAX)), uses, held: HeldTopics::default() }
        }

        fn receive(&self, topic: &str, records: usize) -> Vec<BufferedRecord> {
            let place = TopicPartition { topic: topic.into(), partition: 0, kind: Kind::Event };
            let record =
                || Record { timestamp: Timestamp(0), key: None, value: None, headers: Vec::new(), left_out: None };
            let shares = (&self.budget, &self.uses[topic]);
            let one = |_| BufferedRecord::fetched(place.clone(), Offset(0), record(), Timestamp(0), shares);
            (0..records).map(one).collect()
        }

        fn compare(&mut self) -> Vec<HoldChange> {
            self.held.compare(self.budget.is_used_up(), &self.uses)
        }
    }

    /// The records of a binding that stood still kept a healthy one at 20 records a
    /// second.
    #[test]
    fn a_topic_that_uses_up_the_budget_does_not_hold_back_the_others() {
        let mut bench = Bench::new(&["refund", "order"]);
        let _few = bench.receive("order", 10);
        let mut many = bench.receive("refund", MAX_BUFFERED_RECORDS - 10);
        assert_eq!(bench.compare(), [HoldChange::Hold("refund".into())]);
        assert!(bench.held.contains("refund") && !bench.held.contains("order"));
        assert_eq!(bench.compare(), []);
        many.truncate(MAX_BUFFERED_RECORDS / 4);
        assert_eq!(bench.compare(), [], "it has its part again once half of it is free");
        many.pop();
        assert_eq!(bench.compare(), [HoldChange::Release("refund".into())]);
        assert!(bench.held.is_empty());
    }

    #[test]
    fn each_topic_is_held_back_at_its_part_while_the_budget_is_used_up() {
        let mut bench = Bench::new(&["refund", "order"]);
        let _refund = bench.receive("refund", MAX_BUFFERED_RECORDS * 3 / 4);
        assert_eq!(bench.compare(), [], "there is room");
        let order = bench.receive("order", MAX_BUFFERED_RECORDS / 4);
        assert_eq!(bench.compare(), [HoldChange::Hold("refund".into())]);
        let more = bench.receive("order", MAX_BUFFERED_RECORDS / 4);
        assert_eq!(bench.compare(), [HoldChange::Hold("order".into())]);
        drop((order, more));
        assert_eq!(bench.compare(), [HoldChange::Release("order".into())]);
    }

    #[test]
    fn a_single_topic_is_not_held_back() {
        let mut bench = Bench::new(&["order"]);
        let _many = bench.receive("order", MAX_BUFFERED_RECORDS);
        assert_eq!(bench.compare(), []);
    }
}
