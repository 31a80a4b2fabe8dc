//! `courier dev`: a host with a broker inside the process and a store that is
//! removed afterwards.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;

use super::built_in::BuiltIn;
use super::reload::File;
use super::{Host, reserve};
use crate::config;
use crate::kafka::embedded::Embedded;

/// The default configuration file, which need not exist.
const DEFAULT_FILE: &str = "courier.toml";

/// The options of `courier dev`.
#[derive(Clone, Debug, Default)]
pub struct DevOptions {
    /// A configuration, whose Kafka and store are replaced.
    pub config: Option<PathBuf>,
    /// A folder for the store; without one the store is empty and removed afterwards.
    pub data: Option<PathBuf>,
    /// Where to listen instead of the configured address.
    pub listen: Option<SocketAddr>,
}

/// Runs a host with an embedded broker and a store of its own.
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
    // The broker starts empty each time, so positions of an earlier run would
    // refer to records that are gone.
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
    let result = async {
        let reserved = reserve(&config)?;
        Host::start(config, true).await?.run(reserved, file).await
    }
    .await;
    let _ = std::fs::remove_dir_all(scratch);
    result
}

fn tempfile_dir() -> anyhow::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("courier-dev-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}
