//! `cargo xtask guests`: builds every plugin and every test guest into
//! `target/guests/NAME.wasm`, NAME being the folder's.
//!
//! All of them share one cargo target directory, so that std and the SDK are
//! built once; what did not change is left to cargo to find out.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

#[path = "../../../host/src/cli/toolchain.rs"]
mod toolchain;

/// Where crates of guests are, below the root of the repository.
const FOLDERS: [&str; 2] = ["plugins", "tests/guests"];

/// Builds all guests of the repository at `root`.
pub fn run(root: &Path) -> Result<()> {
    let target = target_dir(root)?;
    let output = target.join("guests");
    fs::create_dir_all(&output).with_context(|| format!("cannot create {}", output.display()))?;

    let guests = guests(root)?;
    ensure!(!guests.is_empty(), "there are no guests in {} below {}", FOLDERS.join(" and "), root.display());
    for (index, (name, folder)) in guests.iter().enumerate() {
        println!("guest {} of {}: {name}", index + 1, guests.len());
        let built =
            toolchain::build_component(folder, Some(&target.join("guest-build")), &mut |text| println!("  {text}"))?;
        let component = output.join(format!("{name}.wasm"));
        copy_if_changed(&built, &component)?;
    }
    println!("{} guests are in {}", guests.len(), output.display());
    Ok(())
}

/// The repository's `target`, or the directory that takes its place.
fn target_dir(root: &Path) -> Result<PathBuf> {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => Ok(std::path::absolute(dir)?),
        _ => Ok(root.join("target")),
    }
}

/// Name and folder of every crate, in a fixed order.
fn guests(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut guests = Vec::new();
    for parent in FOLDERS {
        let parent = root.join(parent);
        for entry in fs::read_dir(&parent).with_context(|| format!("cannot list {}", parent.display()))? {
            let folder = entry?.path();
            if let Some(name) = folder.file_name().and_then(|name| name.to_str())
                && folder.join("Cargo.toml").is_file()
            {
                guests.push((name.to_owned(), folder.clone()));
            }
        }
    }
    guests.sort();
    Ok(guests)
}

/// Leaves a file of the same content alone, so that whoever looks at its time
/// sees when the component changed.
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
