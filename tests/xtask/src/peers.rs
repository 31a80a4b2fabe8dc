//! Sets up the programs of other languages that `cargo xtask bench peers`
//! measures Courier against: sources from `tests/bench/peers`, built into
//! `target/bench`. Packages that were fetched once serve without a network.
//!
//! The peers of a language that the machine lacks are left out: the step says why,
//! and the report says that they were not set up.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::servers::setup::{self, Need};
use crate::steps::{must, say};

const FOR_JAVA: &[Need] = &[
    Need { program: "javac", package: "default-jdk-headless", purpose: "build the peers in Java" },
    Need { program: "mvn", package: "maven", purpose: "build the peers in Java" },
];
const FOR_JAVASCRIPT: &[Need] = &[
    Need { program: "npm", package: "npm", purpose: "fetch the peers in JavaScript" },
    Need { program: "pkg-config", package: "pkg-config", purpose: "build the Kafka client for JavaScript" },
];
const FOR_PYTHON: &[Need] = &[Need { program: "python3", package: "python3-venv", purpose: "run the peer in Python" }];
/// The libraries of librdkafka, for building its client for JavaScript from source:
/// Debian's packages and a header of each.
const LIBRARIES: &[(&str, &str)] = &[
    ("zlib1g-dev", "zlib.h"),
    ("libssl-dev", "openssl/ssl.h"),
    ("libzstd-dev", "zstd.h"),
    ("libcurl4-openssl-dev", "x86_64-linux-gnu/curl/curl.h"),
];
/// Node's headers where a distribution installs them: with these, npm compiles native
/// modules without a download.
const NODE_HEADERS: &str = "/usr/include/node/node.h";
const KAFKA_CLIENT: &str = "@confluentinc/kafka-javascript";

/// Builds a language's peers from the first folder into the second.
type SetUp = fn(&Path, &Path) -> Result<()>;

/// Sets up the peers of each language, and skips those that fail.
pub fn prepare(root: &Path) -> Result<()> {
    let languages: [(&str, SetUp); 3] = [("java", java), ("javascript", javascript), ("python", python)];
    for (language, set_up) in languages {
        say(&format!("set up the peers in {language}"));
        let folder = setup::target_directory().join("bench").join(language);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        // Maven gets the path as a property, so it must be absolute.
        let folder = folder.canonicalize().with_context(|| format!("there is no {}", folder.display()))?;
        if let Err(error) = set_up(&root.join("tests/bench/peers").join(language), &folder) {
            eprintln!("the peers in {language} are left out: {error:#}");
        }
    }
    Ok(())
}

fn java(source: &Path, target: &Path) -> Result<()> {
    setup::require(FOR_JAVA)?;
    let maven = |offline: &[&str]| {
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B"]).args(offline).arg("package").current_dir(source);
        maven.arg(format!("-Dbench.directory={}", target.display()));
        maven
    };
    let fetched = target.join("fetched-pom.xml");
    let pom = source.join("pom.xml");
    if is_same(&pom, &fetched) {
        return must("build them with what was fetched before", &mut maven(&["-o"]));
    }
    must("fetch and build them", &mut maven(&[]))?;
    copy(&pom, &fetched)
}

fn javascript(source: &Path, target: &Path) -> Result<()> {
    setup::require(FOR_JAVASCRIPT)?;
    copy(&source.join("peer.js"), &target.join("peer.js"))?;
    let (lock, fetched) = (source.join("package-lock.json"), target.join("fetched-package-lock.json"));
    if is_same(&lock, &fetched) {
        return Ok(());
    }
    for file in ["package.json", "package-lock.json"] {
        copy(&source.join(file), &target.join(file))?;
    }
    let npm = |arguments: &[&str]| {
        let mut npm = Command::new("npm");
        npm.args(arguments).current_dir(target);
        // Links the system's libraries; otherwise npm would download their sources.
        npm.env("CKJS_LINKING", "dynamic");
        if Path::new(NODE_HEADERS).is_file() {
            npm.env("npm_config_nodedir", "/usr");
        }
        npm
    };
    must("fetch them", &mut npm(&["ci", "--ignore-scripts", "--no-audit", "--no-fund"]))?;
    let build = || must("get or build the Kafka client, which may take minutes", &mut npm(&["rebuild", KAFKA_CLIENT]));
    // A client that was prebuilt for this Node is fetched; otherwise it is compiled.
    // The first build creates a header that only the second one finds.
    if build().is_err() {
        let header = |name: &str| Path::new("/usr/include").join(name).is_file();
        let missing: Vec<&str> = LIBRARIES.iter().filter(|(_, file)| !header(file)).map(|(name, _)| *name).collect();
        if !missing.is_empty() && setup::find("apt-get").is_some() {
            setup::install(&missing)?;
        }
        if build().is_err() {
            build()?;
        }
    }
    copy(&lock, &fetched)
}

fn python(source: &Path, target: &Path) -> Result<()> {
    setup::require(FOR_PYTHON)?;
    copy(&source.join("peer.py"), &target.join("peer.py"))?;
    let (wanted, fetched) = (source.join("requirements.txt"), target.join("fetched-requirements.txt"));
    if is_same(&wanted, &fetched) {
        return Ok(());
    }
    let mut venv = Command::new("python3");
    must("an environment of its own", venv.args(["-m", "venv"]).arg(target))
        .context("python3 makes no virtual environment (Debian: apt-get install python3-venv)")?;
    let mut pip = Command::new(target.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&wanted);
    must("fetch what it uses", &mut pip)?;
    copy(&wanted, &fetched)
}

fn is_same(one: &Path, other: &Path) -> bool {
    matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    match fs::copy(from, to) {
        Ok(_) => Ok(()),
        Err(error) => bail!("cannot copy {} to {}: {error}", from.display(), to.display()),
    }
}
