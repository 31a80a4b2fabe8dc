//! The shapes of the HTTP API, as a program outside this project reads them.
//!
//! They are written down a second time on purpose: a change of the host that would
//! break such a program breaks these first.

use courier_core::status::State;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// One page of a list.
#[derive(Clone, Debug, Deserialize)]
pub struct Page<T> {
    /// The items of the page.
    pub items: Vec<T>,
    /// The cursor of the next page.
    pub next: Option<String>,
    /// Whether a bounded search ended before its end.
    pub truncated: bool,
}

/// The answer for one published message.
#[derive(Clone, Debug, Deserialize)]
pub struct Accepted {
    /// The message's id; a refused message may have none.
    pub id: Option<String>,
    /// Its state.
    pub state: State,
    /// Whether the host tries again by itself.
    #[serde(default)]
    pub retrying: Option<bool>,
    /// Why it was refused.
    #[serde(default)]
    pub problem: Option<Value>,
}

impl Accepted {
    /// The id; panics for a refused message.
    #[must_use]
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_else(|| panic!("the answer has no id: {self:?}"))
    }

    /// Whether it is on Kafka or about to be: the answer does not wait for long, and the
    /// host sends a message again that Kafka had not acknowledged by then.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.state == State::Committed || self.retrying == Some(true)
    }
}

/// A message with its deliveries.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Message {
    pub id: String,
    pub key: Option<String>,
    pub source: Option<String>,
    pub topic: String,
    #[serde(rename = "type")]
    pub kind_of_event: Option<String>,
    pub kind: String,
    pub time: Option<Timestamp>,
    pub state: State,
    pub reason: Option<String>,
    pub retrying: Option<bool>,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    pub headers: Value,
    #[serde(default)]
    pub body: Option<Value>,
    #[serde(default)]
    pub body_base64: Option<String>,
    pub deliver_at: Option<Timestamp>,
    /// Null in a list; a message that is requested by its id has them.
    #[serde(deserialize_with = "none_is_empty")]
    pub deliveries: Vec<Delivery>,
}

fn none_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Delivery>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// One message for one group.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Delivery {
    pub id: String,
    pub message_id: String,
    pub group: String,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    #[serde(default)]
    pub key: Option<String>,
    #[serde(default)]
    pub key_base64: Option<String>,
    #[serde(rename = "type")]
    pub kind_of_event: Option<String>,
    pub state: State,
    pub verdict: Option<String>,
    pub reason: Option<String>,
    pub fingerprint: Option<String>,
    pub node: Option<String>,
    pub received_at: Option<Timestamp>,
    pub settled_at: Option<Timestamp>,
    pub next_attempt_at: Option<Timestamp>,
    pub attempts: Vec<Attempt>,
}

impl Delivery {
    /// Whether it is finished unless a person acts.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self.state {
            State::Handled => true,
            State::HandleFail => self.next_attempt_at.is_none(),
            State::SendFail | State::Committed | State::PushFail => false,
        }
    }

    /// State, reason and number of attempts, for the message of a failed check.
    #[must_use]
    pub fn brief(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or("no reason");
        format!(
            "{} in {} is {} ({reason}) after {} attempts",
            self.message_id,
            self.group,
            self.state,
            self.attempts.len()
        )
    }
}

/// One invocation of a handler.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Attempt {
    pub number: u32,
    pub counted: bool,
    pub version: Option<String>,
    pub node: Option<String>,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub verdict: String,
    pub reason: Option<String>,
    pub fingerprint: Option<String>,
    pub log: Option<String>,
}

/// A consumer group.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Group {
    pub group: String,
    #[serde(default)]
    pub state: Option<String>,
    pub paused: bool,
    pub why: Option<String>,
    #[serde(default)]
    pub cause: Option<Value>,
    pub bindings: Vec<Value>,
    pub partitions: Vec<GroupPartition>,
    pub open: Open,
    pub handled: u64,
    pub failed: u64,
}

impl Group {
    /// The number of records without a delivery of this group so far.
    #[must_use]
    pub fn lag(&self) -> i64 {
        self.partitions.iter().map(|partition| partition.lag.unwrap_or(0)).sum()
    }

    /// The nodes that own its partitions, each once.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        let mut nodes: Vec<String> = self.partitions.iter().filter_map(|partition| partition.node.clone()).collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }
}

/// A group's progress in one partition.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct GroupPartition {
    pub topic: String,
    pub partition: i32,
    pub position: Option<i64>,
    pub end: Option<i64>,
    pub lag: Option<i64>,
    pub node: Option<String>,
}

/// Numbers of unfinished deliveries, by what they wait for.
#[derive(Clone, Copy, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Open {
    pub waiting: u64,
    pub push_fail: u64,
    pub retrying: u64,
    pub held: u64,
}

impl Open {
    /// Their sum.
    #[must_use]
    pub fn total(self) -> u64 {
        self.waiting + self.push_fail + self.retrying + self.held
    }
}
