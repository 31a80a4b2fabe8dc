//! A message as a sender gives it, and the rules that it must keep.
//!
//! Pure: these rules are checked before Kafka or the store are asked, so an
//! unknown topic is not found here.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use courier_core::message::{Header, Kind, Message, Timestamp, is_internal_topic};
use courier_core::status::State;
use sha2::{Digest, Sha256};

pub use super::header_rules::reserved_header;
use super::header_rules::{wrong_content_type, wrong_headers, wrong_type};
pub use super::names::{MAX_HEADERS, MAX_NAME_CHARS, valid_id};
use super::names::{shown, valid_name};
pub use super::receipt::{Receipt, SendProblem, SendProblemKind};
use crate::kafka::producer::MAX_RECORD_BYTES;
use crate::kafka::record::{Record, shard_of};
use crate::store::{Due, Identity, NewMessage, NewOutbound, REFUSED_BODY_BYTES, SHARDS, SentBy};

/// Longest topic name that Kafka takes.
pub const MAX_TOPIC_BYTES: usize = 249;
/// Longest key: longer ones would not fit the stores' indexes.
pub const MAX_KEY_BYTES: usize = 1_024;
/// What the broker adds to a record that is alone in its batch.
pub(super) const BATCH_OVERHEAD: usize = 128;
/// Largest message with key and headers by default: the default limit of a
/// broker.
pub const MAX_MESSAGE_BYTES: usize = MAX_RECORD_BYTES - BATCH_OVERHEAD;
/// Longest wait of a delayed message: a hundred years.
pub const MAX_DELAY: Duration = Duration::from_secs(100 * 366 * 86_400);
/// Headers that differ between two sends of one message, and are no part of its
/// digest.
const TRACING: [&str; 2] = ["traceparent", "tracestate"];

/// A message before it is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// The topic.
    pub topic: String,
    /// What happened.
    pub type_name: String,
    pub key: Option<Bytes>,
    /// The sending service; empty when unknown.
    pub source: String,
    /// The sender's id; `None` lets Courier make one.
    pub id: Option<String>,
    /// Event or broadcast.
    pub kind: Kind,
    /// Media type of the body; empty when unknown.
    pub content_type: String,
    /// The body, any bytes; empty for a tombstone.
    pub body: Bytes,
    /// Whether its record has no value.
    pub is_tombstone: bool,
    /// Other headers.
    pub headers: Vec<Header>,
    /// When it happened; `None` means now.
    pub time: Option<Timestamp>,
    /// A problem that the parser found already. The message is stored as
    /// SEND_FAIL with this reason.
    pub fault: Option<SendProblem>,
    /// When it is delivered; `None` means now.
    pub deliver_at: Option<Timestamp>,
    /// The delay by the store's clock, instead of `deliver_at`.
    pub delay: Option<Duration>,
    /// The sender, if known.
    pub sent_by: Option<SentBy>,
}

/// A message that passed the rules.
#[derive(Clone, Debug)]
pub(super) struct SendableMessage {
    /// The message, with its id and time.
    pub message: Message,
    /// Its record.
    pub record: Record,
    /// Whether its row is written before it is sent, because the sender chose
    /// the id.
    pub named: bool,
    /// The digest of its content, equal for a repetition.
    pub digest: [u8; 32],
    /// When it is due, for a delayed message.
    pub due: Option<Due>,
    /// Who hands it in, when that is known.
    pub sent_by: Option<SentBy>,
}

/// The prefix of ids that outbox rows without an id get. Senders may not use
/// it: such an id could be guessed, and its row replaced.
pub const OUTBOX_IDS: &str = "outbox:";

impl Draft {
    /// Checks the draft and gives it an id and a time.
    pub(super) fn ready(
        self,
        now: Timestamp,
        max_bytes: usize,
    ) -> Result<SendableMessage, (Box<NewMessage>, SendProblem)> {
        let (digest, named) = (digest(&self), self.id.is_some());
        let wrong = self.fault.clone().or_else(|| self.wrong(now));
        let due = self.due();
        let id = match &self.id {
            Some(id) if valid_id(id) => id.clone(),
            _ => new_id(),
        };
        let message = Message {
            id,
            key: self.key,
            source: self.source,
            topic: self.topic,
            type_name: self.type_name,
            kind: self.kind,
            time: self.time.unwrap_or(now),
            content_type: self.content_type,
            body: self.body,
            is_tombstone: self.is_tombstone,
            // A message of a sender was caused by no other.
            hops: 0,
            headers: self.headers,
        };
        let sent_by = self.sent_by;
        if let Some(problem) = wrong {
            let row = NewMessage { sent_by, ..refused(&message, digest, &problem.detail) };
            return Err((Box::new(row), problem));
        }
        let record = Record::from_message(&message);
        let ready = SendableMessage { message, record, named, digest, due, sent_by };
        let size = ready.record.size();
        if size > max_bytes {
            let problem = SendProblem::too_large(format!(
                "the message has {size} bytes with its key and headers; at most {max_bytes} are taken"
            ));
            return Err((Box::new(ready.refused(&problem.detail)), problem));
        }
        Ok(ready)
    }

    /// Whether its id is reserved in the store first.
    pub(super) fn reserves(&self) -> bool {
        self.id.is_some() && self.due().is_none()
    }

    /// When it is due; a delay of zero is no delay.
    pub(super) fn due(&self) -> Option<Due> {
        let delay = self.delay.filter(|delay| !delay.is_zero()).map(Due::After);
        self.deliver_at.map(Due::At).or(delay)
    }

    /// The first rule that the draft breaks, if it breaks any.
    pub(super) fn wrong(&self, now: Timestamp) -> Option<SendProblem> {
        if self.topic.is_empty() {
            return Some(SendProblem::invalid(
                "it names no topic: write `topic` in it, or ?topic= in the request's address",
            ));
        }
        if !valid_topic(&self.topic) {
            return Some(SendProblem::invalid(format!(
                "topic {:?} is not valid: 1 to {MAX_TOPIC_BYTES} of a-z, A-Z, 0-9, '.', '_' and '-', and not '.' or '..'",
                shown(&self.topic)
            )));
        }
        if is_internal_topic(&self.topic) {
            return Some(internal(&self.topic));
        }
        if self.kind.log_topic(&self.topic).len() > MAX_TOPIC_BYTES {
            return Some(SendProblem::invalid(format!(
                "topic {:?} is too long to be broadcast on: with `.broadcast` after it, it has at most \
                 {MAX_TOPIC_BYTES} characters",
                shown(&self.topic)
            )));
        }
        if let Some(problem) = wrong_type(&self.type_name) {
            return Some(problem);
        }
        if let Some(id) = self.id.as_ref().filter(|id| !valid_id(id)) {
            return Some(SendProblem::invalid(format!(
                "id {:?} is not valid: 1 to {MAX_NAME_CHARS} characters without control characters, and not `.` or `..`",
                shown(id)
            )));
        }
        if !self.source.is_empty() && !valid_name(&self.source) {
            return Some(SendProblem::invalid(format!(
                "source {:?} is not valid: at most {MAX_NAME_CHARS} characters without control characters",
                shown(&self.source)
            )));
        }
        if let Some(problem) = wrong_content_type(&self.content_type) {
            return Some(problem);
        }
        if let Some(key) = self.key.as_ref().filter(|key| key.len() > MAX_KEY_BYTES) {
            let size = key.len();
            return Some(SendProblem::invalid(format!("the key has {size} bytes; at most {MAX_KEY_BYTES} are taken")));
        }
        if self.delay.is_some() && self.deliver_at.is_some() {
            return Some(SendProblem::invalid("it has both `delay` and `deliver_at`; write one of them"));
        }
        let wait = self.deliver_at.map_or(self.delay, |at| Some(at.since(now)));
        if wait.is_some_and(|wait| wait > MAX_DELAY) {
            return Some(SendProblem::invalid("it is due in more than a hundred years; that is the longest delay"));
        }
        if self.is_tombstone && !self.body.is_empty() {
            return Some(SendProblem::invalid("a tombstone has no body; leave the body out, or the tombstone"));
        }
        wrong_headers(&self.headers)
    }
}

impl SendableMessage {
    /// The identity of the message.
    pub(super) fn identity(&self) -> Identity {
        Identity::new(&self.message.topic, &self.message.source, &self.message.id)
    }

    /// Its topic in Kafka.
    pub(super) fn log_topic(&self) -> Cow<'_, str> {
        self.message.kind.log_topic(&self.message.topic)
    }

    /// The row of a message that is in Kafka.
    pub(super) fn committed(&self, place: (i32, courier_core::message::Offset)) -> NewMessage {
        let sent_by = self.sent_by.clone();
        NewMessage { place: Some(place), sent_by, ..row(&self.message, self.digest, State::Committed) }
    }

    /// The row of a message for the relay, which leaves it alone for
    /// `held_for`, while a direct send may still succeed.
    pub(super) fn owed(&self, reason: &str, held_for: Option<std::time::Duration>) -> NewMessage {
        let message = &self.message;
        let topic = self.log_topic();
        let outbound = NewOutbound {
            message_id: message.id.clone(),
            shard: shard_of(&topic, message.key.as_deref(), &message.id, SHARDS),
            topic: topic.into_owned(),
            type_name: message.type_name.clone(),
            source: message.source.clone(),
            key: message.key.clone(),
            record: self.record.encode(),
            held_for,
            listed: true,
            group: None,
        };
        NewMessage {
            due: self.due,
            reason: Some(reason.to_owned()),
            retrying: true,
            outbound: Some(outbound),
            sent_by: self.sent_by.clone(),
            ..row(message, self.digest, State::SendFail)
        }
    }

    /// The row of a delayed message: accepted, and not in Kafka yet.
    pub(super) fn delayed(&self) -> NewMessage {
        NewMessage { state: State::Committed, reason: None, retrying: false, ..self.owed("", None) }
    }

    /// The row of a message that will never be sent.
    pub(super) fn refused(&self, reason: &str) -> NewMessage {
        NewMessage { sent_by: self.sent_by.clone(), ..refused(&self.message, self.digest, reason) }
    }

    /// The part of its body that is kept when Kafka refuses it.
    pub(super) fn kept_body(&self) -> Bytes {
        kept_body(&self.message)
    }
}

/// The part of the body that is kept of a refused message.
fn kept_body(message: &Message) -> Bytes {
    message.body.slice(..message.body.len().min(REFUSED_BODY_BYTES))
}

fn refused(message: &Message, digest: [u8; 32], reason: &str) -> NewMessage {
    let kept = kept_body(message);
    NewMessage { reason: Some(reason.to_owned()), record: Some(kept), ..row(message, digest, State::SendFail) }
}

/// The row of a message. Names that are too long are cut.
fn row(message: &Message, digest: [u8; 32], state: State) -> NewMessage {
    NewMessage {
        id: message.id.clone(),
        digest,
        key: message.key.as_ref().map(|key| key.slice(..key.len().min(MAX_KEY_BYTES))),
        source: shown(&message.source).to_owned(),
        topic: shown(&message.topic).to_owned(),
        type_name: shown(&message.type_name).to_owned(),
        kind: message.kind.as_str(),
        time: message.time,
        state,
        reason: None,
        retrying: false,
        place: None,
        record: None,
        outbound: None,
        due: None,
        sent_by: None,
    }
}

/// A new id. Version 7 begins with the time, so that rows of one moment lie
/// together in the stores' indexes.
pub(super) fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// The fault of a message for one of Kafka's own topics.
pub(super) fn internal(topic: &str) -> SendProblem {
    SendProblem::invalid(format!("topic {topic:?} is one of Kafka's own: nothing can be published on it"))
}

/// Whether Kafka takes a topic of this name.
#[must_use]
pub fn valid_topic(topic: &str) -> bool {
    let taken = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_TOPIC_BYTES).contains(&topic.len()) && topic.bytes().all(taken) && topic != "." && topic != ".."
}

/// SHA-256 of everything that a repetition must repeat. The length of each part
/// precedes it, so that two messages never have the same input.
pub(super) fn digest(draft: &Draft) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |part: Option<&[u8]>| {
        let length = part.map_or(u64::MAX, |part| u64::try_from(part.len()).unwrap_or(u64::MAX - 1));
        hash.update(length.to_le_bytes());
        hash.update(part.unwrap_or_default());
    };
    for text in [&draft.topic, &draft.type_name, &draft.source, &draft.content_type] {
        add(Some(text.as_bytes()));
    }
    add(Some(draft.kind.as_str().as_bytes()));
    add(draft.key.as_deref());
    add(draft.time.map(|time| time.0.to_le_bytes()).as_ref().map(<[u8; 8]>::as_slice));
    // Only for a delayed message, so that digests from before there were any
    // stay valid. No header name begins with NUL.
    if let Some(due) = draft.due() {
        let (word, number) = match due {
            Due::At(time) => (&b"\0at"[..], i128::from(time.0)),
            Due::After(wait) => (&b"\0after"[..], i128::try_from(wait.as_micros()).unwrap_or(i128::MAX)),
        };
        add(Some(word));
        add(Some(&number.to_le_bytes()));
    }
    add((!draft.is_tombstone).then_some(&*draft.body));
    for header in &draft.headers {
        if !TRACING.iter().any(|name| header.name.eq_ignore_ascii_case(name)) {
            add(Some(header.name.as_bytes()));
            add(header.value.as_deref());
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::SendProblemKind::{Invalid, TooLarge};
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    fn draft() -> Draft {
        Draft {
            topic: "order".to_owned(),
            type_name: "OrderCreated".to_owned(),
            body: Bytes::from_static(b"{}"),
            ..Draft::default()
        }
    }

    fn header(name: &str, value: &str) -> Header {
        Header { name: name.to_owned(), value: Some(Bytes::copy_from_slice(value.as_bytes())) }
    }

    #[test]
    fn a_plain_message_is_ready() {
        let ready = draft().ready(NOW, MAX_MESSAGE_BYTES).unwrap();
        assert!(!ready.named && ready.message.time == NOW);
        let other = draft().ready(NOW, MAX_MESSAGE_BYTES).unwrap();
        assert_ne!(ready.message.id, other.message.id);
        assert_eq!(ready.digest, other.digest);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = "x".repeat(256);
        for (draft, kind, said) in [
            (Draft { topic: String::new(), ..draft() }, Invalid, "it names no topic"),
            (Draft { topic: "a b".to_owned(), ..draft() }, Invalid, "topic \"a b\""),
            (Draft { topic: "..".to_owned(), ..draft() }, Invalid, "topic \"..\""),
            (Draft { topic: "t".repeat(250), ..draft() }, Invalid, "topic"),
            (Draft { type_name: String::new(), ..draft() }, Invalid, "it has no type"),
            (Draft { type_name: long.clone(), ..draft() }, Invalid, "type"),
            (Draft { id: Some(String::new()), ..draft() }, Invalid, "id"),
            (Draft { id: Some("a\nb".to_owned()), ..draft() }, Invalid, "id \"a\\nb\""),
            (Draft { source: long, ..draft() }, Invalid, "source"),
            (Draft { content_type: "a\0".to_owned(), ..draft() }, Invalid, "content type"),
            (Draft { key: Some(Bytes::from(vec![0; 1_025])), ..draft() }, Invalid, "key has 1025 bytes"),
            (Draft { headers: vec![header("", "x")], ..draft() }, Invalid, "header \"\""),
            (Draft { topic: "__consumer_offsets".to_owned(), ..draft() }, Invalid, "one of Kafka's own"),
            (Draft { headers: vec![header("courier_hops", "1")], ..draft() }, Invalid, "how often one message led"),
            (Draft { headers: vec![header("CE_Time", "x")], ..draft() }, Invalid, "`CE_Time` belongs to Courier"),
            (Draft { headers: vec![header("content-type", "x")], ..draft() }, Invalid, "is given twice"),
            (Draft { is_tombstone: true, ..draft() }, Invalid, "a tombstone has no body"),
            (
                Draft { content_type: "Application/CloudEvents+json; charset=utf-8".to_owned(), ..draft() },
                Invalid,
                "the body is a whole CloudEvent",
            ),
            (
                Draft { content_type: " application/cloudevents+json".to_owned(), ..draft() },
                Invalid,
                "the body is a whole CloudEvent",
            ),
            (
                Draft { content_type: "\u{2003}application/cloudevents-batch+json ;a=b".to_owned(), ..draft() },
                Invalid,
                "the body is a whole CloudEvent",
            ),
            (Draft { id: Some("..".to_owned()), ..draft() }, Invalid, "not `.` or `..`"),
            (Draft { headers: vec![header("h", ""); 101], ..draft() }, Invalid, "101 headers"),
            (
                Draft { delay: Some(Duration::from_secs(1)), deliver_at: Some(NOW), ..draft() },
                Invalid,
                "both `delay` and `deliver_at`",
            ),
            (Draft { delay: Some(MAX_DELAY + Duration::from_millis(1)), ..draft() }, Invalid, "hundred years"),
            (Draft { deliver_at: Some(Timestamp(i64::MAX)), ..draft() }, Invalid, "hundred years"),
            (Draft { body: Bytes::from(vec![0; MAX_MESSAGE_BYTES]), ..draft() }, TooLarge, "bytes with its key"),
        ] {
            let (row, problem) = draft.ready(NOW, MAX_MESSAGE_BYTES).unwrap_err();
            assert_eq!(problem.kind, kind, "{problem:?}");
            assert!(problem.detail.contains(said), "{problem:?}");
            assert_eq!((row.state, row.retrying, row.outbound.is_none()), (State::SendFail, false, true));
            assert!(row.record.unwrap().len() <= REFUSED_BODY_BYTES);
            assert!(row.topic.len() <= MAX_NAME_CHARS && valid_id(&row.id));
        }
    }

    #[test]
    fn names_at_their_limit_are_taken() {
        let draft = Draft {
            topic: "t".repeat(249),
            type_name: "é".repeat(255),
            id: Some("é".repeat(255)),
            key: Some(Bytes::from(vec![0; 1_024])),
            ..draft()
        };
        assert!(draft.ready(NOW, MAX_MESSAGE_BYTES).is_ok());
    }

    #[test]
    fn a_repeated_message_is_the_same_whatever_traces_it() {
        let traced = Draft { headers: vec![header("TraceParent", "1")], ..draft() };
        assert_eq!(digest(&draft()), digest(&traced));
        let differing = [
            Draft { topic: "orders".to_owned(), ..draft() },
            Draft { key: Some(Bytes::new()), ..draft() },
            Draft { kind: Kind::Broadcast, ..draft() },
            Draft { time: Some(NOW), ..draft() },
            Draft { headers: vec![header("a", "b")], ..draft() },
            Draft { delay: Some(Duration::from_secs(1)), ..draft() },
            Draft { deliver_at: Some(NOW), ..draft() },
            Draft { topic: "orde".to_owned(), type_name: "rOrderCreated".to_owned(), ..draft() },
            Draft { body: Bytes::new(), ..draft() },
        ];
        for other in differing {
            assert_ne!(digest(&draft()), digest(&other), "{other:?}");
        }
        let empty = Draft { body: Bytes::new(), ..draft() };
        assert_ne!(digest(&empty), digest(&Draft { is_tombstone: true, ..empty.clone() }));
    }
}
