//! Makes the parts of a host, a function a layer, and its API of them.

use std::sync::Arc;

use anyhow::Context as _;
use rdkafka::ClientConfig;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ports;
use crate::api;
use crate::api::auth::Authenticator;
use crate::app::config_standing::ConfigStanding;
use crate::app::groups::RunningGroups;
use crate::app::import_rules::ImportRules;
use crate::app::kafka_status::KafkaStatus;
use crate::app::readiness::ReadinessProbe;
use crate::app::store_probe::StoreProbe;
use crate::app::upload_plugin::PluginUploads;
use crate::causes::Causes;
use crate::config::{Config, OwnTopics};
use crate::consume::NodeContext;
use crate::consume::attempt::plugin_versions::PluginVersions;
use crate::consume::fairness::controller::FairnessController;
use crate::consume::owner::OwnerDeps;
use crate::consume::settle::writer::Settler;
use crate::engine::Engine;
use crate::kafka::embedded;
use crate::kafka::log_reader::LogReader;
use crate::kafka::producer::Producer;
use crate::kafka::topic_watch::TopicWatch;
use crate::publish::outbox::RunningOutboxes;
use crate::publish::relay::delayed::DelayedWaker;
use crate::publish::relay::lease::Leases;
use crate::publish::relay::{self, Relay};
use crate::publish::send::Acceptor;
use crate::publish::transactions::Transactions;
use crate::publish::undelivered::UndeliveredWatch;
use crate::publish::waker::Waker;
use crate::store::{SharedStore, WriterId};

/// What every part of a host is made from.
pub(super) struct Base {
    pub(super) store: SharedStore,
    pub(super) writer: WriterId,
    pub(super) node: Arc<str>,
    /// How every client reaches Kafka.
    pub(super) clients: ClientConfig,
    pub(super) producer: Producer,
    pub(super) log: LogReader,
    pub(super) causes: Causes,
    pub(super) stop: CancellationToken,
    pub(super) dev: bool,
}

/// What takes messages, and what sends those that did not go directly.
pub(super) struct SendSide {
    pub(super) acceptor: Acceptor,
    pub(super) waker: Waker,
    pub(super) relay: JoinHandle<()>,
    pub(super) leases: Leases,
    pub(super) undelivered: UndeliveredWatch,
}

/// What consumes topics.
pub(super) struct ConsumeSide {
    pub(super) fleet: Arc<RunningGroups>,
    pub(super) plugins: Arc<PluginVersions>,
    pub(super) store_up: watch::Receiver<bool>,
    pub(super) restraints: FairnessController,
    pub(super) topics: TopicWatch,
}

impl Base {
    /// Makes the clients of Kafka; none of them waits for it.
    pub(super) fn new(
        config: &Config,
        store: SharedStore,
        writer: WriterId,
        node: Arc<str>,
        dev: bool,
    ) -> anyhow::Result<Self> {
        let clients = clients(config);
        let properties = config.kafka.properties.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
        let start = if dev { Producer::of_embedded } else { Producer::new };
        let producer = start(&config.kafka.bootstrap_servers, &properties.collect())?;
        let mut log = LogReader::new(&clients)?.with_max_record(config.kafka.max_record);
        if dev {
            log = log.with_stand_in(&uuid::Uuid::now_v7().to_string());
        }
        let (causes, stop) = (Causes::default(), CancellationToken::new());
        Ok(Self { store, writer, node, clients, producer, log, causes, stop, dev })
    }

    /// Starts the send side and its relay.
    pub(super) fn start_sending(&self) -> SendSide {
        let (waker, alarm) = (Waker::default(), DelayedWaker::default());
        let way_out = relay::Parts {
            store: Arc::clone(&self.store),
            producer: self.producer.clone(),
            log: self.log.clone(),
            writer: self.writer,
            waker: waker.clone(),
            alarm: alarm.clone(),
            causes: self.causes.clone(),
        };
        let (relay, leases) = Relay::start(way_out, self.stop.clone());
        let (undelivered, full) = UndeliveredWatch::new();
        let acceptor = Acceptor::start(
            Arc::clone(&self.store),
            self.producer.clone(),
            self.log.clone(),
            waker.clone(),
            alarm,
            full,
        );
        SendSide { acceptor, waker, relay, leases, undelivered }
    }

    /// Starts what runs handlers, without a group yet.
    pub(super) fn start_consuming(
        &self,
        config: &Config,
        engine: Engine,
        acceptor: &Acceptor,
        waker: Waker,
    ) -> anyhow::Result<ConsumeSide> {
        let (up, store_up) = watch::channel(true);
        let store = || Arc::clone(&self.store);
        let settler = Settler::start(store(), self.writer, up, self.causes.clone(), move || waker.wake())
            .context("cannot start the writer of outcomes")?;
        let plugins = PluginVersions::start(store(), engine.clone(), self.writer);
        let (restraints, topics) = (FairnessController::default(), TopicWatch::default());
        let node = NodeContext {
            tools: OwnerDeps {
                settler,
                store: store(),
                log: self.log.clone(),
                node: Arc::clone(&self.node),
                listener: Arc::clone(&self.node),
                causes: self.causes.clone(),
            },
            writer: self.writer,
            engine,
            state: Arc::new(ports::StateAdapter(store())),
            store_up: store_up.clone(),
            consumer: consumers(&self.clients, &self.node),
            max_record: config.kafka.max_record,
            rules: acceptor.rules().clone(),
            kafka_group: if self.dev { embedded::fresh_group } else { str::to_owned },
            restraints: restraints.clone(),
            topics: topics.clone(),
        };
        let fleet = Arc::new(RunningGroups::new(node, Arc::clone(&plugins)));
        Ok(ConsumeSide { fleet, plugins, store_up, restraints, topics })
    }
}

/// The parts that the background tasks and the API are made of.
pub(super) struct HostParts {
    pub(super) base: Base,
    pub(super) acceptor: Acceptor,
    pub(super) fleet: Arc<RunningGroups>,
    pub(super) heard: Arc<KafkaStatus>,
    pub(super) topics: TopicWatch,
    /// Wakes the runner of redrives.
    pub(super) redrives: Arc<Notify>,
}

/// What only one background task needs.
pub(super) struct Watches {
    pub(super) restraints: FairnessController,
    pub(super) undelivered: UndeliveredWatch,
    pub(super) wanted_topics: watch::Receiver<OwnTopics>,
}

/// What only the API needs.
pub(super) struct ApiParts {
    pub(super) transactions: Transactions,
    pub(super) outboxes: Arc<RunningOutboxes>,
    pub(super) plugins: Arc<PluginVersions>,
    pub(super) imports: ImportRules,
    pub(super) standing: ConfigStanding,
    pub(super) store_up: watch::Receiver<bool>,
    pub(super) metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl HostParts {
    /// What the operations of the API work with.
    pub(super) fn api(self, config: &Config, rest: ApiParts) -> api::App {
        let Self { base, acceptor, fleet, heard, redrives, .. } = self;
        let Base { store, log, producer, causes, dev, .. } = base;
        let ApiParts { transactions, outboxes, plugins, imports, standing, store_up, metrics } = rest;
        api::App {
            store: Arc::clone(&store),
            sender: Arc::new(ports::SenderAdapter(acceptor.clone())),
            transactions: Arc::new(ports::TransactionsAdapter(transactions)),
            outboxes: Arc::new(ports::OutboxesAdapter(outboxes)),
            groups: Arc::new(ports::GroupsAdapter {
                fleet: Arc::clone(&fleet),
                heard: Arc::clone(&heard),
                store: Arc::clone(&store),
                log: log.clone(),
                redrives,
            }),
            plugins: Arc::new(ports::PluginsAdapter(PluginUploads { store: Arc::clone(&store), plugins, imports })),
            log: Arc::new(ports::LogAdapter { log, producer: producer.clone() }),
            health: Arc::new(ports::HealthAdapter(ReadinessProbe {
                pulse: StoreProbe::new(store),
                acceptor,
                store_up,
                producer,
                heard,
                fleet,
                causes: causes.clone(),
                config: standing,
            })),
            causes,
            auth: Authenticator::new(ports::tokens(&config.auth)),
            cookies: api::sessions::Cookies::new(config.server.is_reached_over_tls()),
            attempts: api::sessions::attempts(),
            refusals: api::sessions::Refusals::default(),
            node: config.server.node.as_str().into(),
            metrics,
            audience: api::messages::audience::Audience::default(),
            events: api::events::Hub::default(),
            dev,
        }
    }
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
