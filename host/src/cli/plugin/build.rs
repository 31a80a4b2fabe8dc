//! `courier plugin build`: a crate into `NAME.wasm` beside its Cargo.toml.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::cli::{Output, say, toolchain};

pub(super) fn run(dir: &Path, output: Output) -> anyhow::Result<()> {
    if !dir.join("Cargo.toml").is_file() {
        bail!(
            "{} has no Cargo.toml: name the crate's directory, or write one with `courier plugin new`",
            dir.display()
        );
    }
    // Progress goes beside the answer, which a program may read.
    let component = toolchain::build_component(dir, None, &mut |line| eprintln!("{line}"))?;
    let name = file_name(&component)?;
    // `./name.wasm` would be as right and less nice to copy.
    let target = if dir == Path::new(".") { name } else { dir.join(name) };
    std::fs::copy(&component, &target)
        .with_context(|| format!("cannot copy {} to {}", component.display(), target.display()))?;
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

/// Cargo writes `order_handler.wasm` for the package `order-handler`; here it
/// is called after the plugin.
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
