//! `courier plugin build`: builds a handler into `NAME.wasm` in its folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::{javascript, python as python_handler};
use crate::cli::{Output, python, say, toolchain};

pub(super) fn run(path: &Path, output: Output) -> anyhow::Result<()> {
    let target = component(path)?;
    let size = std::fs::metadata(&target).map(|metadata| metadata.len()).unwrap_or(0);
    match output {
        Output::Json => say(&json!({ "path": target, "size": size }).to_string()),
        Output::Table => {
            let kib = size.div_ceil(1024);
            say(&format!(
                "{} ({kib} KiB)\nupload it with: courier plugin push {} --activate",
                target.display(),
                target.display()
            ))
        }
    }
}

/// Whether a path names the source of a handler and not a component.
pub(super) fn is_source(path: &Path) -> bool {
    path.is_dir() || python::handler_file(path).is_some() || javascript::handler_file(path).is_some()
}

/// Builds the handler at a path, and returns the component's path.
pub(in crate::cli) fn component(path: &Path) -> anyhow::Result<PathBuf> {
    // Progress goes to standard error; a program may read standard output.
    let say = &mut |line: &str| eprintln!("{line}");
    if let Some(file) = python::handler_file(path) {
        let built = python_handler::build(&file, say)?;
        return Ok(shortened(&built));
    }
    let is_crate = path.join("Cargo.toml").is_file();
    if let Some(file) = javascript::handler_file(path).filter(|_| !is_crate) {
        return Ok(shortened(&javascript::build(&file, say)?));
    }
    if !path.exists() {
        bail!("{} is not there", path.display());
    }
    if !is_crate {
        bail!(
            "{} has neither Cargo.toml nor {} nor handler.ts or handler.js: name a handler's folder or file, or write one \
             with `courier plugin new`",
            path.display(),
            python::HANDLER
        );
    }
    let component = toolchain::build_component(path, None, say)?;
    let name = file_name(&component)?;
    // `name.wasm` is easier to copy than `./name.wasm`.
    let target = if path == Path::new(".") { name } else { path.join(name) };
    std::fs::copy(&component, &target)
        .with_context(|| format!("cannot copy {} to {}", component.display(), target.display()))?;
    Ok(target)
}

/// A path relative to the current directory, if it lies below it.
fn shortened(path: &Path) -> PathBuf {
    let here = std::env::current_dir().ok();
    here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned)).unwrap_or_else(|| path.to_owned())
}

/// The name of the component after the plugin: Cargo writes `order_handler.wasm`
/// for the package `order-handler`.
fn file_name(component: &Path) -> anyhow::Result<PathBuf> {
    let stem = component.file_stem().and_then(|stem| stem.to_str());
    let stem = stem.with_context(|| format!("{} has no name", component.display()))?;
    Ok(format!("{}.wasm", stem.replace('_', "-")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_called_after_the_plugin() {
        assert_eq!(file_name(Path::new("/t/order_handler.wasm")).unwrap(), Path::new("order-handler.wasm"));
        assert!(file_name(Path::new("/")).is_err());
    }
}
