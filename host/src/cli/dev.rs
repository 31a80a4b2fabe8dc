//! `courier dev`: runs a host with Kafka and store built in, for trying things out.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::bail;
use reqwest::Url;

use super::client::HostClient;
use super::watch;
use crate::server::DevOptions;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file whose bindings are run; its Kafka and store are
    /// replaced by built-in ones. By default courier.toml, as soon as it exists.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address to listen on, instead of the configuration's.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The directory of the store; without it every start is empty. The built-in
    /// broker keeps nothing: messages that were not handled when the host stops
    /// are lost.
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Watch a handler, as `courier plugin push` takes it: build, upload and
    /// activate it whenever one of its sources is saved, and print its next
    /// attempts.
    #[arg(long, value_name = "HANDLER")]
    watch: Option<PathBuf>,
}

pub(super) async fn run(ask: impl FnOnce(&Url) -> anyhow::Result<HostClient>, args: Args) -> anyhow::Result<()> {
    let Args { config, listen, data, watch } = args;
    let Some(handler) = watch else { return crate::server::dev(DevOptions { config, listen, data }).await };
    if !handler.exists() {
        bail!("{} is not there: `courier plugin new NAME --lang ts` writes a handler", handler.display());
    }
    let address = address(listen, config.as_deref());
    let client = ask(&Url::parse(&format!("http://{address}"))?)?;
    tokio::select! {
        ended = crate::server::dev(DevOptions { config, listen, data }) => ended,
        never = watch::run(client, handler) => match never {},
    }
}

/// The address at which the host will listen. The host, not this function, reports
/// an invalid configuration.
fn address(listen: Option<SocketAddr>, config: Option<&Path>) -> SocketAddr {
    let configured = || crate::config::load(config.unwrap_or(Path::new("courier.toml"))).ok();
    let usual = || crate::config::parse("courier dev", "", &|_| None).expect("an empty configuration is valid");
    listen.unwrap_or_else(|| configured().unwrap_or_else(usual).server.listen)
}
