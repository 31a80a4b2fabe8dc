//! The terms: what a message is and how its place in the log is named.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z.
///
/// PostgreSQL keeps microseconds and the API shows them; an `i64` of
/// them lasts for 292,000 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time `wait` later, at most `i64::MAX` microseconds.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// The time from `earlier` to this one; zero when `earlier` is the later one.
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

/// The place of a record in its partition. Offsets are sparse, since
/// transactions and compaction leave holes: they are compared and never counted.
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

/// The number of an ownership of a partition; each new owner gets the next one.
/// The store refuses what an owner of an older epoch writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub i64);

/// How often a delivery was attempted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// How often the handler was called, or its plugin could not be instantiated
    /// for it.
    pub invoked: u32,
    /// How many attempts count against `max_attempts`; a requested rerun begins
    /// again at zero.
    pub used: u32,
}

/// The suffix of a companion topic's name.
const COMPANION: &str = ".broadcast";

/// The topics in which Kafka keeps its own state. Courier neither publishes on
/// them nor consumes them: a foreign record there breaks the cluster, and
/// Kafka's own records are no messages.
const INTERNAL_TOPICS: [&str; 4] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"];

/// Whether Kafka keeps its own state in a topic of this name.
#[must_use]
pub fn is_internal_topic(topic: &str) -> bool {
    INTERNAL_TOPICS.contains(&topic)
}

/// The topic whose broadcasts lie in `topic`, if `topic` has the name of a
/// companion. A topic of such a name is a companion only if the topic returned
/// here is bound or exists.
#[must_use]
pub fn base_of_companion(topic: &str) -> Option<&str> {
    topic.strip_suffix(COMPANION).filter(|base| !base.is_empty())
}

/// Who handles a message: one node of each group, or all of them.
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

    /// The Kafka topic that holds the messages of this kind which senders publish
    /// on `topic`. Broadcasts lie in a companion topic, so that a node which wants
    /// all broadcasts need not read all events.
    #[must_use]
    pub fn log_topic(self, topic: &str) -> Cow<'_, str> {
        match self {
            Self::Event => Cow::Borrowed(topic),
            Self::Broadcast => Cow::Owned(format!("{topic}{COMPANION}")),
        }
    }
}

/// A header of a record. A record may have several headers of one name; Kafka
/// allows a header without a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name as it stands in the record.
    pub name: String,
    /// The value, any bytes; `None` for a header without one.
    pub value: Option<Bytes>,
}

/// A message: what a sender published and a handler gets to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The id, unique per source; `topic:partition:offset` for a record without an id.
    pub id: String,
    /// The primary key. A group handles messages of one key in order.
    pub key: Option<Bytes>,
    /// The sending service; empty when unknown.
    pub source: String,
    /// The topic it was published on.
    pub topic: String,
    /// What happened, for example `OrderCreated`; empty when unknown.
    pub type_name: String,
    /// Event or broadcast.
    pub kind: Kind,
    /// When the sender says it happened, otherwise when Kafka received the record.
    pub time: Timestamp,
    /// Media type of the body; empty when unknown.
    pub content_type: String,
    /// The body, as it came; empty for a tombstone.
    pub body: Bytes,
    /// Whether the record has no value (a tombstone), by which a compacted topic
    /// forgets the key.
    pub is_tombstone: bool,
    /// The number of handlers in the chain that led to this message: 0 when a
    /// sender published it, one more than its cause when a handler published it or
    /// when it is a dead letter.
    pub hops: u32,
    /// The headers that are not one of the fields above, in the record's order.
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
