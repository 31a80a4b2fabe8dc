//! The project's own commands. `cargo xtask demo` shows Courier at work and
//! `cargo xtask test` shows that it works; both set up what they need.
//!
//! One file a command. This crate depends on nothing that takes long to build,
//! because it is the first program that runs on a fresh machine. Code that it shares
//! with the tests (installing programs, starting servers) is included from there.

mod bench;
mod builtin;
mod clients;
mod console;
mod demo;
mod deny;
mod faults;
mod guests;
mod http;
mod java;
mod peers;
mod steps;
mod test;
mod tidy;
mod tree;

// The tests use all of it, xtask a part.
#[allow(dead_code, unused_imports)]
#[path = "../../support/servers/mod.rs"]
mod servers;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything, start `courier dev`, and send it a stream of orders.
    Demo(demo::Arguments),
    /// Set up and run every check and test.
    Test(test::Arguments),
    /// Build every plugin and test guest into target/guests/NAME.wasm.
    Guests,
    /// Rebuild the plugins that the host embeds, for a commit.
    Builtin,
    /// Build the console into host/console/dist.
    Console,
    /// Check the tree for import cycles, names used twice, and long files or functions.
    Tidy,
    /// Run a benchmark, also of other solutions for the same task.
    Bench(bench::Arguments),
    /// Run the fault tests at their full size, repeatedly.
    Faults(faults::Arguments),
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command. Returns false when a check failed, which was printed.
fn run() -> Result<bool> {
    let arguments = Arguments::parse();
    let root = root()?;
    match arguments.command {
        Command::Demo(arguments) => demo::run(&root, &arguments).map(|()| true),
        Command::Test(arguments) => test::run(&root, &arguments),
        Command::Guests => guests::run(&root).map(|()| true),
        Command::Builtin => builtin::run(&root).map(|()| true),
        Command::Console => console::run(&root).map(|()| true),
        Command::Tidy => tidy::run(&root),
        Command::Bench(arguments) => bench::run(&root, &arguments).map(|()| true),
        Command::Faults(arguments) => faults::run(&root, &arguments),
    }
}

/// The root of the repository: of the sources that Cargo runs, or of those that this
/// program was built from.
fn root() -> Result<PathBuf> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let here = Path::new(&package).join("../..");
    here.canonicalize().with_context(|| format!("the repository is no longer at {}", here.display()))
}
