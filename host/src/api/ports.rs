//! What the API asks of the rest of the host.
//!
//! Small traits, so that operations are tested without Kafka and Wasm. The
//! composition root gives the real ones. Methods return boxed futures by
//! `async_trait`, whose hand-written form is `BoxFuture`.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::{Header, Message, Offset, Timestamp};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::causes::CauseView;
use super::problem::Problem;
use crate::causes::Standing;
use crate::config::Trace;
pub use crate::publish::draft::{Draft, OUTBOX_IDS, Receipt, SendProblem as Refusal, reserved_header, valid_topic};
pub use crate::publish::header_rules::{self, BASE64};
pub use crate::publish::transactions::EndedBy;
use crate::store::{DeliveryKey, HalfRow, StoreError};

/// The send side.
#[async_trait]
pub trait SenderPort: Send + Sync + 'static {
    /// Takes drafts, in order; one receipt for each, in the same order.
    async fn send(&self, drafts: Vec<Draft>) -> Vec<Receipt>;

    /// Why no message can be sent to a topic, as far as that is known now.
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

    /// The transaction committed, as `by` says.
    async fn commit(&self, id: &str, by: &EndedBy) -> Result<HalfRow, StoreError>;

    /// The transaction rolled back, as `by` says.
    async fn roll_back(&self, id: &str, by: &EndedBy) -> Result<HalfRow, StoreError>;
}

/// The bindings that run here, and what the host knows of their partitions.
#[async_trait]
pub trait GroupsPort: Send + Sync + 'static {
    /// The bindings of the configuration in force.
    fn bindings(&self) -> Vec<BindingView>;

    /// Last offset + 1 of partitions, as far as it is known now.
    fn log_ends(&self) -> HashMap<(String, i32), Offset>;

    /// Partitions of this node that stand still because too much is parked.
    fn parked_full(&self) -> Vec<ParkedFull>;

    /// Something that a group waits for was written to the store: a delivery
    /// was asked for, a redrive is to run, a group was paused or resumed.
    fn wake(&self);

    /// Whether an attempt of an open delivery runs on this node now.
    fn is_running(&self, delivery: &DeliveryKey) -> bool;

    /// Moves positions of a group. Going backward marks what lies between to
    /// run again.
    async fn seek(&self, seek: &SeekRequest) -> Result<Vec<MovedPosition>, Problem>;
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
    /// What keeps its deliveries from running: `paused`, `undelivered_full`,
    /// `no_plugin`, `instantiate`, `unavailable` or `circuit_open`.
    #[schema(required = true)]
    pub blocked: Option<String>,
    /// Why it stands still, for programs; null while it runs.
    #[schema(required = true)]
    pub cause: Option<CauseView>,
    /// How it runs.
    #[serde(flatten)]
    pub policy: PolicyView,
}

/// How a binding runs, in the words of the TOML: durations and what bounds
/// them as they are written there, sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct PolicyView {
    /// The version that this node runs.
    #[schema(required = true)]
    pub version: Option<String>,
    /// Where the group begins that has no position yet.
    pub start: String,
    /// When failures are tried again; null when they are not unless the
    /// handler asks.
    #[schema(required = true)]
    pub retry: Option<RetryView>,
    /// `hold`, or the topic that given up deliveries go to; null when they
    /// only stay HANDLE_FAIL.
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
    /// How many handlings may lead from one message to another until that is
    /// taken for a loop; 0 for no bound.
    pub max_hops: u32,
    /// The most bytes of parked records of a partition that are copied into the
    /// store once Kafka is about to remove them.
    pub max_copied_bytes: u64,
    /// Attempts begun in a second on each node at most.
    #[schema(required = true)]
    pub rate_limit: Option<f64>,
    /// When it stops calling a handler that only fails.
    #[schema(required = true)]
    pub circuit: Option<CircuitView>,
    /// How long a message's id is remembered.
    #[schema(required = true)]
    pub dedupe: Option<String>,
    /// Of which deliveries a row is kept: `all`, or `failures`, which leaves out
    /// what is HANDLED at the first attempt.
    pub trace: Trace,
    /// What the handler may do to the outside.
    pub grant: GrantView,
}

/// When failures are tried again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct RetryView {
    /// Attempts that count, the first among them.
    pub max_attempts: u32,
    /// The first wait.
    pub initial: String,
    /// What each wait is multiplied by.
    pub multiplier: f64,
    /// The longest wait.
    pub max: String,
    /// The share of a wait that is left to chance.
    pub jitter: f64,
    /// How long it is tried in all.
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

/// What a handler may do to the outside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct GrantView {
    /// The topics it may publish on.
    pub publish: Vec<String>,
    /// Whether it has the group's key/value state.
    pub state: bool,
    /// The most bytes of keys and values that the group's state may hold.
    pub state_bytes: u64,
    /// The most keys that it may hold.
    pub state_keys: u64,
    /// How long a value is remembered after it was written; null for ever.
    #[schema(required = true)]
    pub state_ttl: Option<String>,
    /// Whether it has the group's cache on its node.
    pub cache: bool,
    /// Where it may connect to over HTTP.
    pub http: Vec<String>,
}

/// A partition that stands still because as many deliveries are parked as may
/// be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedFull {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// A wish to move a group's positions in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeekRequest {
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
#[schema(as = Sought)]
pub struct MovedPosition {
    /// The partition.
    pub partition: i32,
    /// Where the position was.
    #[schema(value_type = i64)]
    pub from: Offset,
    /// Where it is.
    #[schema(value_type = i64)]
    pub to: Offset,
}

/// The outboxes of senders.
pub trait OutboxesPort: Send + Sync + 'static {
    /// Those of the configuration in force.
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
    /// The relay shard whose holder reads it.
    pub shard: i32,
}

/// Uploading and activating plugins.
#[async_trait]
pub trait PluginsPort: Send + Sync + 'static {
    /// Checks, compiles and stores a component.
    async fn upload(&self, name: &str, wasm: Bytes, by: &str) -> Result<Uploaded, Problem>;

    /// Makes a stored version the active one, on every node.
    async fn activate(&self, name: &str, digest: &str, by: &str) -> Result<(), Problem>;

    /// Those that come with the host.
    fn builtin(&self) -> Vec<BuiltinPlugin>;
}

/// A plugin that comes with the host: it runs where nothing of its name is
/// uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltinPlugin {
    /// Its name.
    pub name: String,
    /// As which version people see it.
    pub version: String,
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

    /// The message of a record that the store kept in encoded form; `None`
    /// when these bytes are none. Its id means nothing when the record has
    /// none: whoever kept it knows the id.
    fn decode(&self, topic: &str, record: &[u8]) -> Option<Message>;

    /// The raw parts of a record that the store kept in encoded form; `None`
    /// when these bytes are none.
    fn raw(&self, record: &Bytes) -> Option<RawRecord>;

    /// A record in the form that the store keeps, and the relay shard of a
    /// message with this id for `topic`.
    fn encode(&self, record: &RawRecord, topic: &str, id: &str) -> (Bytes, i32);
}

/// A record's raw parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawRecord {
    /// The raw key.
    pub key: Option<Bytes>,
    /// The raw value; none in a tombstone.
    pub value: Option<Bytes>,
    /// All headers, in order.
    pub headers: Vec<Header>,
}

/// Whether the host is well.
#[async_trait]
pub trait HealthPort: Send + Sync + 'static {
    /// What holds now.
    async fn ready(&self) -> ReadinessReport;
}

/// Whether the host can do its work.
#[derive(Clone, Debug, Default)]
pub struct ReadinessReport {
    /// The store answers.
    pub store: bool,
    /// Its migrations are done.
    pub migrated: bool,
    /// Sends are accepted.
    pub accepting: bool,
    /// What is away without stopping the host.
    pub degraded: Vec<Degraded>,
    /// Why something else does not hold, for people.
    pub reasons: Vec<String>,
    /// What a person should see to and what stops nothing.
    pub notes: Vec<Note>,
}

/// Something about the whole host that a person should see to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What sort of thing it is, as attention calls it.
    pub kind: &'static str,
    /// What it is about.
    pub subject: String,
    /// What is the matter, and what would help.
    pub detail: String,
}

impl Note {
    /// A note.
    #[must_use]
    pub fn new(kind: &'static str, subject: &str, detail: String) -> Self {
        Self { kind, subject: subject.to_owned(), detail }
    }
}

/// Something that is away without stopping the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// What sort of thing it is, without names: the code of its cause.
    pub code: &'static str,
    /// What it is, for example `kafka`.
    pub what: String,
    /// The topic it belongs to, if it does to one.
    pub topic: Option<String>,
    /// Why, for people.
    pub why: String,
    /// Whether the board of causes shows it too.
    pub on_board: bool,
}

impl ReadinessReport {
    /// Notes that something is away.
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

    /// Notes what stands still according to the board of causes.
    pub fn degrade_for(&mut self, standing: &Standing) {
        let (kind, name) = (standing.subject.kind(), standing.subject.to_string());
        self.degraded.push(Degraded {
            code: standing.code,
            // There is one store and one configuration.
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
