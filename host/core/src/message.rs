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
    /// Every header that is not one of the fields above, in the record's order.
    pub headers: Vec<Header>,
}
