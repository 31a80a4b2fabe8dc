//! Builds a handler in Python into a component: creates a virtual environment,
//! installs componentize-py and the SDK, and runs the SDK's own build.
//!
//! This file uses only std and anyhow, because xtask includes it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// The name of a handler's file.
pub const HANDLER: &str = "handler.py";
/// The file that lists the handler's packages beside the SDK.
const REQUIREMENTS: &str = "requirements.txt";
/// The package that makes the component. Another version may give it another world.
const COMPONENTIZE: &str = "componentize-py==0.25.1";
/// The package that runs the handler's tests.
const PYTEST: &str = "pytest>=8";
/// The oldest minor version of Python 3 that the SDK runs on.
const OLDEST_MINOR: u32 = 10;
/// The environment variable that names the Python to use.
const PYTHON: &str = "COURIER_PYTHON";
/// The Python of a virtual environment.
const IN_VENV: &str = "bin/python";
/// The file in a virtual environment that lists the installed packages.
const INSTALLED: &str = "courier-installed";

/// The file of the handler at a path: the file itself, or [`HANDLER`] in a folder.
pub fn handler_file(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.join(HANDLER)).filter(|file| file.is_file());
    }
    let is_python = path.extension().is_some_and(|extension| extension == "py");
    (is_python && path.is_file()).then(|| path.to_owned())
}

/// Creates the virtual environment of the handler in `folder`, or completes it.
pub fn prepare(venv: &Path, folder: &Path, say: &mut dyn FnMut(&str)) -> Result<()> {
    let (python, requirements) = (venv.join(IN_VENV), folder.join(REQUIREMENTS));
    let listed = match fs::read_to_string(&requirements) {
        Ok(listed) => Some(listed),
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => None,
        Err(problem) => return Err(problem).with_context(|| format!("cannot read {}", requirements.display())),
    };
    let wanted = format!("{COMPONENTIZE}\n{PYTEST}\n{}", listed.as_deref().unwrap_or_default());
    let marker = venv.join(INSTALLED);
    // The Python that the virtual environment links to may have been removed.
    let works = Command::new(&python).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let works = works.is_ok_and(|status| status.success());
    if works && fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    if !works {
        let base = find_python()?;
        say(&format!("making a virtual environment in {}", venv.display()));
        run(Command::new(base).args(["-m", "venv", "--clear"]).arg(venv), "python -m venv")
            .context("on Debian the package python3-venv is needed for it")?;
    }
    say(&format!(
        "installing {COMPONENTIZE} and pytest{}",
        if listed.is_some() { ", and requirements.txt" } else { "" }
    ));
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", COMPONENTIZE, PYTEST]);
    if listed.is_some() {
        pip.arg("-r").arg(&requirements);
    }
    run(&mut pip, "pip install")?;
    fs::write(&marker, wanted).with_context(|| format!("cannot write {}", marker.display()))
}

/// Builds the handler in `file` into the component `output`, in a virtual
/// environment from [`prepare`]. `sdk` is the folder of the package `courier_sdk`.
pub fn build_component(file: &Path, venv: &Path, sdk: &Path, output: &Path, say: &mut dyn FnMut(&str)) -> Result<()> {
    let python = venv.join(IN_VENV);
    let sdk = std::path::absolute(sdk)?;
    show_sdk(venv, &sdk)?;
    say(&format!("building {} with componentize-py (some 10 s)", file.display()));
    let built = Command::new(&python)
        .args(["-m", "courier_sdk.build"])
        .arg(file)
        .arg("--output")
        .arg(output)
        // With these set, Python would look for its modules elsewhere.
        .env_remove("PYTHONHOME")
        .env_remove("VIRTUAL_ENV")
        .env("PYTHONPATH", &sdk)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", python.display()))?;
    // Standard output has only what the handler's module printed on import.
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr).trim());
    Ok(())
}

/// Finds a Python that is new enough.
fn find_python() -> Result<PathBuf> {
    let named = env::var_os(PYTHON).filter(|named| !named.is_empty());
    let candidates: Vec<PathBuf> = match named {
        Some(named) => vec![named.into()],
        None => vec!["python3".into(), "python".into()],
    };
    let mut reasons = Vec::new();
    for candidate in candidates {
        let name = candidate.display().to_string();
        match Command::new(&candidate).arg("--version").stdin(Stdio::null()).output() {
            Ok(told) => {
                let version = String::from_utf8_lossy(&told.stdout).trim().to_owned();
                if minor_version(&version).is_some_and(|minor| minor >= OLDEST_MINOR) {
                    return Ok(candidate);
                }
                reasons.push(format!("{name} is {version:?}"));
            }
            Err(_) => reasons.push(format!("there is no {name}")),
        }
    }
    bail!(
        "a handler in Python is built with Python 3.{OLDEST_MINOR} or newer ({}); install it, or name one by {PYTHON}",
        reasons.join(", ")
    )
}

/// The 11 of `Python 3.11.7`; `None` for another major version.
fn minor_version(text: &str) -> Option<u32> {
    let (major, rest) = text.strip_prefix("Python ")?.split_once('.')?;
    (major == "3").then(|| rest.split('.').next()?.parse().ok())?
}

/// Puts the SDK on the path of the environment's Python, so that pytest finds it.
fn show_sdk(venv: &Path, sdk: &Path) -> Result<()> {
    let lib = venv.join("lib");
    let versions = lib.read_dir().with_context(|| format!("cannot list {}", lib.display()))?;
    for version in versions {
        let packages = version?.path().join("site-packages");
        if packages.is_dir() {
            let link = packages.join("courier-sdk.pth");
            fs::write(&link, format!("{}\n", sdk.display()))
                .with_context(|| format!("cannot write {}", link.display()))?;
        }
    }
    Ok(())
}

/// Runs a command to its end; the error contains its output.
fn run(command: &mut Command, name: &str) -> Result<()> {
    let ended = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {name}"))?;
    let said = [ended.stdout, ended.stderr].concat();
    ensure!(ended.status.success(), "{name} failed: {}", String::from_utf8_lossy(&said).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version_of_a_python() {
        assert_eq!(minor_version("Python 3.11.7"), Some(11));
        assert_eq!(minor_version("Python 3.9.2"), Some(9));
        assert_eq!(minor_version("Python 2.7.18"), None);
        assert_eq!(minor_version(""), None);
    }
}
