//! Makes sure that the programs of tests and builds are on this machine.
//!
//! On a Debian machine where this runs as root, it installs missing packages and
//! says so. Anywhere else it changes nothing, and the error names the programs and
//! their packages.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// A program that a step needs, with its package.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// The program's name, looked up in `PATH`.
    pub program: &'static str,
    /// Debian's package.
    pub package: &'static str,
    /// The purpose; completes "… is needed to".
    pub purpose: &'static str,
}

/// The programs that build librdkafka and OpenSSL from source.
pub const HOST_BUILD: &[Need] = &[
    Need { program: "cc", package: "gcc", purpose: "build the host" },
    Need { program: "g++", package: "g++", purpose: "build librdkafka" },
    Need { program: "cmake", package: "cmake", purpose: "build librdkafka" },
    Need { program: "make", package: "make", purpose: "build OpenSSL" },
    Need { program: "perl", package: "perl", purpose: "build OpenSSL" },
];

/// The programs that Apache Kafka's broker needs.
pub const KAFKA: &[Need] = &[
    Need { program: "java", package: "default-jre-headless", purpose: "run Kafka's broker" },
    Need { program: "keytool", package: "default-jre-headless", purpose: "make the broker's certificate" },
    Need { program: "mvn", package: "maven", purpose: "fetch Kafka's broker" },
];

/// The Kafka client that is not Courier's.
pub const FOREIGN_PRODUCER: &[Need] =
    &[Need { program: "kcat", package: "kcat", purpose: "produce to Kafka as a foreign client" }];

/// A browser for the console's tests.
pub const BROWSER: &[Need] =
    &[Need { program: "chromium", package: "chromium", purpose: "try the console in a browser" }];

/// Held while packages are installed: two tests may want the same.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Checks the needs and installs missing packages where it may.
pub fn require(needs: &[Need]) -> Result<()> {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let missing: Vec<&Need> = needs.iter().filter(|need| find(need.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    packages.dedup();
    let why: Vec<String> =
        missing.iter().map(|need| format!("{} is needed to {}", need.program, need.purpose)).collect();
    install(&packages).with_context(|| why.join("; "))?;
    for need in missing {
        if find(need.program).is_none() {
            bail!("{} was installed, but {} is still not in PATH", need.package, need.program);
        }
    }
    Ok(())
}

/// Installs Debian packages; the error names the packages that a person must install.
pub fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    // SAFETY: a system call without arguments.
    let root = unsafe { libc::geteuid() } == 0;
    if find("apt-get").is_none() {
        bail!("this is no Debian machine: install by hand what Debian calls {list}");
    }
    if !root {
        bail!("run as root: apt-get install -y --no-install-recommends {list}");
    }
    println!("installing {list} (apt-get)");
    let apt = |arguments: &[&str]| -> Result<bool> {
        let status = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(std::process::Stdio::null())
            .status()
            .context("apt-get does not run")?;
        Ok(status.success())
    };
    let wanted = || -> Vec<&str> {
        ["install", "-y", "-q", "--no-install-recommends"].iter().chain(packages).copied().collect()
    };
    // The package lists of a fresh machine are empty or old: fetch them only
    // when the first try did not find what it wants.
    if apt(&wanted())? || (apt(&["update", "-q"])? && apt(&wanted())?) {
        return Ok(());
    }
    bail!("apt-get could not install {list}: see its messages above")
}

/// The path of a program in `PATH`.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The folder that Cargo builds into: `CARGO_TARGET_DIR`, else `target` beside the
/// workspace's `Cargo.toml`.
#[must_use]
pub fn target_directory() -> PathBuf {
    // A test or xtask binary lies in TARGET/PROFILE/ or TARGET/PROFILE/deps/,
    // which is right whatever flag or file chose the folder.
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).map(Path::to_owned));
    beside
        .or_else(|| std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("target"))
}

/// Runs a command to its end and returns what it printed; a failure carries
/// its output.
pub fn output_of(what: &str, command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot {what}: {} does not run", program(command)))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("cannot {what}: {} failed ({})\n{text}{errors}", program(command), output.status);
    }
    Ok(text)
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_not_found_and_a_failure_carries_its_output() {
        assert!(find("no-such-program-anywhere").is_none());
        assert!(find("sh").is_some());
        let error = output_of("try", Command::new("sh").args(["-c", "echo because >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("because"), "{error}");
    }
}
