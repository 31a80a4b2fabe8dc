//! Handlers in TypeScript and JavaScript: the SDK and the builder, which are part
//! of this program, and the files that `courier plugin new --lang ts` writes.
//!
//! The builder runs in Node. Its packages are installed into the user's cache from
//! a lock file, once for each version of the builder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::write_file;
use crate::server::sandboxes::cache_dir;

/// The file extensions of a handler.
const ENDINGS: [&str; 4] = ["ts", "mts", "js", "mjs"];
/// The stem of the handler's file in a folder.
const HANDLER: &str = "handler";
/// The oldest major version of Node that the builder runs on.
const OLDEST_NODE: u32 = 20;
/// Digits of the digest in the name of the builder's folder.
const DIGEST_DIGITS: usize = 16;

macro_rules! sdk_files {
    ($($file:literal),* $(,)?) => {
        [$(($file, include_str!(concat!("../../../../guest-sdk/js/", $file)))),*]
    };
}

/// The SDK: the modules that handlers import, and the runtime around them.
const SDK_FILES: [(&str, &str); 18] = sdk_files![
    "package.json",
    "src/clone.js",
    "src/component.js",
    "src/context.js",
    "src/failure.js",
    "src/fetch.js",
    "src/index.d.ts",
    "src/index.js",
    "src/json.js",
    "src/loop.js",
    "src/promise.js",
    "src/register.mjs",
    "src/strip.mjs",
    "src/testing.d.ts",
    "src/testing.js",
    "src/text.js",
    "src/url.js",
    "src/web.js",
];

/// The builder, which makes a component of a handler.
const BUILDER_FILES: [(&str, &str); 6] = sdk_files![
    "build/build.mjs",
    "build/mappings.mjs",
    "build/package-lock.json",
    "build/package.json",
    "build/uses.mjs",
    "build/wit/random.wit",
];

const WIT_FILES: [(&str, &str); 4] = [
    ("build/wit/courier.wit", include_str!("../../../../wit/v2/courier.wit")),
    ("build/wit/io.wit", include_str!("../../../../guest-sdk/rust/wit/deps/io.wit")),
    ("build/wit/clocks.wit", include_str!("../../../../guest-sdk/rust/wit/deps/clocks.wit")),
    ("build/wit/http.wit", include_str!("../../../../guest-sdk/rust/wit/deps/http.wit")),
];

/// The files of a new handler in TypeScript.
pub(super) const TYPESCRIPT_FILES: [(&str, &str); 7] = [
    ("handler.ts", include_str!("template/typescript/handler.ts.txt")),
    ("handler.test.ts", include_str!("template/typescript/handler.test.ts.txt")),
    ("package.json", include_str!("template/typescript/package.json.txt")),
    ("tsconfig.json", include_str!("template/typescript/tsconfig.json.txt")),
    ("courier.toml", include_str!("template/typescript/courier.toml.txt")),
    ("README.md", include_str!("template/typescript/README.md.txt")),
    (".gitignore", IGNORED),
];

/// The files of a new handler in JavaScript.
pub(super) const JAVASCRIPT_FILES: [(&str, &str); 6] = [
    ("handler.js", include_str!("template/javascript/handler.js.txt")),
    ("handler.test.js", include_str!("template/javascript/handler.test.js.txt")),
    ("package.json", include_str!("template/javascript/package.json.txt")),
    ("courier.toml", include_str!("template/typescript/courier.toml.txt")),
    ("README.md", include_str!("template/javascript/README.md.txt")),
    (".gitignore", IGNORED),
];

const IGNORED: &str = "node_modules/\n/*.wasm\n";

/// The folder of the SDK in a new handler, for tests and editors.
const NEW_SDK: &str = ".courier/courier-sdk";

/// The file of the handler at a path: the file itself, or `handler.*` in a folder.
pub(super) fn handler_file(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return ENDINGS.map(|ending| path.join(format!("{HANDLER}.{ending}"))).into_iter().find(|file| file.is_file());
    }
    let is_script = path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
    (is_script && path.is_file()).then(|| path.to_owned())
}

/// Builds the handler in `file` into a component beside it.
pub(super) fn build(file: &Path, say: &mut dyn FnMut(&str)) -> anyhow::Result<PathBuf> {
    let file = std::path::absolute(file)?;
    let name = plugin_name(&file)?;
    let output = file.with_file_name(format!("{name}.wasm"));
    let node = find_node()?;
    let builder = prepare(say)?;
    say(&format!("building {} (some seconds)", file.display()));
    let built = Command::new(node)
        .arg(builder.join("build/build.mjs"))
        .args([&file, &output])
        .arg(&name)
        .stdin(Stdio::null())
        .output()
        .context("cannot start node")?;
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr).trim());
    Ok(output)
}

/// Puts the SDK into the folder of a new handler.
pub(super) fn write_sdk(dir: &Path) -> anyhow::Result<()> {
    write_files(&dir.join(NEW_SDK), SDK_FILES.iter())
}

/// The plugin's name: that of the file, or of the folder when the file is called
/// `handler` or `index`.
fn plugin_name(file: &Path) -> anyhow::Result<String> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).filter(|stem| *stem != HANDLER && *stem != "index");
    let folder = file.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let name = stem.or(folder).unwrap_or(HANDLER).to_ascii_lowercase();
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    ensure!(!name.is_empty(), "{} gives the plugin no name: rename it", file.display());
    Ok(name.to_owned())
}

/// The program `node`, if it is new enough.
fn find_node() -> anyhow::Result<&'static str> {
    let remedy = format!(
        "a handler in TypeScript or JavaScript is built with Node {OLDEST_NODE} or newer: install it, or build where it is \
         and upload the .wasm"
    );
    let Ok(told) = Command::new("node").arg("--version").stdin(Stdio::null()).output() else {
        bail!("there is no node: {remedy}");
    };
    let version = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    ensure!(major_version(&version).is_some_and(|major| major >= OLDEST_NODE), "node is {version:?}: {remedy}");
    Ok("node")
}

/// The 20 of `v20.20.2`.
fn major_version(text: &str) -> Option<u32> {
    text.strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// The folder of the builder and its packages, installed if it is missing.
fn prepare(say: &mut dyn FnMut(&str)) -> anyhow::Result<PathBuf> {
    let files = || SDK_FILES.iter().chain(&BUILDER_FILES).chain(&WIT_FILES);
    let mut digest = Sha256::new();
    for (name, text) in files() {
        digest.update(format!("{name}\0{text}\0"));
    }
    let digest = format!("{:x}", digest.finalize());
    let cache = cache_dir().unwrap_or_else(|| std::env::temp_dir().join("courier"));
    let builder = cache.join(format!("javascript-{}", &digest[..DIGEST_DIGITS]));
    if builder.is_dir() {
        return Ok(builder);
    }
    say("installing esbuild and componentize-qjs for the first build");
    // Created elsewhere and renamed, so that a folder of this name is complete.
    let part = cache.join(format!("javascript-{}.part-{}", &digest[..DIGEST_DIGITS], std::process::id()));
    write_files(&part, files())?;
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]).current_dir(part.join("build"));
    let ended = npm.stdin(Stdio::null()).output().context("cannot start npm, which comes with Node")?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
        let _ = std::fs::remove_dir_all(&part);
        bail!("npm ci failed: {said}");
    }
    if let Err(problem) = std::fs::rename(&part, &builder) {
        let _ = std::fs::remove_dir_all(&part);
        // Another build may have been faster.
        ensure!(builder.is_dir(), "cannot create {}: {problem}", builder.display());
    }
    Ok(builder)
}

fn write_files<'a>(dir: &Path, mut files: impl Iterator<Item = &'a (&'a str, &'a str)>) -> anyhow::Result<()> {
    files.try_for_each(|(name, text)| write_file(&dir.join(name), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_called_after_its_file_or_folder() {
        for (file, expected) in [
            ("/shop/greeter.ts", "greeter"),
            ("/shop/Order_Handler.mjs", "order-handler"),
            ("/shop/greeter/handler.ts", "greeter"),
            ("/shop/index.js", "shop"),
            ("/handler.ts", "handler"),
        ] {
            assert_eq!(plugin_name(Path::new(file)).unwrap(), expected, "{file}");
        }
        assert!(plugin_name(Path::new("/--.ts")).is_err());
    }

    #[test]
    fn a_handler_is_a_file_or_lies_in_a_folder() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(handler_file(temp.path()), None);
        for name in ["handler.js", "notes.txt", "order.mts"] {
            std::fs::write(temp.path().join(name), "").unwrap();
        }
        assert_eq!(handler_file(temp.path()), Some(temp.path().join("handler.js")));
        assert_eq!(handler_file(&temp.path().join("order.mts")), Some(temp.path().join("order.mts")));
        assert_eq!(handler_file(&temp.path().join("notes.txt")), None);
        assert_eq!(handler_file(&temp.path().join("gone.ts")), None);
    }

    #[test]
    fn reads_the_version_of_node() {
        assert_eq!(major_version("v20.20.2"), Some(20));
        assert_eq!(major_version("v8.0.0"), Some(8));
        assert_eq!(major_version("20"), None);
    }
}
