//! `courier dev`: runs a host with Kafka and store built in, for trying things out.

use std::net::SocketAddr;
use std::path::PathBuf;

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
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let Args { config, listen, data } = args;
    crate::server::dev(DevOptions { config, listen, data }).await
}
