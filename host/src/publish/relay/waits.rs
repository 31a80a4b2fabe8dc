//! Tracks the topics and partitions that take no records now.
//!
//! A topic that is missing or unknown, and a partition that does not answer,
//! must not delay others: each is tried again after a growing pause, a
//! partition with one row at a time, and no other row of it is taken until it
//! answered. A row that was never tried has no partition yet: it is taken once,
//! and is left alone when its partition turns out to be one of these.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::causes::{Cause, Causes, Subject};
use crate::store::{LeftOut, StoreError};

/// The code of the cause that the store refuses rows to the relay.
const NO_ROWS: &str = "relay_without_rows";
/// The code of the cause that rows of unknown fate cannot be looked for.
const NOT_SEARCHED: &str = "partition_not_searched";

/// First and longest pause before a topic or partition is tried again. The
/// longest is short, since rows should be sent soon after the cause has passed.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// A partition of a topic.
pub(super) type RelayPartition = (String, i32);

/// The waiting topics and partitions.
pub(super) struct Waits {
    causes: Causes,
    topics: HashMap<String, PartitionWait>,
    partitions: HashMap<RelayPartition, PartitionWait>,
    /// Partitions that are being tried with one row.
    probing: HashSet<RelayPartition>,
    /// Partitions in which a row of unknown fate cannot be looked for.
    not_searched: HashSet<RelayPartition>,
    /// Topics with a cause on the board.
    reported: HashSet<String>,
}

struct PartitionWait {
    until: Instant,
    times: u32,
    reason: String,
    /// Whether an answer is under way that may be another.
    looked_for: bool,
}

impl PartitionWait {
    fn again(now: Instant, wait: Option<&Self>, reason: &str) -> Self {
        let times = wait.map_or(0, |wait| wait.times + 1);
        let pause = PAUSE_FIRST.saturating_mul(1 << times.min(8)).min(PAUSE_LONGEST);
        Self { until: now + pause, times, reason: reason.to_owned(), looked_for: false }
    }
}

impl Waits {
    pub(super) fn new(causes: Causes) -> Self {
        Self {
            causes,
            topics: HashMap::new(),
            partitions: HashMap::new(),
            probing: HashSet::new(),
            not_searched: HashSet::new(),
            reported: HashSet::new(),
        }
    }

    /// Notes the store's answer to a query for rows.
    pub(super) fn asked_the_store(&self, error: Option<&StoreError>) {
        let relay = Subject::Host("relay".to_owned());
        match error {
            None => self.causes.clear_code(&relay, NO_ROWS),
            // Also a store that only takes too long: it may do so at each question.
            Some(error) => {
                tracing::debug!(%error, "the relay waits for the store");
                let why = format!("the store gives no rows to send, so that nothing leaves the host: {error}");
                self.causes.report(relay, Cause::new(NO_ROWS, why));
            }
        }
    }

    /// What is left out of the rows that are taken now.
    pub(super) fn left_out(&self, now: Instant) -> LeftOut {
        let topics = self.topics.iter().filter(|(_, wait)| now < wait.until).map(|(topic, _)| topic.clone());
        let is_tried = |(partition, wait): &(&RelayPartition, &PartitionWait)| {
            now >= wait.until && !self.probing.contains(*partition)
        };
        let tried = self.partitions.iter().filter(is_tried).map(|(partition, _)| partition.clone());
        LeftOut {
            topics: topics.collect(),
            partitions: self.partitions.keys().cloned().collect(),
            tried: tried.collect(),
            under_way: Vec::new(),
        }
    }

    /// Why nothing is sent to a topic now; `None` when it may be tried.
    pub(super) fn topic(&self, now: Instant, topic: &str) -> Option<String> {
        let wait = self.topics.get(topic)?;
        (now < wait.until).then(|| wait.reason.clone())
    }

    /// Notes that nothing can be sent to a topic.
    pub(super) fn topic_waits(&mut self, now: Instant, topic: &str, code: &'static str, reason: &str) {
        let wait = PartitionWait::again(now, self.topics.get(topic), reason);
        self.topics.insert(topic.to_owned(), wait);
        let cause = Cause::new(code, format!("messages for topic {topic} wait: {reason}")).with("topic", topic);
        self.reported.insert(topic.to_owned());
        // Its partitions are silent for this.
        self.causes.report_instead(Subject::Relay(topic.to_owned()), cause);
    }

    /// Notes that nobody could say in time whether a topic is there, and answers
    /// why its rows wait: what was said of it before stands until the answer
    /// comes.
    pub(super) fn topic_is_looked_for(&mut self, now: Instant, topic: &str) -> String {
        let until = now + PAUSE_FIRST;
        let reason = format!("topic {topic} is being looked for");
        let wait =
            self.topics.entry(topic.to_owned()).or_insert(PartitionWait { until, times: 0, reason, looked_for: true });
        (wait.until, wait.looked_for) = (until, true);
        wait.reason.clone()
    }

    /// Whether an answer about a topic that takes nothing stands, so that the
    /// same answer from another shard's question is no further refusal.
    pub(super) fn is_told(&self, now: Instant, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|wait| now < wait.until && !wait.looked_for)
    }

    /// Notes that a topic is there.
    pub(super) fn topic_is_there(&mut self, topic: &str) {
        if self.topics.remove(topic).is_some() {
            self.resume(topic);
        }
    }

    /// Whether a row may be sent to a partition: one row at a time while the
    /// partition does not answer. With more, a later row of a key could be
    /// taken after an earlier one failed.
    pub(super) fn admits(&mut self, now: Instant, partition: &RelayPartition) -> bool {
        match self.partitions.get(partition) {
            None => true,
            Some(wait) if now < wait.until => false,
            Some(_) => self.probing.insert(partition.clone()),
        }
    }

    /// Notes that a row of a partition failed.
    pub(super) fn partition_waits(&mut self, now: Instant, partition: RelayPartition, reason: &str) {
        self.probing.remove(&partition);
        let before = self.partitions.get(&partition);
        if before.is_some_and(|wait| now < wait.until) {
            return;
        }
        let wait = PartitionWait::again(now, before, reason);
        let (topic, number) = &partition;
        let why = format!("partition {number} of topic {topic} takes no messages: {reason}");
        self.report(topic, Cause::new("partition_silent", why).with("topic", topic).with("partition", number));
        self.partitions.insert(partition, wait);
    }

    /// Notes that a partition answered.
    pub(super) fn partition_answered(&mut self, partition: &RelayPartition) {
        self.probing.remove(partition);
        if self.partitions.remove(partition).is_some() && !self.partitions.keys().any(|(of, _)| *of == partition.0) {
            self.resume(&partition.0);
        }
    }

    /// Forgets a partition from which rows are chosen away, and which may be gone: each
    /// of its rows would be taken alone, to ask it.
    pub(super) fn forget_partition(&mut self, partition: &RelayPartition) {
        self.partition_answered(partition);
    }

    /// Notes that a row of unknown fate could not be looked for. It may stand still
    /// for that while its partition answers.
    pub(super) fn search_failed(&mut self, partition: RelayPartition, reason: &str) {
        let (topic, number) = &partition;
        let why = format!(
            "it is not known whether messages lie in partition {number} of topic {topic}, and they are sent again only \
             once that is: {reason}"
        );
        let cause = Cause::new(NOT_SEARCHED, why).with("topic", topic).with("partition", number);
        self.causes.report(Subject::Relay(topic.clone()), cause);
        self.not_searched.insert(partition);
    }

    /// Notes that a partition was searched.
    pub(super) fn searched(&mut self, partition: &RelayPartition) {
        if self.not_searched.remove(partition) && !self.not_searched.iter().any(|(of, _)| *of == partition.0) {
            self.causes.clear_code(&Subject::Relay(partition.0.clone()), NOT_SEARCHED);
        }
    }

    /// Forgets the failures from while the cluster was away.
    pub(super) fn forget_partitions(&mut self) {
        self.partitions.clear();
        self.probing.clear();
    }

    fn report(&mut self, topic: &str, cause: Cause) {
        self.reported.insert(topic.to_owned());
        self.causes.report(Subject::Relay(topic.to_owned()), cause);
    }

    fn resume(&mut self, topic: &str) {
        if self.reported.remove(topic) {
            self.causes.clear(&Subject::Relay(topic.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_does_not_answer_is_asked_with_one_row_after_growing_pauses() {
        let mut waits = Waits::new(Causes::default());
        let partition = ("order".to_owned(), 3);
        let mut now = Instant::now();
        assert!(waits.admits(now, &partition) && waits.admits(now, &partition));
        let mut pauses = Vec::new();
        for _ in 0..7 {
            waits.partition_waits(now, partition.clone(), "timed out");
            let begun = now;
            while !waits.admits(now, &partition) {
                now += Duration::from_millis(50);
            }
            assert!(!waits.admits(now, &partition), "a second row while one is asking");
            pauses.push((now - begun).as_millis());
        }
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
        waits.partition_answered(&partition);
        assert!(waits.admits(now, &partition) && waits.admits(now, &partition));
    }

    #[test]
    fn a_silent_partition_is_left_out_until_it_answered_but_for_the_row_that_asks_it() {
        let mut waits = Waits::new(Causes::default());
        let (now, partition) = (Instant::now(), ("order".to_owned(), 3));
        waits.partition_waits(now, partition.clone(), "timed out");
        let of = |waits: &Waits, now| {
            let left_out = waits.left_out(now);
            (left_out.partitions, left_out.tried)
        };
        assert_eq!(of(&waits, now), (vec![partition.clone()], vec![]));
        let later = now + PAUSE_FIRST;
        assert_eq!(of(&waits, later), (vec![partition.clone()], vec![partition.clone()]));
        assert!(waits.admits(later, &partition));
        assert_eq!(of(&waits, later), (vec![partition.clone()], vec![]), "one row asks already");
        waits.partition_answered(&partition);
        assert_eq!(of(&waits, later), (vec![], vec![]));
        waits.partition_waits(now, partition.clone(), "timed out");
        waits.forget_partition(&partition);
        assert_eq!(of(&waits, later), (vec![], vec![]), "its rows are chosen away");
    }

    #[test]
    fn a_store_that_gives_no_rows_is_a_cause_whatever_it_says() {
        let causes = Causes::default();
        let waits = Waits::new(causes.clone());
        waits.asked_the_store(Some(&StoreError::Unavailable("it takes too long".to_owned())));
        assert!(causes.reported(&Subject::Host("relay".to_owned())).is_some_and(|(code, _)| code == NO_ROWS));
        waits.asked_the_store(None);
        assert!(causes.reported(&Subject::Host("relay".to_owned())).is_none_or(|(code, _)| code != NO_ROWS));
    }

    /// Such a row stood still for ever, and nothing said so.
    #[test]
    fn a_row_that_cannot_be_looked_for_is_a_cause_until_each_partition_was_searched() {
        let causes = Causes::default();
        let mut waits = Waits::new(causes.clone());
        let of = |number| ("order".to_owned(), number);
        let is_told =
            || causes.reported(&Subject::Relay("order".to_owned())).is_some_and(|(code, _)| code == NOT_SEARCHED);
        waits.searched(&of(1));
        assert!(!is_told());
        waits.search_failed(of(1), "kafka did not answer");
        waits.search_failed(of(2), "kafka did not answer");
        // Its partition takes other rows.
        waits.partition_answered(&of(1));
        assert!(is_told());
        waits.searched(&of(1));
        assert!(is_told());
        waits.searched(&of(2));
        assert!(!is_told());
    }

    #[test]
    fn a_topic_that_waits_is_named_until_its_pause_is_over() {
        let mut waits = Waits::new(Causes::default());
        let now = Instant::now();
        waits.topic_waits(now, "order", "topic_missing", "topic order does not exist");
        assert_eq!(waits.left_out(now).topics, ["order"]);
        assert_eq!(waits.topic(now, "order").as_deref(), Some("topic order does not exist"));
        assert_eq!(
            (waits.left_out(now + PAUSE_FIRST).topics.len(), waits.topic(now + PAUSE_FIRST, "order")),
            (0, None)
        );
        waits.topic_is_there("order");
        assert_eq!(waits.left_out(now).topics.len(), 0);
    }

    #[test]
    fn a_late_answer_about_a_topic_is_told_and_stands_while_it_is_looked_for_again() {
        let causes = Causes::default();
        let mut waits = Waits::new(causes.clone());
        let now = Instant::now();
        assert_eq!(waits.topic_is_looked_for(now, "order"), "topic order is being looked for");
        assert!(!waits.is_told(now, "order"), "the answer that comes is a new one");
        waits.topic_waits(now, "order", "topic_missing", "topic order does not exist");
        assert!(waits.is_told(now, "order"));
        assert_eq!(waits.topic_is_looked_for(now + PAUSE_LONGEST, "order"), "topic order does not exist");
        assert!(!waits.is_told(now + PAUSE_LONGEST, "order"));
    }
}
