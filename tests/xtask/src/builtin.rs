//! `cargo xtask builtin`: builds the plugins that the host embeds, with their digests.
//!
//! It is run after each change of such a plugin or the SDK, and its result is
//! committed, so that the host builds without a toolchain for WebAssembly.

use std::{env, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::guests::{target_dir, toolchain};

/// The plugins, by the folder's name below `plugins`.
const BUILTIN: [&str; 1] = ["http-push"];
/// The folder that the host embeds them from.
const EMBEDDED: &str = "host/src/engine/builtin";

/// Builds the plugins.
pub fn run(root: &Path) -> Result<()> {
    // Panic messages name source files; they must not contain this machine's paths.
    let home = env::var_os("HOME").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME").map_or_else(|| Path::new(&home).join(".cargo"), Into::into);
    let flags = [(root, "/courier"), (cargo_home.as_path(), "/cargo")]
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    let work = target_dir(root)?.join("builtin-build");
    for name in BUILTIN {
        let folder = root.join("plugins").join(name);
        println!("builtin plugin {name}");
        let built = toolchain::build_with(&folder, Some(&work), &flags, &mut |text| println!("  {text}"))?;
        let wasm = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
        let embedded = root.join(EMBEDDED).join(format!("{name}.wasm"));
        fs::write(&embedded, &wasm).with_context(|| format!("cannot write {}", embedded.display()))?;
        let digest = sha256(&embedded)?;
        let beside = embedded.with_extension("sha256");
        fs::write(&beside, format!("sha256:{digest}\n"))
            .with_context(|| format!("cannot write {}", beside.display()))?;
        println!("  {} bytes, sha256:{digest}", wasm.len());
    }
    Ok(())
}

/// The SHA-256 of a file in hexadecimal digits, by coreutils.
fn sha256(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output().context("cannot start sha256sum")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let digest = text.split_whitespace().next().unwrap_or_default().trim_start_matches('\\').to_owned();
    ensure!(output.status.success() && digest.len() == 64, "sha256sum cannot read {}", file.display());
    Ok(digest)
}
