//! The settings that `courier.toml` makes, as the rest of the host reads them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use courier_core::message::Timestamp;
use courier_core::verdict::FailurePolicy;
use reqwest::Url;

use super::report::ConfigProblem;
use super::schema::TopicRule;
use super::secret::{DatabaseUrl, Secret};
use super::tls::Tls;
use super::trace::Trace;

/// Bytes that the state of a group may hold by default.
pub(super) const STATE_BYTES_UNLESS_SAID: u64 = 256 << 20;
/// Keys that the state of a group may hold by default.
pub(super) const STATE_KEYS_UNLESS_SAID: u64 = 1_000_000;

/// Everything that `courier.toml` says.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`: where this host listens, and its name.
    pub server: Server,
    /// `[kafka]`: the brokers.
    pub kafka: Kafka,
    /// `[store]`: the database of statuses and positions.
    pub store: StoreConfig,
    /// `[auth]`: who may do what over HTTP.
    pub auth: Auth,
    /// `[transactions]`: the URLs that half messages may be checked at.
    pub transactions: TransactionsConfig,
    /// `[[outbox]]`: tables of services whose rows are relayed.
    pub outboxes: Vec<OutboxConfig>,
    /// `[[plugin]]`: what uploads may import.
    pub plugins: Vec<PluginRule>,
    /// `[[topic]]`: the schemas of the bodies of topics.
    pub topics: Vec<TopicRule>,
    /// `[[binding]]`: which handler gets which topics, under which policy.
    pub bindings: Vec<Binding>,
    /// Warnings, in the order of the file.
    pub warnings: Vec<ConfigProblem>,
    /// Other files that it was read from: schemas, secrets and certificates.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// Whether `listen` is reachable from other machines while no token is
    /// configured. Checked again here because `--listen` overrides the file.
    #[must_use]
    pub fn leaves_open(&self, listen: SocketAddr) -> bool {
        self.auth.tokens.is_empty() && !listen.ip().is_loopback()
    }
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where the HTTP API and the console listen.
    pub listen: SocketAddr,
    /// The name of this host, unique among the hosts of one store. Kafka and
    /// the store recognise a restarted host by it.
    pub node: String,
    /// The address that people open in a browser, when it is not `listen`.
    pub public_url: Option<Url>,
    /// `[server.tls]`: the listener's certificate, unless connections are plain.
    pub tls: Option<Tls>,
}

impl Server {
    /// Whether browsers come over TLS, to this host or to a proxy in front.
    #[must_use]
    pub fn is_reached_over_tls(&self) -> bool {
        self.public_url.as_ref().map_or(self.tls.is_some(), |url| url.scheme() == "https")
    }
}

/// `[kafka]`.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// `host:port` of the brokers that are asked first.
    pub bootstrap_servers: Vec<String>,
    /// Largest record that is kept, in bytes; of a larger one only its coordinates are.
    pub max_record: usize,
    /// `[kafka.properties]`: passed through to librdkafka.
    pub properties: BTreeMap<String, Property>,
    /// `[kafka.topics]`: how Courier's own topics are created.
    pub topics: OwnTopics,
}

/// The value of a librdkafka property.
#[derive(Clone, Debug)]
pub enum Property {
    /// Written in the TOML.
    Plain(String),
    /// Fetched from the environment or from a file.
    Secret(Secret),
}

impl Property {
    /// The value as librdkafka gets it. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(value) => value,
            Self::Secret(value) => value.expose(),
        }
    }
}

impl PartialEq for Property {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

/// `[kafka.topics]`: topics of Courier's own, such as dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnTopics {
    /// Whether Courier creates missing ones.
    pub create: bool,
    /// Partitions of a topic that it creates.
    pub partitions: i32,
    /// Replicas of a topic that it creates; -1 leaves it to the broker.
    pub replication: i32,
}

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// `sqlite://path` or `postgres://…`.
    pub url: DatabaseUrl,
    /// How long finished rows stay.
    pub retention: Duration,
}

/// `[auth]`.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    /// The accepted tokens. Without any, everyone on this machine may do everything,
    /// and only a loopback address may be listened on.
    pub tokens: Vec<TokenConfig>,
}

/// One bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenConfig {
    /// The name of its holder in the audit log.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    pub secret: Secret,
    /// The only topics it may see and publish on; none means all.
    pub topics: Option<Vec<String>>,
    /// The only groups it may see and act on; none means all.
    pub groups: Option<Vec<String>>,
    /// The sources that belong to it beside its name: it may publish as no other,
    /// and no other token may publish as these. None does not limit it.
    pub sources: Option<Vec<String>>,
}

/// What the holder of a token may do. Each role may do all that the ones before
/// it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Publishes messages and resends them.
    Publisher,
    /// Retries, pauses, resumes, seeks and redrives.
    Operator,
    /// Uploads and activates plugins.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Role {
    /// The word that the TOML uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Publisher => "publisher",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// `[transactions]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionsConfig {
    /// The URLs that a half message may name as its check-back. A `*` at the
    /// end stands for anything. None by default.
    pub check_urls: Vec<String>,
}

/// One `[[outbox]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxConfig {
    /// Its name in statuses and logs.
    pub name: String,
    /// The sender's database.
    pub url: DatabaseUrl,
    /// The table, `courier_outbox` unless named, with its schema if it has one.
    pub table: String,
}

/// One `[[plugin]]`: what an upload of this name may import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRule {
    /// The plugin.
    pub name: String,
    /// Interfaces or packages without their version: `courier:plugin/publish`.
    pub imports: Vec<String>,
}

/// One `[[binding]]`: topics, a group, a plugin, and the policy for them.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The consumer group.
    pub group: String,
    /// The topics that it consumes; at least one.
    pub topics: Vec<String>,
    /// The plugin that handles them.
    pub plugin: PluginRef,
    /// The only types handed to the plugin; none means all. Others count as
    /// handled.
    pub types: Option<Vec<String>>,
    /// Where a group without a position begins.
    pub start: GroupStart,
    /// Which deliveries wait for one another.
    pub ordering: Ordering,
    /// Attempts at the same time on this node.
    pub concurrency: usize,
    /// The longest that an attempt may take.
    pub timeout: Duration,
    /// The most CPU time that an attempt may burn.
    pub cpu: Duration,
    /// The most bytes of memory that a sandbox may have.
    pub memory: u64,
    /// The most bytes of log kept of an attempt.
    pub log: u64,
    /// How long a sandbox lives.
    pub isolation: Isolation,
    /// The most deliveries handed to one call; 1 calls `handle`.
    pub batch: usize,
    /// The most attempts begun in a second on this node.
    pub rate_limit: Option<f64>,
    /// When to stop calling a handler that keeps failing.
    pub circuit: Option<Circuit>,
    /// How long a message id is remembered, so that a duplicate is dropped.
    pub dedupe: Option<Duration>,
    /// The deliveries of which a row is kept.
    pub trace: Trace,
    /// How long this node may be away until it is no longer expected to handle
    /// broadcasts.
    pub broadcast_forget: Duration,
    /// Whether a node that was away for longer handles the broadcasts that it
    /// missed, as far as Kafka has them; otherwise they are a lost range.
    pub broadcast_catch_up: bool,
    /// Whether `http-push` sends each broadcast to every address of the name in its
    /// URL; otherwise each node sends it to one of them.
    pub each: bool,
    /// What becomes of deliveries that do not succeed.
    pub failure: FailurePolicy,
    /// The most offsets between a position and the highest fetched.
    pub max_gap: u32,
    /// Longest chain of handlings that ends in a message of this binding, a dead
    /// letter included, before it is taken for a loop; 0 for no bound.
    pub max_hops: u32,
    /// The most bytes of a partition's parked records that are copied into the store
    /// before Kafka removes them.
    pub max_copied_bytes: u64,
    /// Whether the binding is paused by the TOML.
    pub paused: bool,
    /// What the handler may use besides its message.
    pub grant: Grant,
    /// Where the handler may connect to over HTTP.
    pub http: Http,
    /// Settings that the handler can read by name.
    pub config: BTreeMap<String, String>,
    /// Secrets that the handler can read by name; never logged.
    pub secrets: BTreeMap<String, Secret>,
}

/// The built-in plugin that sends messages to an HTTP service.
pub const HTTP_PUSH: &str = "http-push";

/// A plugin, and which of its versions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PluginRef {
    /// The plugin.
    pub name: String,
    /// The version, as `sha256:` and 64 hexadecimal digits; none means the
    /// active one.
    pub digest: Option<String>,
}

impl fmt::Display for PluginRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.digest {
            Some(digest) => write!(f, "{}@{digest}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Where a group without a position begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupStart {
    /// At the oldest message that Kafka has.
    Earliest,
    /// At the next message.
    Latest,
    /// At the first message at or after a time.
    Time(Timestamp),
}

/// Which deliveries of a group happen one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// Deliveries of one key.
    Key,
    /// Deliveries of one partition.
    Partition,
    /// None.
    None,
}

/// How long a sandbox lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// For one message.
    #[default]
    Message,
    /// For one batch.
    Batch,
    /// Until it traps or has served its calls
    /// ([`Policy::recycle_after`](crate::engine::Policy::recycle_after)).
    Instance,
}

/// When a binding stops calling a handler that keeps failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circuit {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open before one delivery probes the handler.
    pub open: Duration,
}

/// What a handler may use besides its message; nothing by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The topics it may publish on.
    pub publish: Vec<String>,
    /// Whether it has the group's key/value state.
    pub state: bool,
    /// The most bytes of keys and values that the group's state may hold.
    pub state_bytes: u64,
    /// The most keys that it may hold.
    pub state_keys: u64,
    /// How long a value is kept after it was written; `None` keeps it for ever.
    pub state_ttl: Option<Duration>,
    /// Whether it has the group's cache on this node.
    pub cache: bool,
}

impl Default for Grant {
    fn default() -> Self {
        Self {
            publish: Vec::new(),
            state: false,
            state_bytes: STATE_BYTES_UNLESS_SAID,
            state_keys: STATE_KEYS_UNLESS_SAID,
            state_ttl: None,
            cache: false,
        }
    }
}

/// Where a handler may connect to over HTTP, and the certificates that it trusts;
/// nowhere by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// The hosts and ports.
    pub allow: Vec<HostPort>,
    /// Whether they may resolve to private addresses.
    pub private: bool,
    /// Certificates as PEM that TLS trusts in place of the system's.
    pub ca: Option<Arc<str>>,
}

/// A host and a port that a handler may connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A DNS name in lower case, `*.` before one for all names below it, or an
    /// IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
