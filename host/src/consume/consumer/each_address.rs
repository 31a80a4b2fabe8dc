//! Broadcasts for every address of a pushed service: `each = true`.
//!
//! The name in the URL of `http-push` is resolved again and again. Each address
//! is a listener of the group with positions of its own, named by the address,
//! and one host pushes to it, under a lease of
//! [`address_leases`](crate::store::address_leases). A host that dies is followed
//! by another once its leases are over; that one goes on at the stored position.
//! An address that the name does not have any more is let go, says no longer that
//! it is there, and is forgotten after `broadcast_forget`, as a node is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Url;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::broadcast::BroadcastConsumer;
use super::every;
use super::held_address::HeldAddress;
use crate::addresses::{is_localhost, operator_may_reach};
use crate::causes::{Cause, Subject};
use crate::consume::attempt::binding::{RunningBinding, push_url};
use crate::consume::context::NodeContext;
use crate::store::AddressWish;
use crate::supervise::{self, Task};

/// How often the name is resolved and the leases are renewed.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is looked whether what was started listens by now.
const TELL: Duration = Duration::from_millis(200);
/// How long an address stays a host's own without a word from it.
const LEASE: Duration = Duration::from_secs(15);
/// A lease counts as over this much earlier for its holder than for others.
const LEASE_MARGIN: Duration = Duration::from_secs(1);
/// How long a name may take to be resolved.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
/// Addresses of one service that are pushed to: each has a consumer of its own.
const MAX_ADDRESSES: usize = 256;
/// A service whose addresses are not known is known by this word.
const ADDRESSES_UNKNOWN: &str = "addresses_unknown";
/// One with more addresses than are pushed to is known by this word.
const TOO_MANY_ADDRESSES: &str = "too_many_addresses";
/// For tests: a file of lines `NAME ADDRESS` that is asked in place of the
/// system's resolver.
const TEST_NAMES: &str = "COURIER_TEST_NAMES";

/// Starts the workers of a binding, on the threads of its group.
pub(in crate::consume) type StartWorkers = Arc<dyn Fn(&Arc<RunningBinding>) + Send + Sync>;

/// A service, by what its URL says of where it is, and the bindings that push
/// to it.
pub(in crate::consume) struct Service {
    host: String,
    port: u16,
    bindings: Vec<Arc<RunningBinding>>,
}

impl Service {
    /// The services of the bindings with `each`.
    pub(in crate::consume) fn all(bindings: &[Arc<RunningBinding>]) -> Vec<Self> {
        let mut services: BTreeMap<(String, u16), Vec<Arc<RunningBinding>>> = BTreeMap::new();
        for bound in bindings.iter().filter(|bound| bound.binding.each) {
            match push_url(&bound.binding).as_ref().and_then(place) {
                Some(place) => services.entry(place).or_default().push(Arc::clone(bound)),
                // It can push nothing, as the log and its deliveries say; the
                // host is ready all the same.
                None => bound.listening.store(true, Ordering::Relaxed),
            }
        }
        services.into_iter().map(|((host, port), bindings)| Self { host, port, bindings }).collect()
    }

    fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The addresses that may be pushed to, in their order.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let found = match tokio::time::timeout(RESOLVE_WITHIN, resolve(&self.host, self.port)).await {
            Ok(found) => found.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("nobody answered within {RESOLVE_WITHIN:?}")),
        };
        reachable(&self.host, found)
    }
}

fn place(url: &Url) -> Option<(String, u16)> {
    let host = url.host_str()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host.to_ascii_lowercase(), url.port_or_known_default()?))
}

/// Those of the addresses of a name that the operator's own URL may lead to.
fn reachable(host: &str, mut found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
    found.sort_unstable();
    found.dedup();
    let (good, bad): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| operator_may_reach(address.ip(), is_localhost(host)));
    match bad.first() {
        Some(bad) if good.is_empty() => Err(format!("it leads to {}, where no service may be called", bad.ip())),
        None if good.is_empty() => Err("the name has no address".to_owned()),
        _ => Ok(good),
    }
}

async fn resolve(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    let Some(file) = std::env::var_os(TEST_NAMES) else {
        return Ok(tokio::net::lookup_host((host, port)).await?.collect());
    };
    let text = tokio::fs::read_to_string(file).await?;
    let of_host = text.lines().filter_map(|line| line.strip_prefix(host)?.trim().parse().ok());
    Ok(of_host.map(|address| SocketAddr::new(address, port)).collect())
}

/// What pushes to one address.
struct AddressListener {
    lease: Arc<HeldAddress>,
    /// One for each binding of the service, in their order.
    bindings: Vec<Arc<RunningBinding>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The task that shares the addresses of one service with the other hosts.
pub(in crate::consume) struct AddressKeeper {
    node: NodeContext,
    group: String,
    service: Service,
    start_workers: StartWorkers,
    stop: CancellationToken,
    /// What the name had when it was last resolved.
    addresses: Vec<SocketAddr>,
    /// Whether it was resolved at the last look.
    is_resolved: bool,
    /// Whether the store has said what this host holds.
    has_share: bool,
    listeners: BTreeMap<SocketAddr, AddressListener>,
}

impl AddressKeeper {
    /// Keeps the addresses until `stop`.
    pub(in crate::consume) async fn run(
        node: NodeContext,
        group: String,
        service: Service,
        start_workers: StartWorkers,
        stop: CancellationToken,
    ) {
        let mut this = Self {
            node,
            group,
            service,
            start_workers,
            stop: stop.clone(),
            addresses: Vec::new(),
            is_resolved: false,
            has_share: false,
            listeners: BTreeMap::new(),
        };
        let (mut look, mut tell) = (every(LOOK), every(TELL));
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = look.tick() => tokio::select! {
                    () = stop.cancelled() => break,
                    () = this.look() => {}
                },
                _ = tell.tick() => this.tell_listening(),
            }
        }
        this.stop().await;
    }

    async fn look(&mut self) {
        self.resolve().await;
        let begun = Instant::now();
        let wish = AddressWish {
            group: self.group.clone(),
            service: self.service.name(),
            node: self.node.tools.node.to_string(),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            lease: LEASE,
        };
        let share = match self.node.tools.store.hold_addresses(&wish).await {
            Ok(share) => share,
            Err(error) => {
                return tracing::debug!(group = self.group, service = wish.service, %error, "cannot hold addresses yet");
            }
        };
        self.has_share = true;
        let good_until = begun + (LEASE - LEASE_MARGIN);
        let held: Vec<SocketAddr> = share.held.iter().filter_map(|address| address.parse().ok()).collect();
        for address in &held {
            match self.listeners.get(address) {
                Some(listener) => listener.lease.renew(good_until, self.is_resolved),
                None => self.start(*address, good_until),
            }
        }
        let ending: Vec<SocketAddr> =
            self.listeners.keys().filter(|address| !held.contains(address)).copied().collect();
        let ending = ending.into_iter().filter_map(|address| Some((address, self.listeners.remove(&address)?)));
        join_all(ending.collect::<Vec<_>>().into_iter().map(|(address, listener)| self.end(address, listener))).await;
        if !share.surplus.is_empty() {
            // Only now, so that the next holder finds nothing of it under way.
            self.release(&share.surplus).await;
        }
    }

    /// Asks which addresses the name has. While nobody can tell they stay what
    /// they were.
    async fn resolve(&mut self) {
        let causes = &self.node.tools.causes;
        let (subject, service) = (Subject::Group(self.group.clone()), self.service.name());
        let found = self.service.addresses().await;
        self.is_resolved = found.is_ok();
        match found {
            Ok(mut found) => {
                causes.clear_code(&subject, ADDRESSES_UNKNOWN);
                if found.len() > MAX_ADDRESSES {
                    let why = format!(
                        "{service} has {} addresses, and broadcasts are pushed to the first {MAX_ADDRESSES} of them",
                        found.len()
                    );
                    causes.report(subject, Cause::new(TOO_MANY_ADDRESSES, why).with("service", service));
                    found.truncate(MAX_ADDRESSES);
                } else {
                    causes.clear_code(&subject, TOO_MANY_ADDRESSES);
                }
                self.addresses = found;
            }
            Err(why) => {
                let why = format!("broadcasts are not pushed to the addresses of {service}: {why}");
                causes.report(subject, Cause::new(ADDRESSES_UNKNOWN, why).with("service", service));
            }
        }
    }

    fn start(&mut self, address: SocketAddr, good_until: Instant) {
        let start = |bound: &Arc<RunningBinding>| {
            let started = bound.start_address(address, &self.node.rules);
            (self.start_workers)(&started);
            started
        };
        let bindings: Vec<_> = self.service.bindings.iter().map(start).collect();
        let mut node = self.node.clone();
        node.tools.listener = address.to_string().into();
        let (stop, lease) = (self.stop.child_token(), Arc::new(HeldAddress::new(good_until)));
        tracing::info!(group = self.group, service = self.service.name(), %address, "pushes broadcasts to an address");
        let listening = BroadcastConsumer::run(
            node,
            self.group.clone(),
            bindings.clone(),
            Some(Arc::clone(&lease)),
            stop.clone(),
            Arc::default(),
        );
        let task = supervise::spawn_until(Task::BroadcastConsumer, stop.clone(), listening);
        self.listeners.insert(address, AddressListener { lease, bindings, stop, task });
    }

    /// Drains what pushes to an address.
    async fn end(&self, address: SocketAddr, listener: AddressListener) {
        listener.stop.cancel();
        if let Err(error) = listener.task.await {
            tracing::error!(group = self.group, %address, %error, "the consumer of an address failed");
        }
        for (bound, ended) in self.service.bindings.iter().zip(&listener.bindings) {
            bound.end_address(ended);
        }
        tracing::info!(group = self.group, %address, "pushes no more broadcasts to an address");
    }

    /// Lets go of addresses, or of the whole service where none is named.
    async fn release(&self, addresses: &[String]) {
        let (service, node) = (self.service.name(), &self.node.tools.node);
        if let Err(error) = self.node.tools.store.release_addresses(&self.group, &service, node, addresses).await {
            // Their leases end by themselves.
            tracing::debug!(group = self.group, service, %error, "cannot let go of addresses");
        }
    }

    fn tell_listening(&self) {
        for (at, bound) in self.service.bindings.iter().enumerate() {
            let listens = |listener: &AddressListener| listener.bindings[at].listening.load(Ordering::Relaxed);
            bound.listening.store(self.has_share && self.listeners.values().all(listens), Ordering::Relaxed);
        }
    }

    async fn stop(mut self) {
        let listeners = std::mem::take(&mut self.listeners);
        join_all(listeners.into_iter().map(|(address, listener)| self.end(address, listener))).await;
        self.release(&[]).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_addresses_that_the_operator_may_mean_are_pushed_to() {
        let found = addresses(&["10.0.0.2:80", "10.0.0.1:80", "169.254.169.254:80", "10.0.0.1:80", "127.0.0.1:80"]);
        assert_eq!(reachable("stock.internal", found).unwrap(), addresses(&["10.0.0.1:80", "10.0.0.2:80"]));
        let here = addresses(&["127.0.0.2:80", "127.0.0.3:80"]);
        assert_eq!(reachable("stock.localhost", here.clone()).unwrap(), here);
        assert!(reachable("stock.internal", here).unwrap_err().contains("127.0.0.2"));
        assert!(reachable("stock.internal", Vec::new()).unwrap_err().contains("no address"));
    }

    #[test]
    fn a_service_is_its_host_and_port() {
        for (url, expected) in [
            ("https://Stock.internal/courier", ("stock.internal", 443)),
            ("http://stock.internal:8080", ("stock.internal", 8080)),
            ("http://[fd00::1]/", ("fd00::1", 80)),
        ] {
            assert_eq!(place(&Url::parse(url).unwrap()), Some((expected.0.to_owned(), expected.1)), "{url}");
        }
    }
}
