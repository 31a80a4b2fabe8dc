//! Claims a partition: asks Kafka for its log, the store for its position, and
//! joins both in one claim.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courier_core::message::{Kind, Offset};
use tokio::sync::mpsc;

use super::held_address::HeldAddress;
use crate::causes::{Cause, Causes, Subject};
use crate::config::GroupStart;
use crate::consume::attempt::binding::RunningBinding;
use crate::consume::context::NodeContext;
use crate::kafka::buffered::{FeedItem, TopicPartition};
use crate::kafka::consumer::Assignment;
use crate::kafka::log_reader::{LogError, LogReader, TopicInfo};
use crate::store::{ClaimRequest, Claimed, Growth, OlderPartition, SharedStore, StoreError, TopicOfGroup, WriterId};

/// First and longest wait before a claim is tried again.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Claims partitions for one group; cheap to clone.
#[derive(Clone)]
pub struct Claims {
    store: SharedStore,
    log: LogReader,
    writer: WriterId,
    listener: Arc<str>,
    group: Arc<str>,
    causes: Causes,
    /// The lease under which it claims, if it does so for an address.
    lease: Option<Arc<HeldAddress>>,
}

/// A claimed partition.
pub struct ClaimedPartition {
    pub place: TopicPartition,
    /// The store's answer.
    pub claimed: Claimed,
    /// Kafka's id of its topic; empty where the broker tells none.
    pub topic_id: Arc<str>,
    /// Keys that are open in older partitions, from before this one was added.
    pub ahead: Vec<Bytes>,
}

impl ClaimedPartition {
    /// The partition as the consumer thread reads it, and as its owner begins.
    #[must_use]
    pub fn feed(self) -> (Assignment, Begun) {
        let (feed, records) = mpsc::unbounded_channel();
        let assignment = Assignment { place: self.place.clone(), offset: self.claimed.next, feed };
        (assignment, Begun { ready: self, records })
    }
}

/// A claimed partition that is being read.
pub struct Begun {
    pub ready: ClaimedPartition,
    /// Its records.
    pub records: mpsc::UnboundedReceiver<FeedItem>,
}

/// Why a claim failed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Kafka does not answer for its log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The topic was recreated between the first and the last question.
    #[error("topic {0} was created anew just now")]
    Changing(String),
    /// The topic does not have the partition.
    #[error("topic {0} has no partition {1}")]
    NoPartition(String, i32),
    /// The partition was added, and waits for an older one.
    #[error(
        "partition {partition} was added to topic {topic}: it begins once partition {} is passed up to offset {}, and \
         that one stands at {}", older.partition, older.log_end, older.next
    )]
    Behind {
        topic: String,
        /// The added partition.
        partition: i32,
        /// The first older partition that is not passed.
        older: OlderPartition,
    },
    /// Kafka does not say where the `start` of the binding is.
    #[error("where to begin in topic {topic} ({start}) is not known: {error}")]
    Start {
        topic: String,
        /// As the binding says it.
        start: &'static str,
        /// Why not.
        error: LogError,
    },
}

impl ClaimError {
    /// The code of the cause.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Log(LogError::Refused { .. }) | Self::Start { error: LogError::Refused { .. }, .. } => {
                "topic_refused"
            }
            Self::Start { .. } => "start_unknown",
            Self::Log(_) | Self::NoPartition(..) => "log_unknown",
            Self::Store(_) => "store_away",
            Self::Changing(_) => "topic_created_anew",
            Self::Behind { .. } => "older_partition_not_passed",
        }
    }
}

impl Claims {
    /// Claims for `consume` as the writer of this node.
    #[must_use]
    pub fn new(node: &NodeContext, group: &str) -> Self {
        Self {
            store: Arc::clone(&node.tools.store),
            log: node.tools.log.clone(),
            writer: node.writer,
            listener: Arc::clone(&node.tools.listener),
            group: group.into(),
            causes: node.tools.causes.clone(),
            lease: None,
        }
    }

    /// The same, while a lease on an address is good.
    #[must_use]
    pub(super) fn under(self, lease: Option<Arc<HeldAddress>>) -> Self {
        Self { lease, ..self }
    }

    /// Whether another host may have the address by now, and its broadcasts with it.
    fn is_lease_over(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| !lease.is_good())
    }

    /// Resolves the `start` of bindings to offsets and stores them, for topics
    /// without a position of the group. A topic that does not exist yet starts
    /// at its beginning.
    ///
    /// # Errors
    /// When Kafka or the store does not answer. The start is never guessed: an
    /// unknown `latest` is no reason to begin at the beginning.
    pub async fn begin(&self, bindings: &[Arc<RunningBinding>]) -> Result<(), ClaimError> {
        let positions = self.store.positions().await?;
        let of_group = positions.iter().filter(|row| row.group == *self.group && row.listener.is_none());
        let begun: HashSet<&str> = of_group.map(|row| row.topic.as_str()).collect();
        for bound in bindings {
            for topic in bound.binding.topics.iter().filter(|topic| !begun.contains(topic.as_str())) {
                match (self.starts(topic, bound.binding.start).await, bound.binding.start) {
                    (Ok(Some((info, starts))), _) => self.store.begin(&self.group, topic, &info.id, &starts).await?,
                    (Ok(None), _) => {}
                    // A partition without a position begins at the beginning
                    // anyway.
                    (Err(error), GroupStart::Earliest) => {
                        tracing::debug!(group = %self.group, topic, %error, "cannot look where a topic begins yet");
                    }
                    (Err(error), start) => {
                        let start = if start == GroupStart::Latest { "start = \"latest\"" } else { "start = a time" };
                        return Err(ClaimError::Start { topic: topic.clone(), start, error });
                    }
                }
            }
        }
        Ok(())
    }

    /// Where each partition of a topic starts; `None` without the topic.
    async fn starts(
        &self,
        topic: &str,
        start: GroupStart,
    ) -> Result<Option<(TopicInfo, Vec<(i32, Offset)>)>, LogError> {
        let Some(info) = self.log.topic(topic).await? else { return Ok(None) };
        let mut starts = Vec::with_capacity(info.partitions.len());
        for partition in info.partitions.iter().copied() {
            let at = match start {
                GroupStart::Earliest => self.log.range(topic, partition).await?.0,
                GroupStart::Latest => self.log.range(topic, partition).await?.1,
                GroupStart::Time(time) => self.log.offset_at(topic, partition, time).await?,
            };
            starts.push((partition, at));
        }
        Ok(Some((info, starts)))
    }

    /// Claims a partition, however long it takes. Records that this host
    /// received from `unconfirmed` on may be of another topic of the same name.
    pub async fn claim(&self, place: TopicPartition, unconfirmed: Option<Offset>) -> ClaimedPartition {
        let subject = Subject::Partition {
            group: self.group.to_string(),
            topic: place.log_topic().into_owned(),
            partition: place.partition,
        };
        self.until_claimed(&subject, || self.attempt(&place, unconfirmed)).await
    }

    /// Attempts it until it is claimed. An attempt without an error and without a claim
    /// found that the lease is over; whoever let it run out ends this claim as well.
    async fn until_claimed<C, F: Future<Output = Result<Option<C>, ClaimError>>>(
        &self,
        subject: &Subject,
        attempt: impl Fn() -> F,
    ) -> C {
        let (mut wait, mut reported) = (RETRY_WAIT.0, BTreeSet::<&str>::new());
        loop {
            let claimed = if self.is_lease_over() { Ok(None) } else { attempt().await };
            match claimed {
                Ok(Some(ready)) => {
                    reported.iter().for_each(|code| self.causes.clear_code(subject, code));
                    return ready;
                }
                Ok(None) => {}
                Err(error) => {
                    reported.insert(error.code());
                    self.causes.report(subject.clone(), Cause::new(error.code(), error.to_string()));
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_WAIT.1);
        }
    }

    async fn attempt(
        &self,
        place: &TopicPartition,
        unconfirmed: Option<Offset>,
    ) -> Result<Option<ClaimedPartition>, ClaimError> {
        let topic = place.log_topic();
        let no_topic = || LogError::NoTopic(topic.to_string());
        let info = self.log.topic(&topic).await?.ok_or_else(no_topic)?;
        if !info.partitions.contains(&place.partition) {
            return Err(ClaimError::NoPartition(topic.to_string(), place.partition));
        }
        let (low, high) = self.log.range(&topic, place.partition).await?;
        let ahead = if place.kind == Kind::Event { self.grown(place, &info).await? } else { Vec::new() };
        // The log of one topic with the id of another would look like a log
        // that lost its end.
        if self.log.topic(&topic).await?.ok_or_else(no_topic)?.id != info.id {
            return Err(ClaimError::Changing(topic.to_string()));
        }
        let request = ClaimRequest {
            writer: self.writer,
            group: self.group.to_string(),
            topic: place.topic.to_string(),
            listener: (place.kind == Kind::Broadcast).then(|| self.listener.to_string()),
            topic_id: info.id.clone(),
            partition: place.partition,
            fallback: low,
            log_end: high,
            unconfirmed,
        };
        // Kafka may have taken longer to answer than the lease lasted.
        if self.is_lease_over() {
            return Ok(None);
        }
        let mut claimed = self.store.claim(&request).await?;
        if claimed.next < low {
            self.lost(place, &mut claimed, low).await?;
        }
        Ok(Some(ClaimedPartition { place: place.clone(), claimed, topic_id: info.id.into(), ahead }))
    }

    /// Holds an added partition back until the older ones are passed up to
    /// their ends of then, so that no key runs here before its older messages
    /// there. Returns the keys that are still open there.
    async fn grown(&self, place: &TopicPartition, info: &TopicInfo) -> Result<Vec<Bytes>, ClaimError> {
        let topic = TopicOfGroup { group: &self.group, topic: &place.topic, topic_id: &info.id };
        let older = match self.store.growth(&topic, place.partition).await? {
            Growth::Passed(keys) => return Ok(keys),
            Growth::New => {
                // All partitions begin at once: a partition that is claimed a moment
                // later would else be taken for an added one.
                if let Some((info, starts)) = self.starts(&place.topic, GroupStart::Earliest).await? {
                    self.store.begin(&self.group, &place.topic, &info.id, &starts).await?;
                }
                return Ok(Vec::new());
            }
            Growth::Behind(older) => older,
            Growth::Unseen(older) => {
                let mut ends = Vec::with_capacity(older.len());
                for partition in older.iter().copied() {
                    ends.push((partition, self.log.range(&place.topic, partition).await?.1));
                }
                let first_new = older.iter().max().map_or(0, |last| last + 1);
                let count = info.partitions.iter().max().map_or(0, |last| last + 1);
                self.store.keep_growth(&topic, first_new, count, &ends).await?;
                tracing::info!(
                    group = %self.group, topic = %place.topic, first_new, count,
                    "partitions were added; they begin once the older ones are passed"
                );
                match self.store.growth(&topic, place.partition).await? {
                    Growth::Behind(older) => older,
                    Growth::Passed(keys) => return Ok(keys),
                    Growth::New | Growth::Unseen(_) => return Err(ClaimError::Changing(place.topic.to_string())),
                }
            }
        };
        match older.first() {
            Some(older) => {
                let (topic, partition) = (place.topic.to_string(), place.partition);
                Err(ClaimError::Behind { topic, partition, older: *older })
            }
            None => Ok(Vec::new()),
        }
    }

    /// Records the range that retention removed before the group read it, and
    /// continues behind it.
    async fn lost(&self, place: &TopicPartition, claimed: &mut Claimed, low: Offset) -> Result<(), ClaimError> {
        let why = "kafka's retention removed these records before the group received them";
        tracing::error!(group = %self.group, %place, from = %claimed.next, to = %low, why, "lost range recorded");
        self.store.skip_lost(claimed.position, claimed.epoch, claimed.next, low, why).await?;
        claimed.next = low;
        claimed.settled.retain(|offset| *offset >= low);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Instant;

    use rdkafka::ClientConfig;

    use super::*;

    async fn claims(folder: &tempfile::TempDir) -> Claims {
        let file = folder.path().join("courier.db");
        Claims {
            store: crate::store::open(&format!("sqlite://{}", file.display())).await.unwrap(),
            log: LogReader::new(&ClientConfig::new()).unwrap(),
            writer: WriterId(1),
            listener: "10.0.0.1:80".into(),
            group: "stock".into(),
            causes: Causes::default(),
            lease: None,
        }
    }

    /// A host that was frozen in the middle of a claim took the address back from the
    /// one that had it by then.
    #[tokio::test]
    async fn nothing_is_claimed_for_an_address_whose_lease_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let lease = Arc::new(HeldAddress::new(Instant::now() + Duration::from_secs(60)));
        let claims = claims(&folder).await.under(Some(Arc::clone(&lease)));
        let attempts = Cell::new(0);
        let attempt = || {
            attempts.set(attempts.get() + 1);
            let ended = if attempts.get() == 1 {
                lease.renew(Instant::now(), true);
                Err(ClaimError::Changing("order".into()))
            } else {
                Ok(Some("claimed"))
            };
            std::future::ready(ended)
        };
        let (subject, renewed) = (Subject::Group("stock".into()), RETRY_WAIT.0 * 8);
        let renew = async {
            tokio::time::sleep(renewed).await;
            assert_eq!(attempts.get(), 1, "no attempt is made without the lease");
            lease.renew(Instant::now() + Duration::from_secs(60), true);
        };
        let (claimed, ()) = tokio::join!(claims.until_claimed(&subject, attempt), renew);
        assert_eq!((claimed, attempts.get()), ("claimed", 2));
        assert!(claims.causes.reported(&subject).is_none());
    }
}
