//! The parts of the host that the API uses, as small traits, so that operations are
//! tested without Kafka and Wasm. The composition root implements them.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::{Header, Message, Offset, Timestamp};

use super::problem::Problem;
pub use crate::app::binding_view::{BindingView, CircuitView, GrantView, PolicyView, RetryView};
pub use crate::app::groups::ParkedFull;
pub use crate::app::readiness_report::{Degraded, Note, ReadinessReport};
pub use crate::app::seek::{MovedPosition, SeekRequest, SeekTo};
pub use crate::app::upload_plugin::Uploaded;
pub use crate::publish::draft::{
    Draft, OUTBOX_IDS, Receipt, SendProblem, SendProblemKind, reserved_header, valid_topic,
};
pub use crate::publish::header_rules::{self, BASE64};
pub use crate::publish::transactions::EndedBy;
use crate::store::{DeliveryKey, HalfRow, StoreError};

/// The send side.
#[async_trait]
pub trait SenderPort: Send + Sync + 'static {
    /// Takes drafts and returns a receipt for each, in the same order.
    async fn send(&self, drafts: Vec<Draft>) -> Vec<Receipt>;

    /// Why no message can be sent to a topic, as far as is known now.
    async fn refuses_topic(&self, topic: &str) -> Option<SendProblem>;
}

/// Half messages.
#[async_trait]
pub trait TransactionsPort: Send + Sync + 'static {
    /// Stores messages that are sent if the transaction commits.
    async fn prepare(
        &self,
        messages: Vec<Draft>,
        check_url: Option<String>,
        timeout: Option<Duration>,
    ) -> Result<HalfRow, Problem>;

    /// Commits a transaction, in the name of `by`.
    async fn commit(&self, id: &str, by: &EndedBy) -> Result<HalfRow, StoreError>;

    /// Rolls a transaction back, in the name of `by`.
    async fn roll_back(&self, id: &str, by: &EndedBy) -> Result<HalfRow, StoreError>;
}

/// The bindings of this host and their partitions.
#[async_trait]
pub trait GroupsPort: Send + Sync + 'static {
    /// The bindings of the configuration in force.
    fn bindings(&self) -> Vec<BindingView>;

    /// The last offset + 1 of partitions, as far as it is known now.
    fn log_ends(&self) -> HashMap<(String, i32), Offset>;

    /// Partitions of this node that stand still because they have as many parked
    /// deliveries as they may.
    fn parked_full(&self) -> Vec<ParkedFull>;

    /// Makes groups read the store now, because a rerun was requested, a redrive was
    /// started, or a group was paused or resumed.
    fn wake(&self);

    /// Whether an attempt of an open delivery runs on this node now.
    fn is_running(&self, delivery: &DeliveryKey) -> bool;

    /// Moves positions of a group. Moving back marks the records in between to run
    /// again.
    async fn seek(&self, seek: &SeekRequest) -> Result<Vec<MovedPosition>, Problem>;
}

/// The outboxes of senders.
pub trait OutboxesPort: Send + Sync + 'static {
    /// The outboxes of the configuration in force.
    fn configured(&self) -> Vec<OutboxView>;
}

/// An outbox as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxView {
    /// Its name.
    pub name: String,
    /// The sender's database: scheme, user, host, port and database.
    pub url: String,
    /// The table.
    pub table: String,
    /// The relay shard whose holder reads the table.
    pub shard: i32,
}

/// Uploads and activations of plugins.
#[async_trait]
pub trait PluginsPort: Send + Sync + 'static {
    /// Checks, compiles and stores a component.
    async fn upload(&self, name: &str, wasm: Bytes, by: &str) -> Result<Uploaded, Problem>;

    /// Activates a stored version, on every node.
    async fn activate(&self, name: &str, digest: &str, by: &str) -> Result<(), Problem>;

    /// The plugins that are built into the host.
    fn builtin(&self) -> Vec<BuiltinPlugin>;
}

/// A plugin that is built into the host. It runs unless a plugin of its name was
/// uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltinPlugin {
    /// Its name.
    pub name: String,
    /// The version that is shown.
    pub version: String,
}

/// Reads records from Kafka.
#[async_trait]
pub trait LogPort: Send + Sync + 'static {
    /// The record at these coordinates; `None` when the log has none there.
    ///
    /// # Errors
    /// Why Kafka could not be asked, for people.
    async fn read(&self, topic: &str, partition: i32, offset: Offset) -> Result<Option<Message>, String>;

    /// The first offset of a partition, and the one after its last.
    ///
    /// # Errors
    /// Why Kafka could not be asked, for people.
    async fn range(&self, topic: &str, partition: i32) -> Result<(Offset, Offset), String>;

    /// The first offset whose record is not older than `time`; the end of the
    /// log when there is none.
    ///
    /// # Errors
    /// Why Kafka could not be asked, for people.
    async fn offset_at(&self, topic: &str, partition: i32, time: Timestamp) -> Result<Offset, String>;

    /// The message of a record in the store's encoded form; `None` when the bytes are
    /// no record. When the record has no id, the message's id is meaningless; the
    /// caller knows it.
    fn decode(&self, topic: &str, record: &[u8]) -> Option<Message>;

    /// The raw parts of a record in the store's encoded form; `None` when the bytes are
    /// no record.
    fn raw(&self, record: &Bytes) -> Option<RawRecord>;

    /// A record in the store's encoded form, and the relay shard of a message with this
    /// id for `topic`.
    fn encode(&self, record: &RawRecord, topic: &str, id: &str) -> (Bytes, i32);
}

/// A record's raw parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawRecord {
    /// The raw key.
    pub key: Option<Bytes>,
    /// The raw value; `None` in a tombstone.
    pub value: Option<Bytes>,
    /// All headers, in order.
    pub headers: Vec<Header>,
}

/// The readiness of the host.
#[async_trait]
pub trait HealthPort: Send + Sync + 'static {
    /// The current readiness.
    async fn ready(&self) -> ReadinessReport;
}
