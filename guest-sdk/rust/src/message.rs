//! What a handler is sent and what it sends: messages, attempts, outgoing
//! messages. Plain data; the meaning of each field is that of the contract.

use std::time::{Duration, SystemTime};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Event, Failure, Key, Refusal};

/// The content type of every body that the SDK writes.
pub(crate) const JSON: &str = "application/json";

/// A message as it stands in the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Unique per source; `topic:partition:offset` for records without one.
    pub id: String,
    /// The primary key: messages of one key are handled in order.
    pub key: Option<Vec<u8>>,
    /// The sending service; empty when unknown.
    pub source: String,
    /// The topic it was read from.
    pub topic: String,
    /// What happened, for example `OrderCreated`; empty when unknown.
    pub type_: String,
    /// What the sender meant it to be.
    pub kind: Kind,
    /// When the sender says it happened, in microseconds since 1970.
    pub time: u64,
    /// Media type of `body`; empty when unknown.
    pub content_type: String,
    /// The body as it came; none in a tombstone, a record without a value,
    /// which says that what its key stood for is gone.
    pub body: Option<Vec<u8>>,
    /// All other headers, in the order of the record.
    pub headers: Vec<Header>,
}

impl Message {
    /// Reads the body as an event; one that does not parse is rejected, since
    /// another attempt would read the same bytes. A tombstone is no event: a
    /// handler that wants to hear of it takes an `Option` of its event.
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

    /// The bytes of the body; those of a tombstone are empty.
    pub fn bytes(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_default()
    }

    /// The value of the first header of this name; none when there is no such
    /// header, or when it has no value.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|header| header.name == name).and_then(|header| header.value.as_deref())
    }
}

/// What the sender meant a message to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Each group handles it once.
    #[default]
    Event,
    /// Each node of each group handles it once.
    Broadcast,
}

/// One header of a message. Names may repeat; values may be any bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The name as it came.
    pub name: String,
    /// The value as it came; none when the header has no value.
    pub value: Option<Vec<u8>>,
}

/// One invocation of the handler for one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The consumer group this handler is bound in.
    pub group: String,
    /// Identifies the delivery over all its attempts: a good idempotency key.
    pub delivery: String,
    /// Counts invocations from 1, also those that used up no attempt.
    pub number: u32,
    /// Attempts used up before this one.
    pub counted: u32,
    /// Attempts the binding allows.
    pub max_attempts: u32,
    /// The partition of the message.
    pub partition: u32,
    /// The offset of the message.
    pub offset: u64,
    /// When the host ends this attempt if it has not returned, in microseconds
    /// since 1970; later by as long as the host itself held it back, which it
    /// does while the processors are too busy.
    pub deadline: u64,
}

impl Attempt {
    /// How long the host will still wait for this attempt at least.
    pub fn time_left(&self) -> Duration {
        let deadline = SystemTime::UNIX_EPOCH + Duration::from_micros(self.deadline);
        deadline.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)
    }
}

/// A message to be published when the attempt succeeds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outgoing {
    /// The topic it goes to; the binding must grant it.
    pub topic: String,
    /// What happened, for example `StockReserved`.
    pub type_: String,
    /// The primary key: messages of one key are handled in order.
    pub key: Option<Vec<u8>>,
    /// Media type of `body`.
    pub content_type: String,
    /// The body as it will stand in the log; none makes it a tombstone, which
    /// needs a key.
    pub body: Option<Vec<u8>>,
    /// Further headers.
    pub headers: Vec<Header>,
}

impl Outgoing {
    /// The message that an event makes; headers may be added to it.
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

    /// The tombstone of an event's topic for a key: on a compacted topic it
    /// deletes what was published under that key.
    pub fn tombstone<E: Event>(key: &(impl Key + ?Sized)) -> Self {
        Outgoing { topic: E::TOPIC.into(), type_: E::TYPE.into(), key: key.key(), ..Outgoing::default() }
    }

    /// Reads the body back as an event, as a test wants to. That of a tombstone
    /// is empty.
    pub fn event<E: Event + DeserializeOwned>(&self) -> Result<E, serde_json::Error> {
        serde_json::from_slice(self.body.as_deref().unwrap_or_default())
    }
}
