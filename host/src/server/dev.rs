//! `courier dev`: a host that needs nothing, with a broker inside the process
//! and a store that is gone afterwards.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use courier_core::message::Kind;

use super::Host;
use super::reload::File;
use crate::config::{self, Config};
use crate::kafka::embedded::Embedded;

/// What is read when nothing is named. It need not be there yet.
const DEFAULT_FILE: &str = "courier.toml";

/// What `courier dev` runs with.
#[derive(Clone, Debug, Default)]
pub struct DevOptions {
    /// A configuration to take bindings and the like from; Kafka and the store
    /// in it are replaced.
    pub config: Option<PathBuf>,
    /// A folder to keep the store in; empty and gone afterwards when not given.
    pub data: Option<PathBuf>,
    /// Where to listen instead of the configured address.
    pub listen: Option<SocketAddr>,
}

/// What stands in for what a configuration names.
pub(super) struct BuiltIn {
    /// It runs as long as this.
    broker: Embedded,
    servers: Vec<String>,
    store: String,
    listen: Option<SocketAddr>,
}

impl BuiltIn {
    /// Puts the built-in parts into a configuration, and makes the topics that
    /// its bindings speak of.
    pub fn replace(&self, config: &mut Config) {
        if let Some(listen) = self.listen {
            config.server.listen = listen;
        }
        config.kafka.bootstrap_servers.clone_from(&self.servers);
        config.kafka.properties.clear();
        config.store.url = self.store.as_str().into();
        for topic in topics(config) {
            self.broker.create_topic(&topic);
        }
    }
}

/// Runs a host that needs nothing: an embedded broker and a store of its own.
///
/// # Errors
/// When the configuration is wrong, or something the host cannot do without is
/// not to be had.
pub async fn dev(options: DevOptions) -> anyhow::Result<()> {
    let path = options.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let mut config = if options.config.is_some() || path.is_file() {
        config::load(&path)?
    } else {
        config::parse("courier dev", "", &|name| std::env::var(name).ok())?
    };
    let broker = Embedded::start(&[]).context("cannot start the embedded broker")?;
    let servers = broker.servers().context("cannot start the embedded broker")?;
    // The broker starts empty each time, so a store that remembers positions
    // of an earlier run would speak of records that are gone.
    let scratch = tempfile_dir()?;
    if let Some(data) = &options.data {
        std::fs::create_dir_all(data).with_context(|| format!("cannot create {}", data.display()))?;
    }
    let kept = options.data.as_ref().unwrap_or(&scratch).join("courier.db");
    tracing::info!(broker = servers, store = %kept.display(), "a host for development");
    let servers = servers.split(',').map(ToOwned::to_owned).collect();
    let built_in = BuiltIn { broker, servers, store: format!("sqlite://{}", kept.display()), listen: options.listen };
    built_in.replace(&mut config);
    let file = File { path, built_in: Some(built_in) };
    let result = async { Host::start(config, true).await?.run(file).await }.await;
    let _ = std::fs::remove_dir_all(scratch);
    result
}

/// What the bindings read and what they may publish on, with the companions
/// that their broadcasts lie in: the embedded broker's clients make no topics.
fn topics(config: &Config) -> BTreeSet<String> {
    let named = config.bindings.iter().flat_map(|binding| binding.topics.iter().chain(&binding.grant.publish));
    named.flat_map(|topic| [topic.clone(), Kind::Broadcast.log_topic(topic).into_owned()]).collect()
}

fn tempfile_dir() -> anyhow::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("courier-dev-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}
