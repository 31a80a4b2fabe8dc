//! A message and what became of it. Times are RFC 3339 with microseconds.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::State;

/// A message with its deliveries and their attempts.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct MessageView {
    /// Its id.
    pub id: String,
    /// The primary key.
    pub key: Option<String>,
    /// A key that is not text, in Base64.
    pub key_base64: Option<String>,
    /// The sending service.
    pub source: Option<String>,
    /// The topic.
    pub topic: String,
    /// What happened.
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    /// `event` or `broadcast`.
    pub kind: String,
    /// When the sender says it happened.
    pub time: String,
    /// Where it is.
    pub state: State,
    /// Why it is [`State::SendFail`].
    pub reason: Option<String>,
    /// Whether the host tries again by itself.
    pub retrying: bool,
    /// Where it is in Kafka.
    pub partition: Option<i32>,
    /// Where it is in its partition.
    pub offset: Option<i64>,
    /// Media type of the body.
    pub content_type: Option<String>,
    /// The headers.
    pub headers: Option<Map<String, Value>>,
    /// A body that is JSON.
    pub body: Option<Value>,
    /// Any other body, in Base64.
    pub body_base64: Option<String>,
    /// Why the body is not at hand.
    pub body_missing: Option<String>,
    /// When a delayed message is due.
    pub deliver_at: Option<String>,
    /// One for each group; for each node of it if it is a broadcast.
    #[serde(default)]
    pub deliveries: Vec<Delivery>,
    /// Other messages of the same id.
    #[serde(default)]
    pub also: Vec<PlaceView>,
    /// Why nobody will handle it, when no group takes such messages.
    pub warning: Option<String>,
}

/// Another message of the same id.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct PlaceView {
    /// The topic.
    pub topic: String,
    /// Where it is in Kafka.
    pub partition: Option<i32>,
    /// Where it is in its partition.
    pub offset: Option<i64>,
    /// The sending service.
    pub source: Option<String>,
    /// When the sender says it happened.
    pub time: Option<String>,
    /// When the host took it.
    pub created_at: Option<String>,
    /// Where it is.
    pub state: String,
}

/// Which of the messages of one id is meant; those that differ have another topic or source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Which<'a> {
    /// Its topic; any without it.
    pub topic: Option<&'a str>,
    /// The sending service; any without it.
    pub source: Option<&'a str>,
}

/// One message for one group.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Delivery {
    /// Opaque.
    pub id: String,
    /// The group.
    pub group: String,
    /// COMMITTED, PUSH_FAIL, HANDLE_FAIL or HANDLED.
    pub state: String,
    /// What the last attempt concluded.
    pub verdict: Option<String>,
    /// Why, in the handler's words.
    pub reason: Option<String>,
    /// The node that worked on it last.
    pub node: Option<String>,
    /// When it became final.
    pub settled_at: Option<String>,
    /// When it runs again; none means final, or that its turn has not come.
    pub next_attempt_at: Option<String>,
    /// Every invocation that is known, by number.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
}

/// One run of a handler.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Attempt {
    /// Counts invocations from 1.
    pub number: u32,
    /// Whether it used up one of `max_attempts`.
    pub counted: bool,
    /// The plugin version.
    pub version: Option<String>,
    /// The node.
    pub node: String,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub finished_at: String,
    /// What it concluded.
    pub verdict: String,
    /// Why.
    pub reason: Option<String>,
    /// What the handler logged.
    pub log: Option<String>,
}
