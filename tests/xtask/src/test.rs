//! `cargo xtask test`: sets up and runs every check and test of the project. CI runs
//! exactly this.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::servers::setup;
use crate::steps::{Count, HostBuild, count_tests, must, step, summary};
use crate::{clients, console, deny, faults, guests, java, steps, tidy, tree};

/// The module of the test binary that runs the store's suite on both databases.
const CONFORMANCE: &str = "store_conformance::";
/// Journeys that run at once, for each core: they wait for Kafka and for time-outs more
/// than they compute.
const JOURNEYS_FOR_EACH_CORE: usize = 2;

#[derive(Args)]
pub struct Arguments {
    /// Run only these steps.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Step>,
    /// Run only tests whose name contains this (for conformance, journeys, faults).
    #[arg(long)]
    filter: Option<String>,
}

/// The steps in their order: those that fail quickly come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Formatting.
    Fmt,
    /// Import cycles, names used twice, files and functions that are too long.
    Tidy,
    /// Licences, sources and advisories of dependencies.
    Deny,
    /// Lints on every crate and target.
    Clippy,
    /// Builds of the guests, and the tests of the SDK and the plugins.
    Guests,
    /// The console: its build, lints, and tests of its words and formats.
    Console,
    /// Tests inside the crates.
    Unit,
    /// The clients of other languages, against real hosts.
    Clients,
    /// The store's suite on SQLite and PostgreSQL.
    Conformance,
    /// The real host on real Kafka.
    Journeys,
    /// Crashes, frozen hosts and outages, at a small size.
    Faults,
    /// The Java client, the Spring Boot starter and its sample, against the real host.
    Java,
}

/// Runs the steps. Returns whether nothing failed.
pub fn run(root: &Path, arguments: &Arguments) -> Result<bool> {
    let wanted: Vec<Step> = match arguments.only.as_slice() {
        [] => Step::value_variants().to_vec(),
        only => Step::value_variants().iter().copied().filter(|step| only.contains(step)).collect(),
    };
    let filter = arguments.filter.as_deref();
    let mut done = Vec::new();
    let real = [Step::Conformance, Step::Journeys, Step::Faults, Step::Java];
    if wanted.iter().any(|step| real.contains(step)) {
        let prepared = step("set up", "programs, guests and the host", || {
            prepare(root, HostBuild::Quick).map(|()| Count::default())
        });
        let failed = prepared.failure.is_some();
        done.push(prepared);
        if failed {
            return Ok(summary(&done));
        }
    } else if wanted.iter().any(|step| [Step::Clippy, Step::Unit].contains(step)) {
        setup::require(setup::HOST_BUILD)?;
    }
    for wanted in wanted {
        done.push(run_step(root, wanted, filter));
    }
    Ok(summary(&done))
}

fn run_step(root: &Path, wanted: Step, filter: Option<&str>) -> steps::Done {
    let checked = |result: Result<()>| result.map(|()| Count::default());
    match wanted {
        Step::Fmt => step("fmt", "is everything formatted", || {
            checked(must("fmt", &mut steps::cargo(root, &["fmt", "--all", "--check"])))
        }),
        Step::Tidy => step("tidy", "cycles, names and lengths", || match tidy::run(root)? {
            true => checked(Ok(())),
            false => bail!("the tree breaks a rule of `cargo xtask tidy`"),
        }),
        Step::Deny => step("deny", "licences, sources and advisories", || checked(deny::run(root))),
        Step::Clippy => step("clippy", "lints", || {
            let lints = ["clippy", "--workspace", "--all-targets", "--release", "--", "-D", "warnings"];
            checked(must("clippy", &mut steps::cargo(root, &lints)))
        }),
        Step::Guests => step("guests", "the SDK's and the plugins' own tests", || {
            guests::run(root)?;
            let mut count = Count::default();
            for folder in guest_crates(root)? {
                count += tests(steps::cargo(&folder, &["test", "--release"]).env("CARGO_TARGET_DIR", guest_target()))?;
            }
            count += clients::handler_sdks(root)?;
            Ok(count)
        }),
        Step::Console => step("console", "its build, lints, words and formats", || checked(console::check(root))),
        Step::Unit => step("unit", "tests inside the crates", || {
            let mut count = tests(&mut HostBuild::Quick.cargo(root, &["test", "--release", "-p", "courier", "--lib"]))?;
            let others = ["test", "--release", "--workspace", "--exclude", "courier-tests", "--exclude", "courier"];
            count += tests(&mut HostBuild::Quick.cargo(root, &others))?;
            Ok(count)
        }),
        Step::Clients => {
            step("clients", "senders in JavaScript, Python and Go against real hosts", || clients::run(root))
        }
        Step::Conformance => step("conformance", "the store's suite on SQLite and PostgreSQL", || {
            journeys(root, HostBuild::Quick, "small", &[filter.unwrap_or(CONFORMANCE)], &[])
        }),
        Step::Journeys => step("journeys", "the real host on real Kafka", || {
            // All modules that no other step runs, so that no new module is forgotten.
            let others: Vec<&str> = faults::MODULES.iter().copied().chain([CONFORMANCE]).collect();
            journeys(root, HostBuild::Quick, "small", filter.as_slice(), &others)
        }),
        Step::Faults => step("faults", "crashes, frozen hosts and outages", || {
            journeys(
                root,
                HostBuild::Quick,
                "small",
                &filter.map_or_else(|| faults::MODULES.to_vec(), |one| vec![one]),
                &[],
            )
        }),
        Step::Java => step("java", "the Java client, the Spring Boot starter and its sample", || java::run(root)),
    }
}

/// Sets up what the real tests need: programs, guests, and the host's binary.
pub fn prepare(root: &Path, host: HostBuild) -> Result<()> {
    setup::require(setup::HOST_BUILD)?;
    setup::require(setup::KAFKA)?;
    setup::require(setup::FOREIGN_PRODUCER)?;
    setup::require(setup::BROWSER)?;
    crate::servers::postgres::find_programs()?;
    crate::servers::kafka::fetch_jars()?;
    steps::say("build the plugins and test guests");
    guests::run(root)?;
    // The console is built before the host, which embeds it.
    console::run(root)?;
    host.build(root)
}

/// Runs tests of the journey binary at a scale, by parts of their names.
pub fn journeys(root: &Path, host: HostBuild, scale: &str, only: &[&str], without: &[&str]) -> Result<Count> {
    let mut command = host.cargo(root, &["test", "--release", "-p", "courier-tests", "--test", "all", "--"]);
    command.args(only);
    for name in without {
        command.args(["--skip", name]);
    }
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    command.args(["--test-threads", &(cores * JOURNEYS_FOR_EACH_CORE).to_string()]);
    tests(command.env("COURIER_TEST_SCALE", scale).env("COURIER_BIN", host.program()))
}

/// Runs tests. A command that fails without a failed test is an error.
fn tests(command: &mut std::process::Command) -> Result<Count> {
    let (count, success) = count_tests(command)?;
    if !success && count.failed == 0 {
        bail!("{} failed before or after its tests", steps::words(command));
    }
    Ok(count)
}

/// The crates outside the workspace that have tests of their own.
fn guest_crates(root: &Path) -> Result<Vec<PathBuf>> {
    let mut crates = vec![root.join("guest-sdk/rust")];
    for parent in ["plugins", "tests/guests"] {
        if root.join(parent).join("Cargo.toml").is_file() {
            crates.push(root.join(parent));
            continue;
        }
        let folders = std::fs::read_dir(root.join(parent)).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
        folders.sort();
        crates.append(&mut folders);
    }
    let mut with_tests = Vec::new();
    for folder in crates {
        if folder.join("Cargo.toml").is_file() && has_tests(&folder)? {
            with_tests.push(folder);
        }
    }
    Ok(with_tests)
}

/// Whether a crate has tests. To compile the others for this machine takes longer than
/// all of these tests.
fn has_tests(folder: &Path) -> Result<bool> {
    for file in tree::files(folder, &["target"])? {
        let is_rust = file.extension().is_some_and(|extension| extension == "rs");
        if is_rust && std::fs::read_to_string(&file)?.contains("#[test]") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The target directory of guest tests: guests have their own toolchain, which must
/// not share artefacts with the host's.
fn guest_target() -> PathBuf {
    setup::target_directory().join("guest-tests")
}
