//! `courier plugin`: from nothing to a handler that runs.
//!
//! `new` and `build` act on this machine; the others ask a host.

mod binding;
mod build;
mod javascript;
mod new;
mod push;
mod python;
mod versions;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

pub(super) use self::build::component;
pub(super) use self::push::{name_of, uploaded};
use super::Output;
use super::client::HostClient;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Writes a handler to start from, with its tests.
    New(new::Args),
    /// Builds a handler into a component.
    Build {
        /// The handler's folder, or its TypeScript, JavaScript or Python file.
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Uploads a component as a new version of a plugin; a handler's folder is
    /// built first.
    Push(push::Args),
    /// Lists the plugins, or the versions of one.
    List {
        /// The plugin.
        name: Option<String>,
    },
    /// Makes a version the one that handles what comes next.
    Activate {
        /// The plugin.
        name: String,
        /// The version: sha256: and its digits, of which the first will do.
        version: String,
    },
    /// Activates the version that was active before.
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

/// Writes a file and the folders that lead to it. One with this content already
/// is left alone, so that nobody takes it for changed.
fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
