//! How a running binding is shown: its policy in the words of the TOML, and why it
//! does not run.

use courier_core::retry::RetryPolicy;
use courier_core::verdict::DeadLetter;
use serde::Serialize;
use utoipa::ToSchema;

use super::groups::RunningGroups;
use crate::causes::CauseView;
use crate::config::{Binding, GroupStart, Isolation, Ordering, Trace, show_duration};
use crate::consume::attempt::binding::{BoundPlugin, RunningBinding};
use crate::rfc3339;

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

impl BindingView {
    /// The plugin's name, without a digest.
    #[must_use]
    pub fn plugin_name(&self) -> &str {
        self.plugin.split('@').next().unwrap_or_default()
    }

    /// Shows a binding as it runs here. Its cause is told from the board of causes.
    #[must_use]
    pub fn of(bound: &RunningBinding) -> Self {
        let binding = &bound.binding;
        let why = RunningGroups::why_stopped(bound);
        Self {
            group: binding.group.clone(),
            topics: binding.topics.clone(),
            plugin: binding.plugin.to_string(),
            types: binding.types.clone(),
            ordering: match binding.ordering {
                Ordering::Key => "key",
                Ordering::Partition => "partition",
                Ordering::None => "none",
            }
            .to_owned(),
            isolation: match binding.isolation {
                Isolation::Message => "message",
                Isolation::Batch => "batch",
                Isolation::Instance => "instance",
            }
            .to_owned(),
            concurrency: u32::try_from(binding.concurrency).unwrap_or(u32::MAX),
            paused: why.is_some(),
            blocked: RunningGroups::blocked(bound).map(ToOwned::to_owned),
            why,
            cause: None,
            policy: policy(bound),
        }
    }
}

/// Shows the policy of a binding.
fn policy(bound: &RunningBinding) -> PolicyView {
    let binding = &bound.binding;
    let version = match &*bound.plugin.borrow() {
        BoundPlugin::Ready(prepared) => Some(prepared.version.to_string()),
        BoundPlugin::Missing(..) => None,
    };
    PolicyView {
        version,
        start: match binding.start {
            GroupStart::Earliest => "earliest".to_owned(),
            GroupStart::Latest => "latest".to_owned(),
            GroupStart::Time(at) => rfc3339::format(at),
        },
        retry: binding.failure.retry.on_error.then(|| retry(&binding.failure.retry)),
        dead_letter: dead_letter(binding),
        timeout: show_duration(binding.timeout),
        cpu: show_duration(binding.cpu),
        memory: binding.memory,
        log: binding.log,
        batch: u32::try_from(binding.batch).unwrap_or(u32::MAX),
        max_gap: binding.max_gap,
        max_hops: binding.max_hops,
        max_copied_bytes: binding.max_copied_bytes,
        rate_limit: binding.rate_limit,
        circuit: binding
            .circuit
            .map(|circuit| CircuitView { failures: circuit.failures, open: show_duration(circuit.open) }),
        dedupe: binding.dedupe.map(show_duration),
        trace: binding.trace,
        grant: GrantView {
            publish: binding.grant.publish.clone(),
            state: binding.grant.state,
            state_bytes: binding.grant.state_bytes,
            state_keys: binding.grant.state_keys,
            state_ttl: binding.grant.state_ttl.map(show_duration),
            cache: binding.grant.cache,
            http: binding.http.allow.iter().map(ToString::to_string).collect(),
        },
    }
}

fn retry(policy: &RetryPolicy) -> RetryView {
    RetryView {
        max_attempts: policy.max_attempts,
        initial: show_duration(policy.initial),
        multiplier: policy.multiplier,
        max: show_duration(policy.max),
        jitter: policy.jitter,
        budget: policy.budget.map(show_duration),
    }
}

fn dead_letter(binding: &Binding) -> Option<String> {
    match &binding.failure.dead_letter {
        DeadLetter::Off => None,
        DeadLetter::Hold => Some("hold".to_owned()),
        DeadLetter::Topic(Some(topic)) => Some(topic.clone()),
        DeadLetter::Topic(None) => Some(format!("dlq.<topic>.{}", binding.group)),
    }
}
