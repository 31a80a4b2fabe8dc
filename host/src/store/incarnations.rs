//! Topics that change under their groups: a topic that was created anew, a log that
//! lost its end, partitions that are gone, and partitions that were added.
//!
//! What a claim makes of its position is decided here, so that both dialects decide
//! alike.

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Offset;

use super::{ClaimRequest, StoreError};

/// The reason of deliveries whose topic was deleted under them.
pub const CREATED_ANEW: &str = "the topic was created anew";
/// The reason of deliveries whose partition the new topic does not have.
pub const PARTITION_GONE: &str = "the topic was created anew without this partition";
/// The reason of deliveries whose records the log lost.
pub const LOG_LOST_ITS_END: &str = "the log lost its end, and this record with it";
/// Why a lost range was recorded when the log is shorter than the position and the
/// topic's id is unknown.
const LOG_TOO_SHORT: &str = "the log ends before the position: the topic was created anew or lost its end";

/// The error of a claim under the id of an earlier topic, which a broker that is behind
/// returned. Ids are never used again, so a later claim succeeds.
pub(super) fn outdated(claim: &ClaimRequest) -> StoreError {
    StoreError::Unavailable(format!(
        "kafka told the id {} for topic {}, which was that of an earlier topic of the name",
        claim.topic_id, claim.topic
    ))
}

/// How the next incarnation of a partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// Where it begins.
    pub begins: Offset,
    /// Open deliveries below this offset are still in the log, and go on.
    pub survive_below: Option<Offset>,
    /// The reason of the open deliveries that end.
    pub reason: &'static str,
    /// Why a range is recorded as lost.
    pub why: String,
    /// Records from here on were received while it was unknown whether the topic was
    /// still the same.
    unconfirmed: Option<Offset>,
}

impl Renewal {
    /// Decides whether the log of a claim is another one than that of a position at
    /// `next` in the topic `stored_id`, and how the next incarnation begins then.
    #[must_use]
    pub fn of(stored_id: &str, next: Offset, claim: &ClaimRequest) -> Option<Self> {
        let both_known = !stored_id.is_empty() && !claim.topic_id.is_empty();
        let ends = |reason, why: &str| Self {
            begins: claim.fallback,
            survive_below: None,
            reason,
            why: why.to_owned(),
            unconfirmed: claim.unconfirmed.filter(|from| *from < next),
        };
        if both_known && stored_id != claim.topic_id {
            let mut renewal = ends(CREATED_ANEW, CREATED_ANEW);
            if let Some(from) = renewal.unconfirmed {
                renewal.why = format!(
                    "{CREATED_ANEW}; offsets {from} to {next} were handled before kafka told so: they may be of the new \
                     topic, and run once more there"
                );
            }
            return Some(renewal);
        }
        if claim.log_end >= next {
            return None;
        }
        if !both_known {
            return Some(ends(CREATED_ANEW, LOG_TOO_SHORT));
        }
        // The rest of the log was handled before. New records take the offsets of the
        // lost ones, hence the new incarnation.
        Some(Self {
            begins: claim.log_end,
            survive_below: Some(claim.log_end),
            reason: LOG_LOST_ITS_END,
            why: "the log lost its end".to_owned(),
            unconfirmed: None,
        })
    }

    /// The renewal of a position whose partition no longer exists.
    #[must_use]
    pub fn without_a_place(reason: &'static str) -> Self {
        Self { begins: Offset(0), survive_below: None, reason, why: reason.to_owned(), unconfirmed: None }
    }

    /// Computes the range that is lost. Kafka no longer knows where an old log ended, so
    /// the range reaches as far as the group got, or to the end that was last seen.
    #[must_use]
    pub fn lost(&self, old: &EndedLog) -> (Offset, Offset) {
        let EndedLog { next, first_open, last, log_end } = *old;
        let to = last.map(Offset::next).into_iter().chain(log_end).fold(next, Offset::max);
        let from = match self.survive_below {
            Some(end) => end,
            None => first_open.into_iter().chain(self.unconfirmed).fold(next, Offset::min),
        };
        (from, to)
    }
}

/// How far a group got in a log that ended, and where that log ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndedLog {
    /// The position.
    pub next: Offset,
    /// The lowest open delivery that ends with it.
    pub first_open: Option<Offset>,
    /// The highest delivery that was ever received.
    pub last: Option<Offset>,
    /// The log's end when a host last read it; `None` where no host did.
    pub log_end: Option<Offset>,
}

/// The end of a partition's log when a host read it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeenLogEnd {
    /// The topic in Kafka; broadcasts have one of their own.
    pub log_topic: String,
    pub partition: i32,
    /// Kafka's id of the topic.
    pub topic_id: String,
    /// Last offset + 1.
    pub end: Offset,
}

/// Whether the partitions that existed before a partition are passed, so that messages
/// of one key stay in their order when a topic grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Growth {
    /// The group has no position in the topic: it begins with all partitions.
    New,
    /// The partition is not a later one, or the older ones are passed. Deliveries of
    /// these keys are still open in them, and a message with one of these keys waits.
    Passed(Vec<Bytes>),
    /// It was added, and the ends of these older partitions are not known yet.
    Unseen(Vec<i32>),
    /// It was added, and these older partitions are not passed yet.
    Behind(Vec<OlderPartition>),
}

impl Growth {
    /// The growth of a partition of which none is stored. `known` are the partitions in
    /// which the group has a position, with whether that is of the present topic.
    #[must_use]
    pub fn unseen(partition: i32, known: impl IntoIterator<Item = (i32, bool)>) -> Self {
        let known: Vec<(i32, bool)> = known.into_iter().collect();
        if known.is_empty() {
            return Self::New;
        }
        // A topic that was created anew did not grow.
        let is_added = known.iter().all(|(one, same)| *one != partition && *same);
        let older: Vec<i32> = known.into_iter().map(|(one, _)| one).filter(|one| *one < partition).collect();
        if is_added && !older.is_empty() { Self::Unseen(older) } else { Self::Passed(Vec::new()) }
    }
}

/// A partition that has to be passed before those that were added to its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OlderPartition {
    pub partition: i32,
    /// The group's position in it.
    pub next: Offset,
    /// Its log's end when partitions were added.
    pub log_end: Offset,
}

/// A group and the present topic of a name.
#[derive(Clone, Copy, Debug)]
pub struct TopicOfGroup<'a> {
    pub group: &'a str,
    /// The topic that senders publish on.
    pub topic: &'a str,
    /// Kafka's id of it.
    pub topic_id: &'a str,
}

/// Follows topics that change: `consume/` claims and waits by it, and `server/` stores the
/// ends of logs.
#[async_trait]
pub trait IncarnationStore {
    /// Ends the positions in partitions that the topic no longer has, of `listener` or
    /// of events, and returns the partitions. Their open deliveries become HANDLE_FAIL
    /// with [`PARTITION_GONE`] for good, and a lost range is recorded.
    ///
    /// Only positions of another topic id are ended, since Kafka removes no partition
    /// from a topic. Nothing is ended under the id of an earlier topic, which a broker
    /// that is behind may return.
    async fn end_vanished(
        &self,
        topic: &TopicOfGroup<'_>,
        listener: Option<&str>,
        partitions: i32,
    ) -> Result<Vec<i32>, StoreError>;

    /// Reads whether the partitions that existed before a partition are passed.
    async fn growth(&self, topic: &TopicOfGroup<'_>, partition: i32) -> Result<Growth, StoreError>;

    /// Stores the ends of the older partitions when a host first sees that the topic has
    /// `count` partitions, of which `first_new` is the first that was added. What was
    /// stored before stays.
    async fn keep_growth(
        &self,
        topic: &TopicOfGroup<'_>,
        first_new: i32,
        count: i32,
        ends: &[(i32, Offset)],
    ) -> Result<(), StoreError>;

    /// Stores the ends of logs, so that the range which is lost with a topic is known
    /// once the topic is gone. A stored end only moves up.
    async fn keep_log_ends(&self, ends: &[SeenLogEnd]) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::super::WriterId;
    use super::*;

    fn claim(topic_id: &str, log_end: i64) -> ClaimRequest {
        ClaimRequest {
            writer: WriterId(1),
            group: "stock".to_owned(),
            topic: "order".to_owned(),
            listener: None,
            topic_id: topic_id.to_owned(),
            partition: 0,
            fallback: Offset(3),
            log_end: Offset(log_end),
            unconfirmed: None,
        }
    }

    /// In a log of which the group has handled 300 records.
    fn reached(first_open: Option<i64>, last: Option<i64>) -> EndedLog {
        EndedLog { next: Offset(300), first_open: first_open.map(Offset), last: last.map(Offset), log_end: None }
    }

    #[test]
    fn the_same_log_goes_on_and_another_begins_at_its_beginning() {
        let next = Offset(300);
        assert_eq!(Renewal::of("a", next, &claim("a", 300)), None);
        assert_eq!(Renewal::of("", next, &claim("a", 300)), None);
        assert_eq!(Renewal::of("a", next, &claim("", 300)), None);
        let anew = Renewal::of("a", next, &claim("b", 300)).unwrap();
        assert_eq!((anew.begins, anew.reason), (Offset(3), CREATED_ANEW));
        assert_eq!(anew.lost(&reached(Some(7), Some(310))), (Offset(7), Offset(311)));
        assert_eq!(anew.lost(&reached(None, None)), (next, next));
        let unread = EndedLog { log_end: Some(Offset(420)), ..reached(None, Some(310)) };
        assert_eq!(anew.lost(&unread), (next, Offset(420)), "what nobody received is lost too");
        let seen_long_ago = EndedLog { log_end: Some(Offset(200)), ..unread };
        assert_eq!(anew.lost(&seen_long_ago), (next, Offset(311)));
        let short = Renewal::of("", next, &claim("b", 10)).unwrap();
        assert_eq!(short.begins, Offset(3), "without an id nobody knows which of the two it is");
    }

    #[test]
    fn a_log_with_the_same_topic_id_that_lost_its_end_goes_on_at_its_end() {
        let next = Offset(300);
        let lost = Renewal::of("a", next, &claim("a", 250)).unwrap();
        assert_eq!((lost.begins, lost.survive_below), (Offset(250), Some(Offset(250))));
        assert_eq!(lost.lost(&reached(Some(260), Some(310))), (Offset(250), Offset(311)));
        assert_eq!(lost.lost(&reached(None, None)), (Offset(250), next));
    }

    #[test]
    fn only_a_partition_that_came_after_others_was_added() {
        let nothing = Growth::Passed(Vec::new());
        assert_eq!(Growth::unseen(3, []), Growth::New, "the group begins with the topic");
        assert_eq!(Growth::unseen(1, [(0, true), (1, true), (2, true)]), nothing, "it was there");
        assert_eq!(Growth::unseen(3, [(0, true), (1, false)]), nothing, "the topic was created anew");
        assert_eq!(Growth::unseen(3, [(0, true), (1, true), (4, true)]), Growth::Unseen(vec![0, 1]));
    }

    #[test]
    fn what_ran_between_two_answers_is_told() {
        let next = Offset(300);
        let claim = ClaimRequest { unconfirmed: Some(Offset(295)), ..claim("b", 400) };
        let anew = Renewal::of("a", next, &claim).unwrap();
        assert_eq!(anew.lost(&reached(None, None)), (Offset(295), next));
        assert!(anew.why.contains("offsets 295 to 300 were handled"), "{}", anew.why);
        let claim = ClaimRequest { unconfirmed: Some(next), ..claim };
        assert_eq!(Renewal::of("a", next, &claim).unwrap().why, CREATED_ANEW, "nothing ran since");
    }
}
