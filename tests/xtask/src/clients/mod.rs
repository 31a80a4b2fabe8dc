//! The clients for senders in other languages: their checks, their unit tests, and
//! the scenarios that they share (`guest-sdk/client/scenarios.json`), against real
//! hosts and databases.

mod counts;
mod hosts;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::servers::setup::{self, Need};
use crate::steps::{self, Count, must};
use hosts::Hosts;

/// The programs for the suites of scripting languages.
const FOR_SCRIPTS: &[Need] = &[
    Need { program: "npm", package: "npm", purpose: "test what is written for JavaScript" },
    Need { program: "python3", package: "python3-venv", purpose: "test what is written for Python" },
];
/// The programs for the suite of the client for Go.
const FOR_GO: &[Need] = &[Need { program: "go", package: "golang", purpose: "test the client for Go" }];
/// Node's headers where a distribution installs them: with these, npm compiles native
/// modules without a download.
const NODE_HEADERS: &str = "/usr/include/node/node.h";

/// A suite: runs the tests in a folder against the hosts that a file describes.
type Suite = fn(&Path, &Path) -> Result<Count>;

/// Runs all suites, even after one failed.
pub fn run(root: &Path) -> Result<Count> {
    setup::require(FOR_SCRIPTS)?;
    setup::require(FOR_GO)?;
    let hosts = Hosts::start(root)?;
    let mut count = Count::default();
    let suites: [(&str, Suite); 3] = [("js", js), ("python", python), ("go", go)];
    for (language, suite) in suites {
        match suite(&root.join("guest-sdk/client").join(language), hosts.file()) {
            Ok(counted) => count += counted,
            Err(error) => {
                eprintln!("error: the client for {language}: {error:#}");
                count.failed += 1;
            }
        }
    }
    hosts.end()?;
    Ok(count)
}

/// Runs the tests of the SDKs for handlers in JavaScript and Python, which need no
/// host: with Node, and with the Python that built the guests, if there is one.
pub fn handler_sdks(root: &Path) -> Result<Count> {
    setup::require(FOR_SCRIPTS)?;
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=tap"]).current_dir(root.join("guest-sdk/js"));
    let mut count = tests(&mut node, counts::of_tap)?;
    let python = setup::target_directory().join("guest-build-python/bin/python");
    if python.is_file() {
        let mut pytest = Command::new(python);
        pytest.args(["-m", "pytest", "-q", "-rA"]).current_dir(root.join("guest-sdk/python"));
        count += tests(&mut pytest, counts::of_pytest)?;
    }
    Ok(count)
}

/// Tests the npm package.
fn js(source: &Path, hosts: &Path) -> Result<Count> {
    let npm = |arguments: &[&str]| {
        let mut npm = Command::new("npm");
        npm.current_dir(source).args(arguments);
        if Path::new(NODE_HEADERS).is_file() {
            npm.env("npm_config_nodedir", "/usr");
        }
        npm
    };
    // Native modules may compile for minutes, so they are installed once for each
    // lock file.
    let fetched = source.join("node_modules/.fetched-package-lock.json");
    let lock = std::fs::read(source.join("package-lock.json")).context("cannot read package-lock.json")?;
    if std::fs::read(&fetched).ok().as_ref() != Some(&lock) {
        must("js: fetch what its tests use", &mut npm(&["ci", "--no-audit", "--no-fund"]))?;
        std::fs::write(&fetched, &lock).context("cannot note what was fetched")?;
    }
    must("js: build", &mut npm(&["run", "build"]))?;
    must("js: types", &mut npm(&["run", "check"]))?;
    must("js: the package", &mut npm(&["pack", "--dry-run", "--ignore-scripts"]))?;
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=tap", "test/unit.test.mjs", "test/scenarios.test.mjs"]);
    tests(node.current_dir(source).env("COURIER_TEST_HOSTS", hosts), counts::of_tap)
}

/// Tests the PyPI packages.
fn python(source: &Path, hosts: &Path) -> Result<Count> {
    let home = setup::target_directory().join("clients");
    let environment = home.join("python");
    let python = environment.join("bin/python");
    if !python.is_file() {
        let mut venv = Command::new("python3");
        must("python: an environment of its own", venv.args(["-m", "venv"]).arg(&environment))
            .context("python3 makes no virtual environment (Debian: apt-get install python3-venv)")?;
    }
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&python);
        command.current_dir(source).args(arguments);
        command
    };
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", ".[test]"];
    must("python: fetch what its tests use", &mut run(&install))?;
    must("python: types", &mut run(&["-m", "mypy"]))?;
    let packages = home.join("python-packages");
    std::fs::remove_dir_all(&packages).ok();
    must("python: the packages", run(&["-m", "build", "--outdir"]).arg(&packages))?;
    let mut twine = run(&["-m", "twine", "check", "--strict"]);
    must("python: what PyPI would say of them", twine.args(files(&packages)?))?;
    tests(run(&["-m", "pytest", "-q", "-rA"]).env("COURIER_TEST_HOSTS", hosts), counts::of_pytest)
}

/// The oldest Go that the drivers in its scenarios support.
const OLDEST_GO: (u32, u32) = (1, 26);

/// Major and minor version in the output of `go version`.
fn go_version(printed: &str) -> Option<(u32, u32)> {
    let version =
        printed.split_whitespace().find_map(|word| word.strip_prefix("go").filter(|rest| rest.contains('.')))?;
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Tests the Go module, and the module of its scenarios.
fn go(source: &Path, hosts: &Path) -> Result<Count> {
    let printed = setup::output_of("ask Go for its version", Command::new("go").arg("version"))?;
    // A distribution's Go may be years old, without a package for a newer one.
    if go_version(&printed).is_none_or(|version| version < OLDEST_GO) {
        let (major, minor) = OLDEST_GO;
        eprintln!(
            "the client for Go is left out: {} is older than {major}.{minor}, see https://go.dev/dl",
            printed.trim()
        );
        return Ok(Count::default());
    }
    let unformatted = setup::output_of("format Go", Command::new("gofmt").current_dir(source).args(["-l", "."]))?;
    if !unformatted.trim().is_empty() {
        bail!(
            "these are not formatted as gofmt does: {}",
            unformatted.split_whitespace().collect::<Vec<_>>().join(", ")
        );
    }
    let mut count = Count::default();
    for folder in [source.to_path_buf(), source.join("conformance")] {
        let go = |arguments: &[&str]| {
            let mut go = Command::new("go");
            go.current_dir(&folder).args(arguments);
            go
        };
        must("go: vet", &mut go(&["vet", "./..."]))?;
        let mut test = go(&["test", "-count=1", "-v", "./..."]);
        count += tests(test.env("COURIER_TEST_HOSTS", hosts), counts::of_go)?;
    }
    Ok(count)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// Runs tests. A command without tests fails, and so does one that fails without a
/// failed test.
fn tests(command: &mut Command, read: fn(&str) -> Option<Count>) -> Result<Count> {
    let (count, success) = steps::count_tests_by(command, read)?;
    if count.failed == 0 && (!success || count.passed == 0) {
        bail!("{} failed before or after its tests", steps::words(command));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_go_is_read_from_what_it_prints() {
        assert_eq!(go_version("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(go_version("go version go1.19 linux/amd64"), Some((1, 19)));
        assert_eq!(go_version("no such program"), None);
    }
}
