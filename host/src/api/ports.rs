//! The parts of the host that the API uses, as small traits, so that operations are
//! tested without Kafka and Wasm. The composition root implements them.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::{Header, Message, Offset, Timestamp};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::causes::{CauseView, Standing};
use crate::config::Trace;
pub use crate::publish::draft::{Draft, OUTBOX_IDS, Receipt, SendProblem as Refusal, reserved_header, valid_topic};
pub use crate::publish::header_rules::{self, BASE64};
pub use crate::publish::transactions::EndedBy;
use crate::store::{DeliveryKey, HalfRow, StoreError};

/// The send side.
#[async_trait]
pub trait SenderPort: Send + Sync + 'static {
    /// Takes drafts and returns a receipt for each, in the same order.
    async fn send(&self, drafts: Vec<Draft>) -> Vec<Receipt>;

    /// Why no message can be sent to a topic, as far as is known now.
    async fn refuses_topic(&self, topic: &str) -> Option<Refusal>;
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

/// A binding, as the API shows it.
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
    /// Why its deliveries do not run: `paused`, `undelivered_full`, `no_plugin`,
    /// `instantiate`, `unavailable` or `circuit_open`.
    #[schema(required = true)]
    pub blocked: Option<String>,
    /// Why it stands still, for programs; null while it runs.
    #[schema(required = true)]
    pub cause: Option<CauseView>,
    /// Its policy.
    #[serde(flatten)]
    pub policy: PolicyView,
}

/// The policy of a binding, by the names of the TOML: durations as text, sizes in
/// bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct PolicyView {
    /// The version that this node runs.
    #[schema(required = true)]
    pub version: Option<String>,
    /// Where the group begins without a position.
    pub start: String,
    /// When failures are retried; null when only those are that the handler asks to
    /// retry.
    #[schema(required = true)]
    pub retry: Option<RetryView>,
    /// `hold`, or the dead-letter topic; null when deliveries that are given up only
    /// stay HANDLE_FAIL.
    #[schema(required = true)]
    pub dead_letter: Option<String>,
    /// The longest that an attempt may take.
    pub timeout: String,
    /// The most CPU time that an attempt may burn.
    pub cpu: String,
    /// The most bytes of memory of a sandbox.
    pub memory: u64,
    /// The most bytes of log of an attempt.
    pub log: u64,
    /// The most deliveries handed to one call.
    pub batch: u32,
    /// The most offsets between a position and the highest fetched.
    pub max_gap: u32,
    /// Longest chain of handlings before a message is taken for part of a loop; 0 for
    /// no bound.
    pub max_hops: u32,
    /// The most bytes of a partition's parked records that are copied into the store
    /// before Kafka removes them.
    pub max_copied_bytes: u64,
    /// The most attempts begun in a second on each node.
    #[schema(required = true)]
    pub rate_limit: Option<f64>,
    /// When it stops calling a handler that keeps failing.
    #[schema(required = true)]
    pub circuit: Option<CircuitView>,
    /// How long a message's id is remembered.
    #[schema(required = true)]
    pub dedupe: Option<String>,
    /// The deliveries of which a row is kept: `all`, or `failures`, which leaves out
    /// those HANDLED at the first attempt.
    pub trace: Trace,
    /// What the handler may use besides its message.
    pub grant: GrantView,
}

/// When failures are retried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct RetryView {
    /// The most counted attempts, including the first.
    pub max_attempts: u32,
    /// The first wait.
    pub initial: String,
    /// The factor between a wait and the next.
    pub multiplier: f64,
    /// The longest wait.
    pub max: String,
    /// The share of a wait that is randomly added or taken.
    pub jitter: f64,
    /// How long after its reception, or the last request to rerun it, a delivery may
    /// begin an attempt.
    #[schema(required = true)]
    pub budget: Option<String>,
}

/// A circuit breaker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct CircuitView {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open.
    pub open: String,
}

/// What a handler may use besides its message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct GrantView {
    /// The topics it may publish on.
    pub publish: Vec<String>,
    /// Whether it has the group's key/value state.
    pub state: bool,
    /// The most bytes of keys and values that the group's state may hold.
    pub state_bytes: u64,
    /// The most keys that the group's state may hold.
    pub state_keys: u64,
    /// How long a value is kept after it was written; null for ever.
    #[schema(required = true)]
    pub state_ttl: Option<String>,
    /// Whether it has the group's cache on its node.
    pub cache: bool,
    /// Where it may connect to over HTTP.
    pub http: Vec<String>,
}

/// A partition that stands still because it has as many parked deliveries as it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedFull {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// A request to move a group's positions in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeekRequest {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// One partition, or all.
    pub partition: Option<i32>,
    /// The target.
    pub to: SeekTo,
}

/// The target of a seek.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// This offset.
    Offset(Offset),
    /// The first record that Kafka has.
    Earliest,
    /// The offset after the last record.
    Latest,
    /// The first record at or after a time.
    Time(Timestamp),
}

/// A position that was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Sought)]
pub struct MovedPosition {
    /// The partition.
    pub partition: i32,
    /// The position before.
    #[schema(value_type = i64)]
    pub from: Offset,
    /// The position now.
    #[schema(value_type = i64)]
    pub to: Offset,
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

/// A version that was uploaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Uploaded {
    /// `sha256:<hex>`.
    pub version: String,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
    /// The description in the component.
    pub wants: Option<Value>,
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

/// Whether the host can take requests.
#[derive(Clone, Debug, Default)]
pub struct ReadinessReport {
    /// The store answers.
    pub store: bool,
    /// Its migrations are done.
    pub migrated: bool,
    /// Sends are accepted.
    pub accepting: bool,
    /// Unavailable parts that do not stop the host.
    pub degraded: Vec<Degraded>,
    /// Why the host is not ready, for people.
    pub reasons: Vec<String>,
    /// Notes for a person about things that stop nothing.
    pub notes: Vec<Note>,
}

/// A note about the whole host that needs a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its kind, as attention names it.
    pub kind: &'static str,
    /// Its subject.
    pub subject: String,
    /// What is wrong, and what would help.
    pub detail: String,
}

impl Note {
    /// A note.
    #[must_use]
    pub fn new(kind: &'static str, subject: &str, detail: String) -> Self {
        Self { kind, subject: subject.to_owned(), detail }
    }
}

/// An unavailable part that does not stop the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// The code of its cause, without names.
    pub code: &'static str,
    /// Its name, for example `kafka`.
    pub what: String,
    /// The topic it belongs to, if any.
    pub topic: Option<String>,
    /// Why, for people.
    pub why: String,
    /// Whether the board of causes shows it too.
    pub on_board: bool,
}

impl ReadinessReport {
    /// Notes an unavailable part.
    pub fn degrade(
        &mut self,
        code: &'static str,
        what: impl Into<String>,
        topic: Option<&str>,
        why: impl Into<String>,
    ) {
        let topic = topic.map(ToOwned::to_owned);
        self.degraded.push(Degraded { code, what: what.into(), topic, why: why.into(), on_board: false });
    }

    /// Notes a cause on the board.
    pub fn degrade_for(&mut self, standing: &Standing) {
        let (kind, name) = (standing.subject.kind(), standing.subject.to_string());
        self.degraded.push(Degraded {
            code: standing.code,
            // The store and the configuration have no name of their own.
            what: if name == kind { name } else { format!("{kind} {name}") },
            topic: standing.subject.topic().map(ToOwned::to_owned),
            why: standing.why.clone(),
            on_board: true,
        });
    }

    /// Whether the host should get requests.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.store && self.migrated && self.accepting
    }
}
