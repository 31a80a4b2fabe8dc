//! `courier dev`: a host that needs nothing else, for trying things out.

use std::net::SocketAddr;
use std::path::PathBuf;

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
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let Args { config, listen, data } = args;
    crate::server::dev(DevOptions { config, listen, data }).await
}
