//! Lists for people who look for failures: failures that are alike, parked lanes, and
//! dead letters.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;
use courier_core::status::State;
use courier_core::verdict::Verdict;

use super::{DeliveryKey, Listing, Page, StoreError};

/// Failed deliveries that one list of failures reads, divided among the groups that it
/// is about.
pub const FAILURE_ROWS: usize = 5_000;
/// Failed deliveries that are read of one group, however many groups there are.
const LEAST_FAILURE_ROWS: usize = 200;
/// Most topics and most versions that a cluster of failures names.
pub const NAMED: usize = 20;
/// Most deliveries behind a lane's head that are counted.
pub const LANE_COUNTED: u32 = 10_000;

/// How many failed deliveries are read of each group and table.
#[must_use]
pub fn failure_share(groups: usize) -> usize {
    (FAILURE_ROWS / groups.max(1)).max(LEAST_FAILURE_ROWS)
}

/// Which failures.
#[derive(Clone, Debug, Default)]
pub struct FailureFilter {
    /// Of this group.
    pub group: Option<String>,
    /// Of one of these groups (what a token may see).
    pub groups: Option<Vec<String>>,
    /// Of this topic.
    pub topic: Option<String>,
    /// Of one of these topics (what a token may see).
    pub topics: Option<Vec<String>>,
    /// Of this type.
    pub type_name: Option<String>,
    /// With this fingerprint.
    pub fingerprint: Option<String>,
    /// Settled or received at or after.
    pub from: Option<Timestamp>,
    /// Settled or received before.
    pub to: Option<Timestamp>,
}

/// A failed delivery, with the columns that clustering needs.
#[derive(Clone, Debug)]
pub struct FailedRow {
    pub key: DeliveryKey,
    pub group: String,
    pub topic: String,
    pub type_name: String,
    /// Groups failures that are alike.
    pub fingerprint: Option<String>,
    pub verdict: Option<Verdict>,
    /// The version that made the last attempt.
    pub version: Option<String>,
    /// When it settled or, if it is open, was received.
    pub at: Timestamp,
    /// When it failed last.
    pub failed_at: Timestamp,
    /// Whether it is open.
    pub open: bool,
}

/// A cluster of failures that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRow {
    pub group: String,
    /// Their fingerprint; `None` for the failures that have none.
    pub fingerprint: Option<String>,
    /// The last verdict of the newest failure.
    pub verdict: Option<Verdict>,
    /// The reason of the newest failure.
    pub reason: Option<String>,
    /// How many failures there are.
    pub count: u64,
    /// How many of them are open.
    pub open: u64,
    /// When the oldest settled or was received.
    pub first_at: Timestamp,
    /// When one of them failed last.
    pub last_at: Timestamp,
    /// Their topics, [`NAMED`] at most.
    pub topics: BTreeSet<String>,
    /// The versions that failed, [`NAMED`] at most.
    pub versions: BTreeSet<String>,
    /// The newest failure.
    pub example: DeliveryKey,
}

/// Clusters of failures, the largest first.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    /// The clusters.
    pub items: Vec<FailureRow>,
    /// Whether there are older failures that were not read.
    pub truncated: bool,
}

/// Clusters failures by group and fingerprint. The caller fills in the reasons.
#[must_use]
pub fn cluster(rows: impl IntoIterator<Item = FailedRow>) -> Vec<FailureRow> {
    let mut clusters: HashMap<(String, Option<String>), FailureRow> = HashMap::new();
    for row in rows {
        let found = clusters.entry((row.group.clone(), row.fingerprint.clone())).or_insert_with(|| FailureRow {
            group: row.group.clone(),
            fingerprint: row.fingerprint.clone(),
            verdict: row.verdict,
            reason: None,
            count: 0,
            open: 0,
            first_at: row.at,
            last_at: row.failed_at,
            topics: BTreeSet::new(),
            versions: BTreeSet::new(),
            example: row.key,
        });
        found.count += 1;
        found.open += u64::from(row.open);
        found.first_at = found.first_at.min(row.at);
        if row.failed_at > found.last_at {
            (found.last_at, found.example, found.verdict) = (row.failed_at, row.key, row.verdict);
        }
        if found.topics.len() < NAMED {
            found.topics.insert(row.topic);
        }
        if found.versions.len() < NAMED {
            found.versions.extend(row.version);
        }
    }
    let mut clusters: Vec<FailureRow> = clusters.into_values().collect();
    clusters.sort_by(|one, other| {
        (other.count, other.last_at)
            .cmp(&(one.count, one.last_at))
            .then_with(|| one.fingerprint.cmp(&other.fingerprint))
    });
    clusters
}

/// A parked lane: its head waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRow {
    /// The delivery at its head.
    pub head: DeliveryKey,
    pub topic: String,
    pub partition: i32,
    /// The lane's key; none for a record without one.
    pub record_key: Option<Bytes>,
    /// The head's state.
    pub state: State,
    /// Why the head failed last.
    pub reason: Option<String>,
    /// Deliveries behind the head; [`LANE_COUNTED`] means that many or more.
    pub waiting: u64,
    /// When the head runs again.
    pub next_attempt_at: Option<Timestamp>,
    /// Whether the head waits for a person.
    pub held: bool,
}

/// Which dead letters.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    /// Of this group.
    pub group: Option<String>,
    /// Of one of these groups (what a token may see).
    pub groups: Option<Vec<String>>,
    /// Whose delivery is of one of these topics (what a token may see).
    pub source_topics: Option<Vec<String>>,
    /// Published on this topic.
    pub topic: Option<String>,
    /// Whose delivery was handled since, or was not; `None` means both.
    pub handled: Option<bool>,
    /// At or after.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
}

/// A delivery that was given up and published on a topic of dead letters. The
/// row commits with the outcome and with what the relay sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterRow {
    pub key: DeliveryKey,
    pub group: String,
    /// The topic of the delivery.
    pub source_topic: String,
    /// The partition of the delivery.
    pub partition: i32,
    /// The topic of the dead letter.
    pub topic: String,
    pub fate: LetterFate,
    /// When it was given up.
    pub at: Timestamp,
    pub message_id: String,
    pub record_key: Option<Bytes>,
    /// The message's type; empty when unknown.
    pub type_name: String,
    /// Why it was given up.
    pub reason: Option<String>,
    /// Invocations until then.
    pub number: u32,
    /// When the delivery was handled after all; `None` while it was not.
    pub handled_at: Option<Timestamp>,
}

/// Whether a dead letter was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterFate {
    /// Kafka has it.
    Sent,
    /// The relay has still to send it.
    Waiting,
    /// It can never be sent as it is, and is kept as undelivered.
    Undelivered,
}

impl LetterFate {
    /// Reads the word that the queries of both dialects return.
    pub(super) fn parse(word: &str) -> Self {
        match word {
            "undelivered" => Self::Undelivered,
            "waiting" => Self::Waiting,
            _ => Self::Sent,
        }
    }

    /// The word that the API shows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Waiting => "waiting",
            Self::Undelivered => "undelivered",
        }
    }
}

/// Lists failures, parked lanes and dead letters, for the API.
#[async_trait]
pub trait FailureStore: Send + Sync {
    /// Clusters the newest failures, final and open.
    async fn failures(&self, filter: &FailureFilter) -> Result<Failures, StoreError>;

    /// Lists the parked lanes of a group on these topics, or on all, in the order of
    /// their heads.
    async fn parked(&self, group: &str, topics: Option<&[String]>, page: &Page)
    -> Result<Listing<LaneRow>, StoreError>;

    /// Lists dead letters, newest first.
    async fn dead_letters(&self, filter: &DeadLetterFilter, page: &Page) -> Result<Listing<DeadLetterRow>, StoreError>;
}

#[cfg(test)]
mod tests {
    use courier_core::message::Offset;

    use super::super::PositionId;
    use super::*;

    fn row(at: i64, fingerprint: &str, topic: &str, open: bool) -> FailedRow {
        FailedRow {
            key: DeliveryKey { position: PositionId(1), offset: Offset(at) },
            group: "stock".into(),
            topic: topic.into(),
            type_name: "OrderCreated".into(),
            fingerprint: Some(fingerprint.into()),
            verdict: Some(Verdict::Error),
            version: Some(format!("sha256:{at}")),
            at: Timestamp(at),
            failed_at: Timestamp(at),
            open,
        }
    }

    /// "last" was the time at which the newest was received.
    #[test]
    fn a_failure_that_comes_again_failed_when_its_last_attempt_did() {
        let again = FailedRow { failed_at: Timestamp(900), ..row(1, "a", "order", true) };
        let found = cluster([row(5, "a", "order", false), again]);
        assert_eq!((found[0].first_at, found[0].last_at), (Timestamp(1), Timestamp(900)));
        assert_eq!(found[0].example.offset, Offset(1));
    }

    #[test]
    fn failures_that_are_alike_are_one_cluster_and_the_largest_comes_first() {
        let rows = [row(1, "a", "order", false), row(3, "b", "order", true), row(2, "b", "refund", false)];
        let found = cluster(rows);
        assert_eq!(found.iter().map(|one| (one.count, one.open)).collect::<Vec<_>>(), [(2, 1), (1, 0)]);
        assert_eq!(
            (found[0].first_at, found[0].last_at, found[0].example.offset),
            (Timestamp(2), Timestamp(3), Offset(3))
        );
        assert_eq!(found[0].topics.iter().map(String::as_str).collect::<Vec<_>>(), ["order", "refund"]);
    }
}
