//! The words: what a message is and how its place in the log is named.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z.
///
/// Microseconds are what PostgreSQL keeps and what the API shows; an `i64` of
/// them lasts for 292,000 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time this much later; the end of time when that is past it.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The day this falls on in UTC, counted from 1970-01-01.
    #[must_use]
    pub fn day(self) -> i32 {
        const DAY_MICROS: i64 = 86_400_000_000;
        i32::try_from(self.0.div_euclid(DAY_MICROS)).unwrap_or(i32::MAX)
    }
}

/// The place of a record in its partition. Offsets are sparse: transactions
/// and compaction leave holes, so they are compared and never counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Offset(pub i64);

impl Offset {
    /// The smallest offset above this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the owners of a partition. What an older epoch writes is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub i64);

/// What the name of a companion topic ends with.
const COMPANION: &str = ".broadcast";

/// The topics in which Kafka keeps what it needs itself. Nothing may be
/// published on them or read from them as messages: a record of a stranger
/// there breaks the cluster, and records of Kafka's are not messages.
const INTERNAL_TOPICS: [&str; 4] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"];

/// Whether Kafka keeps its own state in a topic of this name.
#[must_use]
pub fn is_internal_topic(topic: &str) -> bool {
    INTERNAL_TOPICS.contains(&topic)
}

/// The topic whose broadcasts lie in `topic`, if its name is that of a
/// companion. It is one only where that topic is bound or exists.
#[must_use]
pub fn base_of_companion(topic: &str) -> Option<&str> {
    topic.strip_suffix(COMPANION).filter(|base| !base.is_empty())
}

/// What the sender meant a message to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Each group handles it once.
    #[default]
    Event,
    /// Each node of each group handles it once.
    Broadcast,
}

impl Kind {
    /// The word used in TOML, HTTP and header values.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Broadcast => "broadcast",
        }
    }

    /// The topic of Kafka in which messages of this kind lie that senders
    /// publish on `topic`. Broadcasts have one of their own, the companion, so
    /// that a node which wants all of them need not read all events.
    #[must_use]
    pub fn log_topic(self, topic: &str) -> Cow<'_, str> {
        match self {
            Self::Event => Cow::Borrowed(topic),
            Self::Broadcast => Cow::Owned(format!("{topic}{COMPANION}")),
        }
    }
}

/// A header of a record. Names may repeat; Kafka lets a value be absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name as it stands in the record.
    pub name: String,
    /// Any bytes.
    pub value: Option<Bytes>,
}

/// A message: what a sender published and a handler gets to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Unique per source; `topic:partition:offset` for a record without one.
    pub id: String,
    /// The primary key. Messages of one key are handled in order.
    pub key: Option<Bytes>,
    /// The sending service; empty when unknown.
    pub source: String,
    /// The topic it was published on.
    pub topic: String,
    /// What happened, for example `OrderCreated`; empty when unknown.
    pub type_name: String,
    /// What the sender meant it to be.
    pub kind: Kind,
    /// When the sender says it happened, else when Kafka took it.
    pub time: Timestamp,
    /// Media type of the body; empty when unknown.
    pub content_type: String,
    /// The body, as it came; empty for a tombstone.
    pub body: Bytes,
    /// Whether the record has no value at all, which tells a compacted topic
    /// to forget its key.
    pub is_tombstone: bool,
    /// How many handlings led to it: 0 for what a sender published, one more
    /// than its cause for an emission or a dead letter.
    pub hops: u32,
    /// Every header that is not one of the fields above, in the record's order.
    pub headers: Vec<Header>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kafka_and_of_companions_are_known() {
        assert!(is_internal_topic("__consumer_offsets") && is_internal_topic("__transaction_state"));
        assert!(!is_internal_topic("__orders") && !is_internal_topic("order"));
        let companion = Kind::Broadcast.log_topic("order").into_owned();
        assert_eq!(base_of_companion(&companion), Some("order"));
        assert_eq!((base_of_companion("order"), base_of_companion(".broadcast")), (None, None));
    }
}
