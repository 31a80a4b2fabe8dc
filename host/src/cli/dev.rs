//! `courier dev`: a host that needs nothing else, for trying things out.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::bail;
use reqwest::Url;

use super::client::HostClient;
use super::watch;
use crate::server::DevOptions;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration whose bindings are run; its Kafka and store are
    /// replaced by built-in ones. Without it: courier.toml, as soon as there is
    /// one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, if not where the configuration says.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The directory that keeps the store; without it every start is empty.
    /// The built-in broker keeps nothing: what was not handled when the host
    /// stops is not handled after.
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// A handler, as `courier plugin push` takes it: it is built, uploaded and
    /// activated whenever a source of it is saved, and what the next attempts
    /// did is printed.
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
    let watching = tokio::spawn(watch::run(client, handler));
    let ended = crate::server::dev(DevOptions { config, listen, data }).await;
    watching.abort();
    ended
}

/// Where the host will listen. What is wrong with a configuration is for the
/// host to say.
fn address(listen: Option<SocketAddr>, config: Option<&Path>) -> SocketAddr {
    let configured = || crate::config::load(config.unwrap_or(Path::new("courier.toml"))).ok();
    let usual = || crate::config::parse("courier dev", "", &|_| None).expect("an empty configuration is valid");
    listen.unwrap_or_else(|| configured().unwrap_or_else(usual).server.listen)
}
