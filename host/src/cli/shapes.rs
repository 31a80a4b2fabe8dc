//! The responses of the API, as far as tables show them.
//!
//! Fields that a table can do without are optional, so that older and newer hosts
//! can be called too.

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
pub(super) struct ShownPage<T> {
    pub items: Vec<T>,
    #[serde(default)]
    pub next: Option<String>,
    #[serde(default)]
    pub truncated: bool,
    /// Why matching entries may be missing.
    pub not_recorded: Option<ShownNotListed>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ShownNotListed {
    pub why: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct ShownReceipt {
    pub id: String,
    pub state: String,
    #[serde(default)]
    pub retrying: Option<bool>,
    pub warning: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Message {
    pub id: String,
    pub key: Option<String>,
    pub key_base64: Option<String>,
    pub source: Option<String>,
    /// Empty when nothing is recorded of the id.
    #[serde(default)]
    pub topic: String,
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    pub kind: Option<String>,
    pub time: Option<String>,
    pub state: String,
    pub reason: Option<String>,
    pub retrying: Option<bool>,
    pub partition: Option<i64>,
    pub offset: Option<i64>,
    pub headers: Option<Value>,
    pub body: Option<Value>,
    pub body_base64: Option<String>,
    pub tombstone: Option<bool>,
    pub deliver_at: Option<String>,
    pub deliveries: Option<Vec<Delivery>>,
    pub warning: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Delivery {
    pub id: String,
    pub message_id: Option<String>,
    pub group: String,
    pub topic: String,
    pub partition: Option<i64>,
    pub offset: Option<i64>,
    pub key: Option<String>,
    pub key_base64: Option<String>,
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    pub state: String,
    pub verdict: Option<String>,
    pub reason: Option<String>,
    pub node: Option<String>,
    pub settled_at: Option<String>,
    pub next_attempt_at: Option<String>,
    pub attempts: Option<Vec<Attempt>>,
    pub settled_within: Option<ShownWindow>,
}

/// The time range in which a delivery without a row was handled.
#[derive(Debug, Deserialize)]
pub(super) struct ShownWindow {
    pub from: String,
    pub to: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Attempt {
    pub number: u64,
    pub version: Option<String>,
    pub node: Option<String>,
    pub started_at: Option<String>,
    pub finished_at: Option<String>,
    pub verdict: Option<String>,
    pub reason: Option<String>,
    pub log: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ShownGroup {
    pub group: String,
    pub state: Option<String>,
    pub paused: bool,
    pub why: Option<String>,
    #[serde(default)]
    pub bindings: Vec<Value>,
    #[serde(default)]
    pub partitions: Vec<ShownPartition>,
    pub open: Option<Open>,
    pub handled: Option<i64>,
    pub failed: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ShownPartition {
    pub topic: String,
    pub partition: i64,
    pub position: Option<i64>,
    pub end: Option<i64>,
    pub lag: Option<i64>,
    pub node: Option<String>,
    pub why: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Open {
    #[serde(default)]
    pub waiting: i64,
    #[serde(default)]
    pub push_fail: i64,
    #[serde(default)]
    pub retrying: i64,
    #[serde(default)]
    pub held: i64,
}

/// The response to an upload.
#[derive(Debug, Deserialize)]
pub(super) struct Upload {
    pub name: String,
    pub version: String,
    pub active: bool,
    #[serde(default)]
    pub imports: Vec<String>,
    pub wants: Option<Wants>,
}

/// The description that a handler's SDK puts into the component.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wants {
    pub name: String,
    pub world: String,
    pub group: String,
    pub topics: Vec<String>,
    pub types: Vec<String>,
    pub publishes: Vec<String>,
    /// The hosts that it calls over HTTP.
    pub http: Vec<String>,
    /// The parts of its context that it uses; `None` when its SDK does not say.
    pub uses: Option<Vec<String>>,
    /// The isolation that it asks for; empty for any.
    pub isolation: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct ShownPlugin {
    pub name: String,
    pub active: Option<String>,
    #[serde(default)]
    pub versions: Vec<ShownVersion>,
    #[serde(default)]
    pub activations: Vec<Activation>,
    #[serde(default)]
    pub comes_with_host: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct ShownVersion {
    pub version: String,
    pub size: Option<u64>,
    pub created_at: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Activation {
    pub version: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct ShownOutbox {
    pub name: String,
    pub table: String,
    pub state: String,
    pub why: Option<String>,
    pub pending: Option<i64>,
    pub oldest_at: Option<String>,
    pub relayed: i64,
    pub refused: i64,
    pub node: Option<String>,
}

/// The response to a seek.
#[derive(Debug, Deserialize)]
pub(super) struct ShownSeek {
    pub partitions: Vec<ShownMove>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ShownMove {
    pub partition: i64,
    pub from: i64,
    pub to: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Redrive {
    pub id: String,
    pub state: String,
    pub matched: Option<i64>,
    pub done: Option<i64>,
    pub handled: Option<i64>,
    pub failed: Option<i64>,
    pub skipped: Option<i64>,
    pub why: Option<String>,
    pub group: Option<String>,
    pub filter: Option<Value>,
    #[serde(default)]
    pub truncated: bool,
    pub sample: Option<Vec<Delivery>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Transaction {
    pub id: String,
    pub state: String,
    #[serde(default)]
    pub messages: Vec<ShownHalfMessage>,
    pub check_url: Option<String>,
    pub timeout: Option<String>,
    pub created_at: Option<String>,
    pub deadline: Option<String>,
    pub checks: Option<i64>,
    pub next_check_at: Option<String>,
    pub last_answer: Option<String>,
    pub reason: Option<String>,
    pub ended_at: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ShownHalfMessage {
    pub id: String,
    pub topic: String,
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    pub key: Option<String>,
    pub key_base64: Option<String>,
}
