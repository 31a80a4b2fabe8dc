//! `cargo xtask console`: builds the console that the host embeds.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::servers::setup;
use crate::{steps, tree};

/// Folders of the console that hold no sources.
const MADE: [&str; 2] = ["dist", "node_modules"];

/// Builds `host/console/dist`, if its sources have changed since; the error names the
/// missing program. Files that are written again, also with the same content, would
/// make cargo build the whole host again.
pub fn run(root: &Path) -> Result<()> {
    let source = root.join("host/console");
    let built = source.join("dist/index.html");
    if source.join("node_modules").is_dir() && tree::is_newer(&built, &tree::files(&source, &MADE)?)? {
        steps::say("console: its sources are as they were");
        return Ok(());
    }
    if !source.join("package.json").is_file() {
        bail!("there is no console to build: {} does not exist", source.join("package.json").display());
    }
    if setup::find("npm").is_none() {
        bail!("npm is needed to build the console: install Node 20 or newer (Debian: apt-get install npm)");
    }
    let install = if source.join("package-lock.json").is_file() { "ci" } else { "install" };
    let npm = |arguments: &[&str]| {
        let mut npm = Command::new("npm");
        npm.current_dir(&source).args(arguments);
        npm
    };
    steps::must("console: fetch its packages", &mut npm(&[install, "--no-audit", "--no-fund"]))?;
    steps::must("console: build", &mut npm(&["run", "build"]))
}

/// Builds and lints the console, and runs its tests without a browser; tests with a
/// browser are among the journeys.
pub fn check(root: &Path) -> Result<()> {
    run(root)?;
    for (what, script) in [("console: lints", "lint"), ("console: tests", "test")] {
        let mut npm = Command::new("npm");
        steps::must(what, npm.current_dir(root.join("host/console")).args(["run", script]))?;
    }
    Ok(())
}

/// Builds the console if possible; otherwise prints why the host has none.
pub fn run_if_possible(root: &Path) {
    if let Err(why) = run(root) {
        println!("the host goes without its console: {why:#}");
    }
}
