//! `cargo xtask guests`: builds every plugin and every test guest into
//! `target/guests/NAME.wasm`, NAME being the folder's.
//!
//! All guests share one cargo target directory, so that std and the SDK are built
//! once.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::tree;

#[path = "../../../host/src/cli/python.rs"]
mod python;
#[path = "../../../host/src/cli/toolchain.rs"]
pub mod toolchain;

/// The folders of guests, below the root of the repository.
const FOLDERS: [&str; 2] = ["plugins", "tests/guests"];
/// Folders beside handlers in Python that hold no sources.
const PYTHON_CACHES: [&str; 3] = ["__pycache__", ".pytest_cache", ".venv"];

/// Builds all guests of the repository at `root`.
pub fn run(root: &Path) -> Result<()> {
    let target = target_dir(root)?;
    let output = target.join("guests");
    fs::create_dir_all(&output).with_context(|| format!("cannot create {}", output.display()))?;

    let guests = guests(root)?;
    ensure!(!guests.is_empty(), "there are no guests in {} below {}", FOLDERS.join(" and "), root.display());
    for (index, (name, folder)) in guests.iter().enumerate() {
        println!("guest {} of {}: {name}", index + 1, guests.len());
        let component = output.join(format!("{name}.wasm"));
        let say = &mut |text: &str| println!("  {text}");
        if let Some(file) = python::handler_file(folder) {
            // Only the demo uses these, and works without: a machine may have no
            // Python, or no access to the packages.
            if let Err(problem) = build_python(root, &file, &target, &component, say) {
                println!("  {name} is left out: {problem:#}");
            }
        } else {
            let built = toolchain::build_component(folder, Some(&target.join("guest-build")), say)?;
            copy_if_changed(&built, &component)?;
        }
    }
    println!("{} guests are in {}", guests.len(), output.display());
    Ok(())
}

/// Builds a handler in Python, with the SDK of the repository. An unchanged handler is
/// not built again: unlike cargo, componentize-py would build it each time.
fn build_python(root: &Path, file: &Path, target: &Path, component: &Path, say: &mut dyn FnMut(&str)) -> Result<()> {
    let sdk = root.join("guest-sdk/python");
    let folder = file.parent().context("the handler stands in no folder")?;
    let mut sources = tree::files(folder, &PYTHON_CACHES)?;
    sources.append(&mut tree::files(&sdk.join("courier_sdk"), &PYTHON_CACHES)?);
    if tree::is_newer(component, &sources)? {
        say("its sources are as they were");
        return Ok(());
    }
    let venv = target.join("guest-build-python");
    python::prepare(&venv, folder, say)?;
    let built = component.with_extension("part");
    python::build_component(file, &venv, &sdk, &built, say)?;
    fs::rename(&built, component).with_context(|| format!("cannot write {}", component.display()))
}

/// The repository's `target`, or the directory that takes its place.
pub fn target_dir(root: &Path) -> Result<PathBuf> {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => Ok(std::path::absolute(dir)?),
        _ => Ok(root.join("target")),
    }
}

/// Name and folder of every guest, in a fixed order.
fn guests(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut guests = Vec::new();
    for parent in FOLDERS {
        let parent = root.join(parent);
        for entry in fs::read_dir(&parent).with_context(|| format!("cannot list {}", parent.display()))? {
            let folder = entry?.path();
            if let Some(name) = folder.file_name().and_then(|name| name.to_str())
                && (folder.join("Cargo.toml").is_file() || folder.join(python::HANDLER).is_file())
            {
                guests.push((name.to_owned(), folder.clone()));
            }
        }
    }
    guests.sort();
    Ok(guests)
}

/// Copies a file unless its content is the same, so that the file's time shows when
/// the component changed.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let old = match fs::read(to) {
        Ok(old) => Some(old),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => None,
        Err(problem) => return Err(problem).with_context(|| format!("cannot read {}", to.display())),
    };
    if old.as_ref() != Some(&new) {
        fs::write(to, new).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}
