//! Messages, attempts and outgoing messages: plain data, with the fields of the
//! contract.

use std::time::{Duration, SystemTime};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Event, Failure, Key, Refusal};

/// The content type of every body that the SDK writes.
pub(crate) const JSON: &str = "application/json";

/// A message that was published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Unique per source; `topic:partition:offset` for a record without an id.
    pub id: String,
    /// The primary key: a group handles messages of one key in order.
    pub key: Option<Vec<u8>>,
    /// The sending service; empty when unknown.
    pub source: String,
    /// The topic that it was published on.
    pub topic: String,
    /// What happened, for example `OrderCreated`; empty when unknown.
    pub type_: String,
    /// Event or broadcast.
    pub kind: Kind,
    /// When it happened or Kafka received it, in microseconds since 1970.
    pub time: u64,
    /// Media type of `body`; empty when unknown.
    pub content_type: String,
    /// The body; `None` in a tombstone, a record without a value, by which the
    /// sender deletes its key.
    pub body: Option<Vec<u8>>,
    /// The other headers, in the order of the record.
    pub headers: Vec<Header>,
}

impl Message {
    /// Reads the body as an event. A body that does not parse is a rejection, since
    /// another attempt would read the same bytes. A tombstone is no event: a handler
    /// that wants tombstones takes an `Option` of its event.
    pub fn event<E: Event + DeserializeOwned>(&self) -> Result<E, Failure> {
        let Some(body) = &self.body else {
            return Err(Failure::reject(format!(
                "the message is a tombstone: it has no body, so it is no {0} (a handler of Option<{0}> takes it)",
                E::TYPE
            )));
        };
        serde_json::from_slice(body)
            .map_err(|problem| Failure::reject(format!("body is not a valid {}: {problem}", E::TYPE)))
    }

    /// The bytes of the body; empty for a tombstone.
    pub fn bytes(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_default()
    }

    /// The value of the first header of this name; `None` when there is no such
    /// header, or when it has no value.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|header| header.name == name).and_then(|header| header.value.as_deref())
    }
}

/// Who handles a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Each group handles it once, on one of its nodes.
    #[default]
    Event,
    /// Each node of each group handles it once.
    Broadcast,
}

/// One header of a message. A message may have several of one name; a value is
/// any bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: String,
    /// The value; `None` when the header has no value.
    pub value: Option<Vec<u8>>,
}

/// One invocation of the handler for one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The consumer group that the handler is bound in.
    pub group: String,
    /// The id of the delivery, the same for all its attempts: an idempotency key.
    pub delivery: String,
    /// The number of this invocation, from 1, including those that used up no attempt.
    pub number: u32,
    /// Attempts used up before this one.
    pub counted: u32,
    /// Attempts that the binding allows.
    pub max_attempts: u32,
    /// The partition of the record.
    pub partition: u32,
    /// The offset of the record.
    pub offset: u64,
    /// When the host ends this attempt if it has not returned, in microseconds
    /// since 1970. The time for which the host throttles the attempt, while the
    /// processors are busy, is added.
    pub deadline: u64,
}

impl Attempt {
    /// The least time until the host ends this attempt.
    pub fn time_left(&self) -> Duration {
        let deadline = SystemTime::UNIX_EPOCH + Duration::from_micros(self.deadline);
        deadline.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)
    }
}

/// A message that is published when the attempt succeeds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outgoing {
    /// The topic it goes to; the binding must grant it.
    pub topic: String,
    /// What happened, for example `StockReserved`.
    pub type_: String,
    /// The primary key: groups handle messages of one key in order.
    pub key: Option<Vec<u8>>,
    /// Media type of `body`; may be empty.
    pub content_type: String,
    /// The body; `None` makes the message a tombstone, which needs a key.
    pub body: Option<Vec<u8>>,
    /// Further headers, in this order.
    pub headers: Vec<Header>,
}

impl Outgoing {
    /// The message of an event; headers may be added.
    pub fn new<E: Event + Serialize>(event: &E) -> Result<Self, Refusal> {
        let body = serde_json::to_vec(event)
            .map_err(|problem| Refusal::Invalid(format!("{} cannot be written as JSON: {problem}", E::TYPE)))?;
        Ok(Outgoing {
            topic: E::TOPIC.into(),
            type_: E::TYPE.into(),
            key: event.key(),
            content_type: JSON.into(),
            body: Some(body),
            headers: Vec::new(),
        })
    }

    /// The tombstone for a key on an event's topic: on a compacted topic it deletes
    /// the messages of that key.
    pub fn tombstone<E: Event>(key: &(impl Key + ?Sized)) -> Self {
        Outgoing { topic: E::TOPIC.into(), type_: E::TYPE.into(), key: key.key(), ..Outgoing::default() }
    }

    /// Reads the body as an event, for tests. The body of a tombstone counts as
    /// empty.
    pub fn event<E: Event + DeserializeOwned>(&self) -> Result<E, serde_json::Error> {
        serde_json::from_slice(self.body.as_deref().unwrap_or_default())
    }
}
