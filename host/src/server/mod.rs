//! The composition root: the whole machine on a page.
//!
//! Store and name first, since nothing may run without them; then the way to
//! Kafka, the engine, the groups, and the API last. A stop goes the other way:
//! no new requests, groups drain, the relay lets its shards go, the name is
//! given back.

pub mod background;
mod bindings;
mod config_standing;
mod config_watch;
mod connections;
mod dev;
mod group_causes;
pub mod groups;
pub mod http;
mod import_rules;
mod lag;
pub mod node_lease;
mod open_store;
mod policy;
mod ports;
mod reload;
pub mod sandboxes;
mod seek;
pub mod stalled_partitions;
mod store_watch;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rdkafka::ClientConfig;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::background::KafkaStatus;
use self::config_standing::ConfigStanding;
use self::config_watch::Changes;
use self::connections::Bounds;
pub use self::dev::{DevOptions, dev};
use self::groups::RunningGroups;
use self::import_rules::ImportRules;
use self::open_store::{once_it_answers, open_store};
use self::reload::{File, Trigger};
use crate::api;
use crate::api::auth::Authenticator;
use crate::causes::Causes;
use crate::config::{self, Config, DatabaseUrl, OwnTopics, Property};
use crate::consume::NodeContext;
use crate::consume::attempt::plugin_versions::PluginVersions;
use crate::consume::fairness::controller::FairnessController;
use crate::consume::owner::OwnerDeps;
use crate::consume::redrive::Runner;
use crate::consume::settle::writer::Settler;
use crate::engine::Engine;
use crate::kafka::embedded;
use crate::kafka::limits::TopicLimits;
use crate::kafka::log_reader::LogReader;
use crate::kafka::producer::Producer;
use crate::kafka::topic_watch::TopicWatch;
use crate::publish::outbox::RunningOutboxes;
use crate::publish::relay::delayed::DelayedWaker;
use crate::publish::relay::{self, Relay};
use crate::publish::send::{self, Acceptor};
use crate::publish::transactions::Transactions;
use crate::publish::transactions::check_back::CheckUrls;
use crate::publish::undelivered::UndeliveredWatch;
use crate::publish::waker::Waker;
use crate::shutdown::{Signals, StopSignal};
use crate::store::{self, SharedStore};
use crate::supervise::{self, Task};

/// How long a stop may take in all before what is left is dropped.
const STOP_WAIT: Duration = Duration::from_secs(15);
/// How long requests that were taken may still be answered.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// What cached machine code is authenticated with, by its name in the store.
const ARTEFACT_KEY: &str = "artefacts";

/// Runs a host until it is told to stop.
///
/// # Errors
/// When the configuration is wrong, or something the host cannot do without is
/// not to be had.
pub async fn serve(path: PathBuf) -> anyhow::Result<()> {
    let config = config::load(&path)?;
    Host::start(config, false).await?.run(File { path, built_in: None }).await
}

struct Host {
    config: Config,
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
    relay: tokio::task::JoinHandle<()>,
    upkeep: tokio::task::JoinSet<()>,
}

impl Host {
    async fn start(mut config: Config, dev: bool) -> anyhow::Result<Self> {
        let metrics = crate::telemetry::metrics()?;
        let store = open_store(&config.store.url).await?;
        store_watch::set_clock(&store).await;
        let node: Arc<str> = config.server.node.as_str().into();
        let joined = node_lease::join(&store, &node).await?;
        tracing::info!(%node, store = store_kind(&config.store.url), "node name leased");

        let clients = clients(&config);
        let stop = CancellationToken::new();
        let properties = config.kafka.properties.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
        let producer = Producer::new(&config.kafka.bootstrap_servers, &properties.collect())?;
        let mut log = LogReader::new(&clients)?.with_max_record(config.kafka.max_record);
        if dev {
            log = log.with_stand_in(&uuid::Uuid::now_v7().to_string());
        }
        let causes = Causes::default();
        let waker = Waker::default();
        let alarm = DelayedWaker::default();
        let way_out = relay::Parts {
            store: Arc::clone(&store),
            producer: producer.clone(),
            log: log.clone(),
            writer: joined.writer,
            waker: waker.clone(),
            alarm: alarm.clone(),
            causes: causes.clone(),
        };
        let (relay, leases) = Relay::start(way_out, stop.clone());
        let (undelivered, full) = UndeliveredWatch::new();
        let acceptor = Acceptor::start(
            Arc::clone(&store),
            producer.clone(),
            log.clone(),
            waker.clone(),
            alarm,
            send::SendSettings { full: Some(full), ..send::SendSettings::default() },
        );
        let (own_topics, wanted_topics) = watch::channel(config.kafka.topics.clone());
        reload::put_in_force(&config, &acceptor, &own_topics);
        let standing = ConfigStanding::new(causes.clone());
        let capacity = sandboxes::capacity(&config.bindings);
        tracing::info!(
            sandboxes = capacity.slots,
            wanted = capacity.wanted,
            by_max_map_count = capacity.by_mappings,
            by_memory = capacity.by_memory,
            "pool of sandboxes sized"
        );
        sandboxes::warn_of_shortage(&mut config, capacity.slots);
        standing.taken(config.warnings.clone(), Vec::new());
        reload::warn(&config);
        let imports = ImportRules::default();
        imports.replace(&config.plugins);
        let urls = CheckUrls::new(&config.transactions.check_urls).context("cannot set up HTTP")?;
        let transactions = Transactions::start(Arc::clone(&store), acceptor.clone(), urls.clone(), stop.clone());
        let outboxes = Arc::new(RunningOutboxes::new(acceptor.clone(), leases, Arc::clone(&node), causes.clone()));
        let (up, store_up) = watch::channel(true);
        let settler = Settler::start(Arc::clone(&store), joined.writer, up, causes.clone(), move || waker.wake())
            .context("cannot start the writer of outcomes")?;
        let cache_key = once_it_answers(|| store.host_key(ARTEFACT_KEY)).await?;
        let engine = Engine::new(sandboxes::settings(capacity.slots, cache_key))?;
        let plugins = PluginVersions::start(Arc::clone(&store), engine.clone(), joined.writer);

        let name = Arc::clone(&node);
        let restraints = FairnessController::default();
        let topics = TopicWatch::default();
        let node = NodeContext {
            tools: OwnerDeps {
                settler,
                store: Arc::clone(&store),
                log: log.clone(),
                node: Arc::clone(&node),
                causes: causes.clone(),
            },
            writer: joined.writer,
            engine,
            state: Arc::new(ports::StateAdapter(Arc::clone(&store))),
            store_up: store_up.clone(),
            consumer: consumers(&clients, &node),
            max_record: config.kafka.max_record,
            rules: acceptor.rules().clone(),
            kafka_group: if dev { embedded::fresh_group } else { str::to_owned },
            restraints: restraints.clone(),
            topics: topics.clone(),
        };
        let fleet = Arc::new(RunningGroups::new(node, Arc::clone(&plugins)));
        let heard = Arc::new(KafkaStatus::default());

        let mut upkeep = tokio::task::JoinSet::new();
        let lasting = |task, work: BoxFuture<'static, ()>| supervise::until(task, stop.clone(), work);
        upkeep.spawn(lasting(Task::Fleet, Arc::clone(&fleet).follow().boxed()));
        upkeep.spawn(lasting(Task::Fairness, restraints.keep().boxed()));
        let watch_undelivered = {
            let (fleet, board) = (Arc::clone(&fleet), causes.clone());
            let stop_sources = move |full: &HashSet<String>| fleet.hold_for_undelivered(full, &board);
            undelivered.run(Arc::clone(&store), causes.clone(), stop_sources)
        };
        upkeep.spawn(lasting(Task::UndeliveredWatch, watch_undelivered.boxed()));
        upkeep.spawn(lasting(Task::TopicWatch, topics.clone().run(log.clone(), stop.clone()).boxed()));
        if !dev {
            upkeep.spawn(lasting(Task::TopicIds, background::watch_ids(topics.clone(), causes.clone()).boxed()));
        }
        let ends = background::watch_ends(
            log.clone(),
            topics.clone(),
            Arc::clone(&store),
            Arc::clone(&fleet),
            Arc::clone(&heard),
        );
        upkeep.spawn(lasting(Task::LogEnds, ends.boxed()));
        let broadcasts = background::watch_broadcasts(Arc::clone(&store), Arc::clone(&fleet));
        upkeep.spawn(lasting(Task::BroadcastWatch, broadcasts.boxed()));
        upkeep.spawn(lasting(Task::Gauges, background::gauge_totals(Arc::clone(&store)).boxed()));
        upkeep.spawn(lasting(Task::Minutes, background::keep_minutes(Arc::clone(&store), joined.writer).boxed()));
        let (retention, forgetting) = (config.store.retention, Arc::clone(&fleet));
        let prune = background::prune(Arc::clone(&store), forgetting, retention, causes.clone(), stop.clone());
        upkeep.spawn(lasting(Task::Retention, prune.boxed()));
        let watch = store_watch::keep(Arc::clone(&store), acceptor.clone(), causes.clone());
        upkeep.spawn(lasting(Task::StoreWatch, watch.boxed()));
        let look = group_causes::watch(Arc::clone(&store), Arc::clone(&fleet), causes.clone());
        upkeep.spawn(lasting(Task::GroupCauses, look.boxed()));
        let keep = bindings::keep(Arc::clone(&store), Arc::clone(&fleet), Arc::clone(&name));
        upkeep.spawn(lasting(Task::NodeBindings, keep.boxed()));
        let redrives = Arc::new(Notify::new());
        let runner = Runner {
            store: Arc::clone(&store),
            log: log.clone(),
            writer: joined.writer,
            node: name,
            wake: Box::new({
                let fleet = Arc::clone(&fleet);
                move || fleet.wake()
            }),
            poke: Arc::clone(&redrives),
            passes_over: Box::new({
                let fleet = Arc::clone(&fleet);
                move |group, topic, kind| fleet.passes_over(group, topic, kind)
            }),
            causes: causes.clone(),
        };
        upkeep.spawn(lasting(Task::RedriveRunner, runner.run(stop.clone()).boxed()));
        if !compresses(&config.kafka.properties) {
            let limits = TopicLimits::new(&clients).context("cannot set up a client for kafka")?;
            let watch = ports::watch_limits(limits, acceptor.rules().clone(), Arc::clone(&fleet));
            upkeep.spawn(lasting(Task::TopicLimits, watch.boxed()));
        }
        let create = ports::own_topics(wanted_topics, producer.clone(), Arc::clone(&fleet), causes.clone());
        upkeep.spawn(lasting(Task::OwnTopics, create.boxed()));

        let api = api::App {
            store: Arc::clone(&store),
            sender: Arc::new(ports::SenderAdapter(acceptor.clone())),
            transactions: Arc::new(ports::TransactionsAdapter(transactions)),
            outboxes: Arc::new(ports::OutboxesAdapter(Arc::clone(&outboxes))),
            groups: Arc::new(ports::GroupsAdapter {
                fleet: Arc::clone(&fleet),
                heard: Arc::clone(&heard),
                store: Arc::clone(&store),
                log: log.clone(),
                redrives,
            }),
            plugins: Arc::new(ports::PluginsAdapter { store: Arc::clone(&store), plugins, imports: imports.clone() }),
            log: Arc::new(ports::LogAdapter { log, producer: producer.clone() }),
            health: Arc::new(ports::HealthAdapter {
                pulse: store_watch::StoreProbe::new(Arc::clone(&store)),
                acceptor: acceptor.clone(),
                store_up,
                producer,
                heard,
                fleet: Arc::clone(&fleet),
                causes: causes.clone(),
                config: standing.clone(),
            }),
            causes,
            auth: Authenticator::new(ports::tokens(&config.auth)),
            cookies: api::sessions::Cookies::new(config.server.is_reached_over_tls()),
            attempts: api::sessions::attempts(),
            refusals: api::sessions::Refusals::default(),
            node: config.server.node.as_str().into(),
            metrics: Arc::new(move || metrics.render()),
            audience: api::messages::audience::Audience::default(),
            events: api::events::Hub::default(),
            dev,
        };
        Ok(Self {
            config,
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
            slots: capacity.slots,
            stop,
            relay,
            upkeep,
        })
    }

    /// Serves until a signal comes; then drains.
    async fn run(mut self, file: File) -> anyhow::Result<()> {
        let listen = self.config.server.listen;
        anyhow::ensure!(
            !self.config.leaves_open(listen),
            "{listen} can be reached from other machines, and no token is needed: \
             listen on 127.0.0.1, or add [auth] with tokens to the configuration"
        );
        let listener = tokio::net::TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen} ([server] listen)"))?;
        let address = listener.local_addr()?;
        // Before anything runs: a group that was paused stays so over a restart.
        self.fleet.recall_paused().await;
        self.fleet.apply(&self.config.bindings).await?;
        self.outboxes.apply(&self.config.outboxes);
        let stop = self.stop.clone();
        let (certificate, shown) =
            self.config.server.tls.as_ref().map(|tls| watch::channel(tls.acceptor.clone())).unzip();
        let bounds = Bounds::of_this_process();
        let door = http::keep(listener, api::router(self.api.clone()), bounds, shown, stop.clone());
        let server = supervise::spawn_until(Task::Api, stop, door);
        let scheme = if certificate.is_some() { "https" } else { "http" };
        tracing::info!(%address, groups = self.fleet.bound().len(), "ready: {scheme}://{address}");

        let mut signals = Signals::listen()?;
        // Apart from the loop, which may be busy with a reload.
        let mut lease = supervise::spawn(
            Task::NodeLease,
            background::keep_lease(Arc::clone(&self.store), self.joined.writer, self.api.causes.clone()),
        );
        let fallen = supervise::fallen();
        tokio::pin!(fallen);
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
                    () = changes.next() => trigger = Trigger::Watch,
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
            let reload = reload::apply(&file, &mut self.config, &running, trigger);
            tokio::pin!(reload);
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
        tracing::info!("stopping: attempts under way may finish");
        // Listeners would hold the server open for as long as they listen.
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
        // Requests that were taken get their answers.
        let _ = tokio::time::timeout(ANSWER_WAIT, server).await;
        self.upkeep.abort_all();
        match why {
            None => Ok(()),
            Some(why) => anyhow::bail!("{why}"),
        }
    }
}

fn name_taken(why: Result<String, tokio::task::JoinError>) -> String {
    match why {
        Ok(why) => format!("this node's name was taken by another process: {why}"),
        Err(error) => error.to_string(),
    }
}

/// Whether records are packed before Kafka measures them, so that nobody knows
/// beforehand whether one is too large.
fn compresses(properties: &BTreeMap<String, Property>) -> bool {
    let named = ["compression.type", "compression.codec"].iter().filter_map(|name| properties.get(*name));
    named.into_iter().any(|codec| codec.expose() != "none")
}

fn store_kind(url: &DatabaseUrl) -> &str {
    url.expose().split(':').next().unwrap_or_default()
}

/// How every client reaches Kafka.
fn clients(config: &Config) -> ClientConfig {
    let mut clients = ClientConfig::new();
    clients.set("bootstrap.servers", config.kafka.bootstrap_servers.join(","));
    clients.set("client.id", format!("courier-{}", config.server.node));
    for (name, value) in &config.kafka.properties {
        clients.set(name, value.expose());
    }
    clients
}

/// How consumers are configured, but for their group. What a person set in
/// `[kafka.properties]` stays, but for what Courier's guarantees rest on.
fn consumers(clients: &ClientConfig, node: &str) -> ClientConfig {
    let mut consumers = clients.clone();
    let usual = [
        // Short of the default 45 s: a host that is gone should not be waited for.
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "2000"),
        // What is prefetched is thrown away by a pause, so there is little of it.
        ("queued.min.messages", "10000"),
        ("queued.max.messages.kbytes", "16384"),
        // A partition whose queue is full is asked for again after this; the
        // default second is longer than such short queues last.
        ("fetch.queue.backoff.ms", "5"),
        ("fetch.wait.max.ms", "100"),
        ("fetch.error.backoff.ms", "100"),
        ("reconnect.backoff.ms", "50"),
        ("reconnect.backoff.max.ms", "1000"),
        ("topic.metadata.refresh.interval.ms", "10000"),
    ];
    for (name, value) in usual {
        if clients.get(name).is_none() {
            consumers.set(name, value);
        }
    }
    consumers.set("group.instance.id", node).set("partition.assignment.strategy", "cooperative-sticky");
    consumers.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    consumers.set("auto.offset.reset", "error").set("isolation.level", "read_committed");
    consumers.set("enable.partition.eof", "true");
    // A byte that the network or a disk changed is no message.
    consumers.set("check.crcs", "true");
    consumers.set("allow.auto.create.topics", "false");
    consumers
}
