//! A running binding: its policy, its queue of deliveries, its gate and the
//! plugin version it runs.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use courier_core::verdict::Verdict;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::{Mutex, MutexGuard};
use reqwest::Url;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::circuit_breaker::BindingGate;
use super::effects_budget::EffectsBudget;
use super::ready_queue::ReadyQueue;
use super::unavailable::UnavailableAlone;
use crate::config::{Binding, HTTP_PUSH};
use crate::consume::owner::message::ReadyDelivery;
use crate::engine::http::{Destination, HttpOut, HttpRules};
use crate::engine::{self, Policy, Prepared, StateHeld, StateQuota};
use crate::kafka::buffered::TopicPartition;
use crate::publish::draft::Draft;
use crate::publish::rules::Rules;
use crate::store::DeliveryKey;

/// Calls after which a kept instance is replaced, since a store never gives
/// memory back and guests leak handles.
const RECYCLE_AFTER: u32 = 10_000;
/// Bytes that the effects of one attempt may hold.
const OUTPUT_BYTES: usize = 1024 * 1024;

/// Why a binding stands still that the configuration pauses: nobody can resume it
/// without editing that.
pub const PAUSED_BY_TOML: &str = "paused in the configuration";

/// Attempts of a binding that may run at once for one address of its service:
/// there may be many addresses, and each has workers of its own.
const ADDRESS_CONCURRENCY: usize = 64;

/// The key by which `http-push` reads how many messages a request carries. The
/// value is no entry of `[binding.config]`, since `batch` is a field of the
/// binding itself.
const PUSH_BATCH: &str = "courier.batch";

/// The plugin version that a binding runs.
#[derive(Clone)]
pub enum BoundPlugin {
    /// A version that is compiled on this node.
    Ready(Arc<Prepared>),
    /// There is none; the text says why.
    Missing(Verdict, String),
}

/// A binding that runs on this node.
pub struct RunningBinding {
    /// Its configuration.
    pub binding: Binding,
    /// The address of the service that it pushes broadcasts to, if it does so
    /// for one alone.
    pub address: Option<SocketAddr>,
    /// Those that push to one address each, on behalf of this one: what lets one
    /// address wait must not let the others wait.
    by_address: Mutex<Vec<Arc<RunningBinding>>>,
    /// Where owners put deliveries and workers take them.
    pub ready: ReadyQueue<ReadyDelivery>,
    /// Says whether deliveries may begin.
    pub gate: BindingGate,
    /// The version it runs.
    pub plugin: watch::Receiver<BoundPlugin>,
    /// Its rate limit on this node.
    pub rate: Option<DefaultDirectRateLimiter>,
    /// How the engine runs it.
    pub policy: Arc<Policy>,
    /// Deliveries that report as unavailable a service that works for others.
    pub unavailable_alone: UnavailableAlone,
    /// Bounds the effects of attempts that are not written yet.
    pub effects_budget: Arc<EffectsBudget>,
    /// How long attempts take.
    pub attempt_seconds: metrics::Histogram,
    /// Whether this node is registered for the broadcasts of all its topics.
    pub listening: AtomicBool,
    /// Cancelled when the binding goes away.
    pub closed: CancellationToken,
    /// The partitions that are owned here, and whether parked rows stop each.
    standing: Mutex<Vec<(TopicPartition, watch::Receiver<bool>)>>,
    /// Deliveries with rows whose attempts run now. A delivery with a row can
    /// be given up, and must not be while its attempt runs.
    running: Mutex<HashSet<DeliveryKey>>,
}

impl RunningBinding {
    /// Prepares a binding to run; nothing begins yet.
    #[must_use]
    pub fn new(binding: Binding, plugin: watch::Receiver<BoundPlugin>, rules: &Rules) -> Self {
        Self::of(binding, plugin, rules, None)
    }

    /// Puts it to work for one address of its service too. It stands still and
    /// goes on with this one.
    #[must_use]
    pub fn start_address(&self, address: SocketAddr, rules: &Rules) -> Arc<Self> {
        let mut binding = self.binding.clone();
        binding.concurrency = binding.concurrency.min(ADDRESS_CONCURRENCY);
        let started = Arc::new(Self::of(binding, self.plugin.clone(), rules, Some(address)));
        self.addresses().push(Arc::clone(&started));
        self.gate.pass_holds_on(&started.gate);
        started
    }

    /// Ends the work for one address.
    pub fn end_address(&self, ended: &Arc<Self>) {
        self.addresses().retain(|one| !Arc::ptr_eq(one, ended));
        ended.closed.cancel();
        ended.ready.close();
    }

    /// What pushes to one address each, at this moment.
    #[must_use]
    pub fn at_addresses(&self) -> Vec<Arc<Self>> {
        self.addresses().clone()
    }

    fn addresses(&self) -> MutexGuard<'_, Vec<Arc<Self>>> {
        self.by_address.lock()
    }

    /// The plugin as people are told of it, with the address if it is for one.
    #[must_use]
    pub fn shown_plugin(&self) -> String {
        match self.address {
            Some(address) => format!("{} at {address}", self.binding.plugin.name),
            None => self.binding.plugin.name.clone(),
        }
    }

    fn of(binding: Binding, plugin: watch::Receiver<BoundPlugin>, rules: &Rules, address: Option<SocketAddr>) -> Self {
        let gate = BindingGate::new(binding.circuit, binding.failure.probe_within);
        if binding.paused {
            gate.pause(Some(PAUSED_BY_TOML.to_owned()));
        }
        Self {
            ready: ReadyQueue::default(),
            gate,
            plugin,
            rate: binding.rate_limit.and_then(limiter),
            policy: Arc::new(policy(&binding, rules, address)),
            address,
            by_address: Mutex::default(),
            unavailable_alone: UnavailableAlone::default(),
            effects_budget: Arc::default(),
            attempt_seconds: metrics::histogram!("courier_attempt_seconds", "group" => binding.group.clone()),
            listening: AtomicBool::new(false),
            closed: CancellationToken::new(),
            standing: Mutex::default(),
            running: Mutex::default(),
            binding,
        }
    }

    /// Adds a partition that has an owner now. The owner drops its end of
    /// `full` when it ends.
    pub fn watch_full(&self, place: TopicPartition, full: watch::Receiver<bool>) {
        let mut standing = self.standing.lock();
        standing.retain(|(_, full)| full.has_changed().is_ok());
        standing.push((place, full));
    }

    /// The partitions that have an owner here.
    #[must_use]
    pub fn owned(&self) -> Vec<TopicPartition> {
        let standing = self.standing.lock();
        standing.iter().filter(|(_, full)| full.has_changed().is_ok()).map(|(place, _)| place.clone()).collect()
    }

    /// The partitions that too many parked rows have stopped.
    #[must_use]
    pub fn parked_full(&self) -> Vec<TopicPartition> {
        let standing = self.standing.lock();
        let full = standing.iter().filter(|(_, full)| full.has_changed().is_ok() && *full.borrow());
        let full = full.map(|(place, _)| place.clone());
        full.chain(self.at_addresses().iter().flat_map(|one| one.parked_full())).collect()
    }

    /// Adds deliveries whose attempts begin.
    pub fn begin(&self, rows: &[DeliveryKey]) {
        if !rows.is_empty() {
            self.running.lock().extend(rows);
        }
    }

    /// Removes deliveries whose attempts ended.
    pub fn end(&self, rows: &[DeliveryKey]) {
        if !rows.is_empty() {
            let mut running = self.running.lock();
            rows.iter().for_each(|key| {
                running.remove(key);
            });
        }
    }

    /// Whether an attempt of a delivery that has a row runs now.
    #[must_use]
    pub fn is_running(&self, key: &DeliveryKey) -> bool {
        self.running.lock().contains(key) || self.at_addresses().iter().any(|one| one.is_running(key))
    }

    /// Pauses or resumes the binding for the API. `paused` in the TOML stays in force.
    pub fn pause(&self, why: Option<&str>) {
        let by_toml = self.binding.paused.then(|| PAUSED_BY_TOML.to_owned());
        let why = by_toml.or_else(|| why.map(ToOwned::to_owned));
        self.hold(|gate| gate.pause(why.clone()));
    }

    /// What it sends could not be delivered either, or could again.
    pub fn hold_for_undelivered(&self, why: Option<String>) {
        self.hold(|gate| gate.hold_for_undelivered(why.clone()));
    }

    /// Changes its own gate, and then those of its addresses: an address that
    /// starts meanwhile takes over what its own gate has, or is changed itself.
    fn hold(&self, change: impl Fn(&BindingGate)) {
        change(&self.gate);
        self.at_addresses().iter().for_each(|one| change(&one.gate));
    }
}

/// A limiter of `rate` deliveries a second, with bursts of at most one second's
/// worth.
fn limiter(rate: f64) -> Option<DefaultDirectRateLimiter> {
    let period = Duration::try_from_secs_f64(1.0 / rate).ok()?;
    let burst = NonZeroU32::new(rate.clamp(1.0, f64::from(u32::MAX)) as u32)?;
    Some(RateLimiter::direct(Quota::with_period(period)?.allow_burst(burst)))
}

/// Where the handler may send HTTP requests; `None` allows none.
fn http(binding: &Binding, address: Option<SocketAddr>) -> Option<Arc<HttpOut>> {
    let allow = binding.http.allow.iter();
    let allow: Vec<Destination> =
        allow.map(|place| Destination { host: place.host.clone(), port: place.port }).collect();
    let own_url = push_url(binding);
    (!allow.is_empty() || own_url.is_some()).then(|| {
        Arc::new(HttpOut::new(HttpRules {
            allow,
            private: binding.http.private,
            own_url,
            own_address: address.map(|address| address.ip()),
            ca: binding.http.ca.clone(),
            concurrency: binding.concurrency,
        }))
    })
}

/// The URL that `http-push` calls: the operator of this host wrote it.
pub(in crate::consume) fn push_url(binding: &Binding) -> Option<Url> {
    let text = binding.config.get("url").filter(|_| binding.plugin.name == HTTP_PUSH)?;
    Url::parse(text).ok()
}

/// Checks what handlers publish by the same rules as every other message.
#[derive(Debug)]
struct EmissionDoor(Rules);

impl engine::EmissionRules for EmissionDoor {
    fn check(&self, emission: &engine::Outgoing) -> Result<(), String> {
        let draft = Draft {
            topic: emission.topic.clone(),
            type_name: emission.type_name.clone(),
            key: emission.key.clone(),
            content_type: emission.content_type.clone(),
            is_tombstone: emission.body.is_none(),
            body: emission.body.clone().unwrap_or_default(),
            headers: emission.headers.clone(),
            ..Draft::default()
        };
        self.0.check_emission(draft).map_err(|problem| problem.detail)
    }
}

fn policy(binding: &Binding, rules: &Rules, address: Option<SocketAddr>) -> Policy {
    let is_push = binding.plugin.name == HTTP_PUSH;
    let mut config = binding.config.clone();
    if is_push {
        config.insert(PUSH_BATCH.to_owned(), binding.batch.to_string());
    }
    Policy {
        group: binding.group.clone(),
        isolation: binding.isolation,
        memory: binding.memory,
        timeout: binding.timeout,
        cpu: binding.cpu,
        log: usize::try_from(binding.log).unwrap_or(usize::MAX),
        output: OUTPUT_BYTES,
        recycle_after: RECYCLE_AFTER,
        publish: binding.grant.publish.clone(),
        rules: Arc::new(EmissionDoor(rules.clone())),
        http: http(binding, address),
        state: binding.grant.state,
        state_quota: Arc::new(StateQuota::new(
            StateHeld { keys: binding.grant.state_keys, bytes: binding.grant.state_bytes },
            binding.grant.state_ttl,
        )),
        // `http-push` remembers there which URLs have answered.
        cache: binding.grant.cache || is_push,
        config,
        secrets: binding.secrets.iter().map(|(name, secret)| (name.clone(), secret.to_secret_string())).collect(),
    }
}
