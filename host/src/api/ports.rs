//! What the API asks of the rest of the host.
//!
//! Small traits, so that operations are tested without Kafka and Wasm. The
//! composition root gives the real ones. Methods return boxed futures by
//! `async_trait`, whose hand-written form is `BoxFuture`.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::{Message, Offset, Timestamp};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::problem::Problem;
pub use crate::publish::draft::{Draft, Problem as Refusal, Receipt};
use crate::store::{HalfRow, StoreError};

/// The send side.
#[async_trait]
pub trait Sender: Send + Sync + 'static {
    /// Takes drafts, in order; one receipt for each, in the same order.
    async fn send(&self, drafts: Vec<Draft>) -> Vec<Receipt>;
}

/// Half messages.
#[async_trait]
pub trait Transactions: Send + Sync + 'static {
    /// Stores messages that are sent if the transaction commits.
    async fn prepare(
        &self,
        messages: Vec<Draft>,
        check_url: Option<String>,
        timeout: Option<Duration>,
    ) -> Result<HalfRow, Problem>;

    /// The sender's transaction committed.
    async fn commit(&self, id: &str) -> Result<HalfRow, StoreError>;

    /// The sender's transaction rolled back.
    async fn roll_back(&self, id: &str) -> Result<HalfRow, StoreError>;
}

/// The bindings that run here, and what the host knows of their partitions.
#[async_trait]
pub trait Groups: Send + Sync + 'static {
    /// The bindings of the configuration in force.
    fn bindings(&self) -> Vec<BindingView>;

    /// Last offset + 1 of partitions, as far as it is known now.
    fn log_ends(&self) -> HashMap<(String, i32), Offset>;

    /// Something that a group waits for was written to the store: a delivery
    /// was asked for, a group was paused or resumed.
    fn wake(&self);

    /// Moves positions of a group. Going backward marks what lies between to
    /// run again.
    async fn seek(&self, seek: &Seek) -> Result<Vec<Sought>, Problem>;
}

/// A binding as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct BindingView {
    /// The consumer group.
    pub group: String,
    /// The topics it reads.
    pub topics: Vec<String>,
    /// The plugin, with its digest when the binding names one.
    pub plugin: String,
    /// The only types it handles; null means all.
    #[schema(required = true)]
    pub types: Option<Vec<String>>,
    /// `key`, `partition` or `none`.
    pub ordering: String,
    /// `message`, `batch` or `instance`.
    pub isolation: String,
    /// Attempts at once on each node.
    pub concurrency: u32,
    /// Whether it takes no deliveries now.
    pub paused: bool,
    /// Why it is paused.
    #[schema(required = true)]
    pub why: Option<String>,
}

/// A wish to move a group's positions in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seek {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// One partition, or all.
    pub partition: Option<i32>,
    /// Where to.
    pub to: SeekTo,
}

/// Where a seek goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// To this offset.
    Offset(Offset),
    /// To the first record that Kafka still has.
    Earliest,
    /// Past the last record.
    Latest,
    /// To the first record at or after a time.
    Time(Timestamp),
}

/// A position that was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sought {
    /// The partition.
    pub partition: i32,
    /// Where the position was.
    #[schema(value_type = i64)]
    pub from: Offset,
    /// Where it is.
    #[schema(value_type = i64)]
    pub to: Offset,
}

/// Uploading and activating plugins.
#[async_trait]
pub trait Plugins: Send + Sync + 'static {
    /// Checks, compiles and stores a component.
    async fn upload(&self, name: &str, wasm: Bytes, by: &str) -> Result<Uploaded, Problem>;

    /// Makes a stored version the active one, on every node.
    async fn activate(&self, name: &str, digest: &str, by: &str) -> Result<(), Problem>;
}

/// A version that was uploaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Uploaded {
    /// `sha256:<hex>`.
    pub version: String,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// What it says of itself.
    pub wants: Option<Value>,
}

/// Reading records again.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// The record at these coordinates; `None` when the log has none there.
    ///
    /// # Errors
    /// Why Kafka could not be asked, for people.
    async fn read(&self, topic: &str, partition: i32, offset: Offset) -> Result<Option<Message>, String>;

    /// The message of a record that the store kept in encoded form; `None`
    /// when these bytes are none. Its id means nothing when the record has
    /// none: whoever kept it knows the id.
    fn decode(&self, topic: &str, record: &[u8]) -> Option<Message>;
}

/// Whether the host is well.
#[async_trait]
pub trait Health: Send + Sync + 'static {
    /// What holds now.
    async fn ready(&self) -> Ready;
}

/// Whether the host can do its work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Ready {
    /// The store answers.
    pub store: bool,
    /// Its migrations are done.
    pub migrated: bool,
    /// Sends are accepted.
    pub accepting: bool,
    /// What is away without stopping the host, for example `kafka`.
    pub degraded: Vec<String>,
    /// Why something does not hold, for people.
    pub reasons: Vec<String>,
}

impl Ready {
    /// Whether the host should get requests.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.store && self.migrated && self.accepting
    }
}
