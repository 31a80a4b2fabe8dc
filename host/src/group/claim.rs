//! Taking possession of a partition: what Kafka says of its log, what the
//! store says of its position, and one claim that joins the two.

use std::sync::Arc;
use std::time::Duration;

use courier_core::message::{Kind, Offset};
use tokio::sync::mpsc;

use super::Node;
use super::binding::Bound;
use crate::config::Start;
use crate::kafka::lookup::{Log, LogError};
use crate::kafka::partition::{Fed, TopicPartition};
use crate::kafka::source::Assignment;
use crate::store::{ClaimRequest, Claimed, SharedStore, StoreError, WriterId};

/// First wait before a claim is tried again, and the longest one.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Claims partitions for one group; cheap to clone.
#[derive(Clone)]
pub struct Claims {
    store: SharedStore,
    log: Log,
    writer: WriterId,
    node: Arc<str>,
    group: Arc<str>,
}

/// A partition that was claimed.
pub struct Ready {
    /// Which.
    pub place: TopicPartition,
    /// What the store said.
    pub claimed: Claimed,
}

impl Ready {
    /// The partition as the consumer thread is to read it, and as its owner is
    /// to begin.
    #[must_use]
    pub fn feed(self) -> (Assignment, Begun) {
        let Self { place, claimed } = self;
        let (feed, records) = mpsc::unbounded_channel();
        (Assignment { place: place.clone(), offset: claimed.next, feed }, Begun { place, claimed, records })
    }
}

/// A claimed partition that is being read.
pub struct Begun {
    /// Which.
    pub place: TopicPartition,
    /// What the store said.
    pub claimed: Claimed,
    /// Its records.
    pub records: mpsc::UnboundedReceiver<Fed>,
}

/// Why a claim did not succeed yet.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Kafka does not tell of its log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Claims {
    /// Claims for `group` as the writer of this node.
    #[must_use]
    pub fn new(node: &Node, group: &str) -> Self {
        Self {
            store: Arc::clone(&node.tools.store),
            log: node.tools.log.clone(),
            writer: node.writer,
            node: Arc::clone(&node.tools.node),
            group: group.into(),
        }
    }

    /// Resolves the `start` of bindings to offsets and stores them, for topics
    /// in which the group has no position yet. A topic that does not exist yet
    /// starts at its beginning when it appears.
    ///
    /// # Errors
    /// When Kafka or the store does not answer.
    pub async fn begin(&self, bindings: &[Arc<Bound>]) -> Result<(), ClaimError> {
        for bound in bindings {
            for topic in &bound.binding.topics {
                let Some(info) = self.log.topic(topic).await? else { continue };
                let mut starts = Vec::with_capacity(info.partitions.len());
                for partition in info.partitions {
                    let (low, high) = self.log.range(topic, partition).await?;
                    let start = match bound.binding.start {
                        Start::Earliest => low,
                        Start::Latest => high,
                        Start::Time(time) => self.log.offset_at(topic, partition, time).await?,
                    };
                    starts.push((partition, start));
                }
                self.store.begin(&self.group, topic, &info.id, &starts).await?;
            }
        }
        Ok(())
    }

    /// Claims a partition, however long it takes.
    pub async fn claim(&self, place: TopicPartition) -> Ready {
        let mut wait = RETRY_WAIT.0;
        loop {
            match self.attempt(&place).await {
                Ok(claimed) => return Ready { place, claimed },
                Err(error) => tracing::warn!(group = %self.group, %place, %error, "cannot claim yet"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_WAIT.1);
        }
    }

    async fn attempt(&self, place: &TopicPartition) -> Result<Claimed, ClaimError> {
        let topic = place.log_topic();
        let info = self.log.topic(&topic).await?;
        let (low, high) = self.log.range(&topic, place.partition).await?;
        let request = ClaimRequest {
            writer: self.writer,
            group: self.group.to_string(),
            topic: place.topic.to_string(),
            listener: (place.kind == Kind::Broadcast).then(|| self.node.to_string()),
            topic_id: info.map(|info| info.id).unwrap_or_default(),
            partition: place.partition,
            fallback: low,
            log_end: high,
        };
        let mut claimed = self.store.claim(&request).await?;
        if claimed.next < low {
            self.lost(place, &mut claimed, low).await?;
        }
        Ok(claimed)
    }

    /// Retention was faster than the group: what is gone becomes a range that
    /// people can see, and the group goes on at what is left.
    async fn lost(&self, place: &TopicPartition, claimed: &mut Claimed, low: Offset) -> Result<(), ClaimError> {
        let why = "kafka's retention removed these records before the group received them";
        tracing::error!(group = %self.group, %place, from = %claimed.next, to = %low, why, "lost range");
        self.store.skip_lost(claimed.position, claimed.epoch, claimed.next, low, why).await?;
        claimed.next = low;
        claimed.settled.retain(|offset| *offset >= low);
        Ok(())
    }
}
