//! The composition root: builds a host from its configuration, serves, reloads and stops it.
//!
//! The store and the node name come first, since nothing may run without them;
//! then the send side, the engine, the groups, and the API last (`wiring`). A
//! stop goes the other way: no new requests, groups drain, the relay releases
//! its shards, the name is released.

pub mod background;
mod built_in;
mod config_watch;
mod connections;
mod dev;
pub mod http;
pub mod node_lease;
mod open_store;
mod ports;
mod reload;
pub mod sandboxes;
mod stalled_reader;
mod wiring;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use self::config_watch::{Changes, ConfigChange};
use self::connections::Bounds;
pub use self::dev::{DevOptions, dev};
use self::open_store::{once_it_answers, open_store};
use self::reload::{File, Trigger};
use self::wiring::{ApiParts, Base, ConsumeSide, HostParts, SendSide, Watches};
use crate::api;
use crate::app::config_standing::ConfigStanding;
use crate::app::groups::RunningGroups;
use crate::app::import_rules::ImportRules;
use crate::config::{self, Config, DatabaseUrl, OwnTopics};
use crate::engine::Engine;
use crate::publish::outbox::RunningOutboxes;
use crate::publish::send::Acceptor;
use crate::publish::transactions::Transactions;
use crate::publish::transactions::check_back::CheckUrls;
use crate::shutdown::{Signals, StopSignal};
use crate::store::sqlite::HostLock;
use crate::store::{self, SharedStore};
use crate::supervise::{self, Task};

/// How long a stop may take before the rest is dropped.
const STOP_WAIT: Duration = Duration::from_secs(15);
/// How long accepted requests may still be answered.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Connections that may wait to be taken.
const WAITING_CONNECTIONS: u32 = 1_024;
/// The name in the store of the key that authenticates cached machine code.
const ARTEFACT_KEY: &str = "artefacts";

/// Runs a host until it is told to stop.
///
/// # Errors
/// When the configuration is wrong, or something the host cannot do without is
/// not to be had.
pub async fn serve(path: PathBuf) -> anyhow::Result<()> {
    let config = config::load(&path)?;
    // First of all: a host that cannot listen should begin nothing.
    let reserved = reserve(&config)?;
    Host::start(config, false).await?.run(reserved, File { path, built_in: None }).await
}

struct Host {
    config: Config,
    /// Keeps other hosts off the store's file.
    _store_lock: Option<HostLock>,
    store: SharedStore,
    joined: store::Joined,
    fleet: Arc<RunningGroups>,
    outboxes: Arc<RunningOutboxes>,
    acceptor: Acceptor,
    api: api::App,
    urls: CheckUrls,
    own_topics: watch::Sender<OwnTopics>,
    imports: ImportRules,
    standing: ConfigStanding,
    /// Sandboxes in the pool, which is sized at the start.
    slots: u32,
    stop: CancellationToken,
    relay: JoinHandle<()>,
    upkeep: JoinSet<()>,
}

impl Host {
    async fn start(mut config: Config, dev: bool) -> anyhow::Result<Self> {
        let metrics = crate::telemetry::metrics()?;
        let store_lock = lock_store(&config)?;
        let store = open_store(&config.store.url).await?;
        background::store_watch::set_clock(&store).await;
        let node: Arc<str> = config.server.node.as_str().into();
        let joined = node_lease::join(&store, &node).await?;
        tracing::info!(%node, store = store_kind(&config.store.url), "node name leased");

        let base = Base::new(&config, Arc::clone(&store), joined.writer, Arc::clone(&node), dev)?;
        let (causes, stop) = (base.causes.clone(), base.stop.clone());
        let SendSide { acceptor, waker, relay, leases, undelivered } = base.start_sending();
        let (own_topics, wanted_topics) = watch::channel(config.kafka.topics.clone());
        reload::put_in_force(&config, &acceptor, &own_topics);
        let standing = ConfigStanding::new(causes.clone());
        let slots = sandboxes::size_pool(&mut config);
        standing.taken(config.warnings.clone(), Vec::new());
        reload::warn(&config);
        let imports = ImportRules::default();
        imports.replace(&config.plugins);
        let urls = CheckUrls::new(&config.transactions.check_urls).context("cannot set up HTTP")?;
        let transactions = Transactions::start(Arc::clone(&store), acceptor.clone(), urls.clone(), stop.clone());
        let outboxes = Arc::new(RunningOutboxes::new(acceptor.clone(), leases, node, causes.clone()));
        let cache_key = once_it_answers(|| store.host_key(ARTEFACT_KEY)).await?;
        let engine = Engine::new(sandboxes::settings(slots, cache_key))?;
        let consume = base.start_consuming(&config, engine, &acceptor, waker)?;
        let ConsumeSide { fleet, plugins, store_up, restraints, topics } = consume;
        let parts = HostParts {
            base,
            acceptor: acceptor.clone(),
            fleet: Arc::clone(&fleet),
            heard: Arc::default(),
            topics,
            redrives: Arc::default(),
        };
        let watches = Watches { restraints, undelivered, wanted_topics };
        let upkeep = parts.start_background(&config, watches)?;
        let of_api = ApiParts {
            transactions,
            outboxes: Arc::clone(&outboxes),
            plugins,
            imports: imports.clone(),
            standing: standing.clone(),
            store_up,
            metrics: Arc::new(move || metrics.render()),
        };
        let api = parts.api(&config, of_api);
        Ok(Self {
            config,
            _store_lock: store_lock,
            store,
            joined,
            fleet,
            outboxes,
            acceptor,
            api,
            urls,
            own_topics,
            imports,
            standing,
            slots,
            stop,
            relay,
            upkeep,
        })
    }

    /// Serves until a signal comes; then drains.
    async fn run(mut self, reserved: TcpSocket, file: File) -> anyhow::Result<()> {
        let listener = listen(reserved, &self.config)?;
        let address = listener.local_addr()?;
        // Before anything runs: a paused group stays paused over a restart.
        self.fleet.recall_paused().await;
        self.fleet.apply(&self.config.bindings).await?;
        self.outboxes.apply(&self.config.outboxes);
        let (certificate, shown) =
            self.config.server.tls.as_ref().map(|tls| watch::channel(tls.acceptor.clone())).unzip();
        let bounds = Bounds::of_this_process();
        let door = http::keep(listener, api::router(self.api.clone()), bounds, shown, self.stop.clone());
        let server = supervise::spawn_until(Task::Api, self.stop.clone(), door);
        let scheme = if certificate.is_some() { "https" } else { "http" };
        tracing::info!(%address, groups = self.fleet.bound().len(), "ready: {scheme}://{address}");

        let mut signals = Signals::listen()?;
        // A task of its own, since the loop may be busy with a reload.
        let mut lease = supervise::spawn(
            Task::NodeLease,
            background::lease::keep_lease(Arc::clone(&self.store), self.joined.writer, self.api.causes.clone()),
        );
        let mut fallen = pin!(supervise::fallen());
        let mut changes = Changes::of(&file.path, &self.config.files);
        let mut again = false;
        let why = loop {
            let mut trigger = Trigger::Signal;
            if !std::mem::take(&mut again) {
                tokio::select! {
                    asked = signals.next() => match asked {
                        StopSignal::Stop => break None,
                        StopSignal::Reload => {}
                    },
                    () = changed(&mut changes, &self.standing, &file.path) => trigger = Trigger::Watch,
                    why = &mut lease => break Some(name_taken(why)),
                    why = &mut fallen => break Some(why),
                }
            }
            if trigger == Trigger::Signal {
                changes.catch_up();
            }
            // A reload drains groups, and a stop does not wait for its end.
            let running = reload::ReloadTargets {
                fleet: &self.fleet,
                outboxes: &self.outboxes,
                acceptor: &self.acceptor,
                gate: &self.api.auth,
                urls: &self.urls,
                own_topics: &self.own_topics,
                imports: &self.imports,
                slots: self.slots,
                certificate: certificate.as_ref(),
                standing: &self.standing,
                store: &self.store,
            };
            let mut reload = pin!(reload::apply(&file, &mut self.config, &running, trigger));
            let ended = loop {
                tokio::select! {
                    files = &mut reload => {
                        changes.watch(&files);
                        break None;
                    }
                    asked = signals.next() => match asked {
                        StopSignal::Stop => break Some(None),
                        StopSignal::Reload => again = true,
                    },
                    why = &mut lease => break Some(Some(name_taken(why))),
                    why = &mut fallen => break Some(Some(why)),
                }
            };
            if let Some(why) = ended {
                break why;
            }
        };
        self.drain(&mut signals, lease, server).await;
        match why {
            None => Ok(()),
            Some(why) => anyhow::bail!("{why}"),
        }
    }

    /// Lets running work finish, within bounds, and releases the name of the
    /// node.
    async fn drain(mut self, signals: &mut Signals, lease: JoinHandle<String>, server: JoinHandle<()>) {
        tracing::info!("stopping: attempts under way may finish");
        // Event streams would hold the server open.
        self.api.events.close();
        let drained = async {
            self.outboxes.stop().await;
            self.fleet.stop().await;
            self.stop.cancel();
            let _ = self.relay.await;
            self.store.leave(self.joined.writer).await
        };
        tokio::select! {
            drained = tokio::time::timeout(STOP_WAIT, drained) => match drained {
                Ok(Ok(())) => tracing::info!("host stopped"),
                Ok(Err(error)) => tracing::warn!(%error, "the name of this node stays taken until its lease ends"),
                Err(_) => tracing::warn!("did not drain within {STOP_WAIT:?}; what is left will be delivered again"),
            },
            _ = signals.next() => tracing::warn!("stopped at once by a second signal"),
        }
        lease.abort();
        // Accepted requests are still answered.
        let _ = tokio::time::timeout(ANSWER_WAIT, server).await;
        self.upkeep.abort_all();
    }
}

/// Binds the address without listening yet, unless that would let anybody in.
fn reserve(config: &Config) -> anyhow::Result<TcpSocket> {
    let listen = config.server.listen;
    anyhow::ensure!(
        !config.leaves_open(listen),
        "{listen} can be reached from other machines, and no token is needed: \
         listen on 127.0.0.1, or add [auth] with tokens to the configuration"
    );
    let bound = || {
        let socket = if listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A host that was killed a moment ago leaves connections behind.
        socket.set_reuseaddr(true)?;
        socket.bind(listen)?;
        Ok::<_, std::io::Error>(socket)
    };
    bound().with_context(|| format!("cannot listen on {listen} ([server] listen)"))
}

fn listen(reserved: TcpSocket, config: &Config) -> anyhow::Result<TcpListener> {
    let address = config.server.listen;
    reserved.listen(WAITING_CONNECTIONS).with_context(|| format!("cannot listen on {address} ([server] listen)"))
}

/// Takes the right to the store's file, where it is one.
fn lock_store(config: &Config) -> anyhow::Result<Option<HostLock>> {
    let url = &config.store.url;
    if !url.is_sqlite() {
        return Ok(None);
    }
    HostLock::take(url.expose(), &config.server.node).context("cannot use the store ([store] url)")
}

/// Waits until the configuration is to be read again, and tells meanwhile
/// whether it is there.
async fn changed(changes: &mut Changes, standing: &ConfigStanding, path: &Path) {
    loop {
        match changes.next().await {
            ConfigChange::Changed => return,
            ConfigChange::Missing => standing.missing(path),
            ConfigChange::Back => standing.back(),
        }
    }
}

fn name_taken(why: Result<String, tokio::task::JoinError>) -> String {
    match why {
        Ok(why) => format!("this node's name was taken by another process: {why}"),
        Err(error) => error.to_string(),
    }
}

fn store_kind(url: &DatabaseUrl) -> &str {
    url.expose().split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    /// Issue 16: a false ERROR line came before "address in use", since tasks
    /// had begun that could only end.
    #[tokio::test]
    async fn an_address_in_use_is_told_before_anything_begins() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let config = config::parse("courier.toml", &format!("[server]\nlisten = \"{address}\"\n"), &|_| None).unwrap();
        let said = format!("{:#}", reserve(&config).unwrap_err());
        assert!(said.starts_with(&format!("cannot listen on {address}")) && said.contains("in use"), "{said}");
        drop(taken);
        let reserved = reserve(&config).unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "nobody would answer");
        let _listener = listen(reserved, &config).unwrap();
        TcpStream::connect(address).await.unwrap();
    }
}
