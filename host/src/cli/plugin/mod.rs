//! `courier plugin`: writes, builds, uploads and activates plugins.
//!
//! `new` and `build` act on this machine; the others call a host.

mod binding;
mod build;
mod javascript;
mod new;
mod push;
mod python;
mod versions;
mod write;

use std::path::PathBuf;

pub(super) use self::build::component;
pub(super) use self::push::{name_of, uploaded};
use super::Output;
use super::client::HostClient;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Write a new handler with its tests.
    New(new::Args),
    /// Build a handler into a component.
    Build {
        /// The handler's folder, or its TypeScript, JavaScript or Python file.
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Upload a component as a new version of a plugin; build a handler's folder
    /// first.
    Push(push::Args),
    /// List the plugins, or the versions of one.
    List {
        /// The plugin.
        name: Option<String>,
    },
    /// Activate a version, which then handles the next messages.
    Activate {
        /// The plugin.
        name: String,
        /// The version: sha256: and its first digits.
        version: String,
    },
    /// Activate the version that was active before.
    Rollback {
        /// The plugin.
        name: String,
    },
}

pub(super) async fn run(
    ask: impl FnOnce() -> anyhow::Result<HostClient>,
    output: Output,
    command: Command,
) -> anyhow::Result<()> {
    match command {
        Command::New(args) => new::run(&args),
        Command::Build { dir } => build::run(&dir, output),
        Command::Push(args) => push::run(&ask()?, output, args).await,
        Command::List { name } => versions::list(&ask()?, output, name.as_deref()).await,
        Command::Activate { name, version } => versions::activate(&ask()?, output, &name, &version).await,
        Command::Rollback { name } => versions::rollback(&ask()?, output, &name).await,
    }
}
