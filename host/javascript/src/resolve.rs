//! Which file an import means: one beside it, one of a package of npm that is
//! installed beside the handler, or the SDK.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The name by which handlers import the SDK.
const SDK_PACKAGE: &str = "courier-sdk";
/// How a module asks for another: packages may answer each with another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    Import,
    Require,
}

impl Asks {
    /// The conditions of a runtime that is not Node: what a package offers to
    /// workers, or else to browsers, needs no modules of Node.
    fn conditions(self) -> [&'static str; 5] {
        match self {
            Self::Import => ["worker", "browser", "module", "import", "default"],
            Self::Require => ["worker", "browser", "require", "default", "import"],
        }
    }
}

/// Modules that Node has and a handler has not.
const NODE_MODULES: [&str; 32] = [
    "assert",
    "async_hooks",
    "buffer",
    "child_process",
    "cluster",
    "crypto",
    "dgram",
    "diagnostics_channel",
    "dns",
    "events",
    "fs",
    "http",
    "http2",
    "https",
    "inspector",
    "module",
    "net",
    "os",
    "path",
    "perf_hooks",
    "process",
    "querystring",
    "readline",
    "stream",
    "string_decoder",
    "timers",
    "tls",
    "tty",
    "url",
    "util",
    "worker_threads",
    "zlib",
];
/// What an import leads to.
pub(super) enum Found {
    Sdk,
    File(PathBuf),
}

/// What the module at `from` means by `specifier`, or why it means nothing.
pub(super) fn find(from: &Path, specifier: &str, asks: Asks) -> Result<Found, String> {
    if specifier == SDK_PACKAGE {
        return Ok(Found::Sdk);
    }
    if specifier.strip_prefix(SDK_PACKAGE).is_some_and(|rest| rest.starts_with('/')) {
        return Err(format!("{specifier:?} is for tests, not for a handler: import \"{SDK_PACKAGE}\""));
    }
    let dir = from.parent().unwrap_or(from);
    let first = specifier.split('/').next().unwrap_or(specifier);
    let is_nodes = specifier.starts_with("node:") || NODE_MODULES.contains(&first);
    // A package of that name, such as `events`, is plain JavaScript.
    let installed = if specifier.contains(':') { None } else { package(dir, specifier, asks) };
    if is_nodes && installed.is_none() {
        return Err(format!(
            "it imports {specifier:?} of Node, which a handler has not: it runs in a sandbox without files, sockets and \
             processes"
        ));
    }
    if specifier.starts_with("./") || specifier.starts_with("../") || matches!(specifier, "." | "..") {
        let file = file_at(&dir.join(specifier)).map(Found::File);
        return file.ok_or_else(|| format!("it imports {specifier:?}, which is not there"));
    }
    if specifier.contains(':') || specifier.starts_with('/') {
        return Err(format!("it imports {specifier:?}: write a relative path or the name of a package"));
    }
    let file = if specifier.starts_with('#') { own(dir, specifier, asks) } else { installed };
    file.map(Found::File).ok_or_else(|| format!("it imports {specifier:?}, {}", why_not_found(dir, specifier)))
}

/// Why an import that is no path has no file, and what to write instead.
fn why_not_found(dir: &Path, specifier: &str) -> String {
    if specifier.starts_with('#') {
        return "which the `imports` of no package.json above it name".to_owned();
    }
    let is_alias = specifier.starts_with("@/") || specifier.starts_with("~/");
    if is_alias || dir.ancestors().any(|dir| file_at(&dir.join(specifier)).is_some()) {
        return "which a path of tsconfig.json may name: those are not followed; write a relative path".to_owned();
    }
    let (name, rest) = split_package(specifier);
    match home_of(dir, name) {
        Some(_) if rest.is_empty() => format!("and the package {name} that is installed names no file for it"),
        Some(_) => {
            format!("and the package {name} that is installed has or exports no {:?}", rest.trim_start_matches('/'))
        }
        None => "which no node_modules has: install it beside the handler".to_owned(),
    }
}

/// The file that a path means: itself, a source of TypeScript in place of the
/// `.js` that would come of it, or a file with an ending added.
fn file_at(path: &Path) -> Option<PathBuf> {
    const ENDINGS: [&str; 6] = ["ts", "mts", "js", "mjs", "cjs", "json"];
    let text = path.to_str()?;
    let mut candidates = vec![path.to_owned()];
    for (script, source) in [(".js", ".ts"), (".mjs", ".mts")] {
        candidates.extend(text.strip_suffix(script).map(|stem| PathBuf::from(format!("{stem}{source}"))));
    }
    candidates.extend(ENDINGS.map(|ending| PathBuf::from(format!("{text}.{ending}"))));
    candidates.extend(ENDINGS.map(|ending| path.join(format!("index.{ending}"))));
    candidates.into_iter().find(|file| file.is_file()).and_then(|file| file.canonicalize().ok())
}

/// The name of a package, with its scope, and the rest of a specifier.
fn split_package(specifier: &str) -> (&str, &str) {
    let parts = if specifier.starts_with('@') { 2 } else { 1 };
    let end = specifier.match_indices('/').nth(parts - 1).map_or(specifier.len(), |(at, _)| at);
    specifier.split_at(end)
}

/// The folder of a package in the nearest `node_modules` that has it.
fn home_of(dir: &Path, name: &str) -> Option<PathBuf> {
    if name.is_empty() || name.starts_with('.') {
        return None;
    }
    dir.ancestors().map(|dir| dir.join("node_modules").join(name)).find(|home| home.is_dir())
}

/// The file of a package in the nearest `node_modules` that has it.
fn package(dir: &Path, specifier: &str, asks: Asks) -> Option<PathBuf> {
    let (name, rest) = split_package(specifier);
    let home = home_of(dir, name)?;
    let manifest = manifest(&home).unwrap_or_default();
    if let Some(exports) = manifest.get("exports") {
        let file = exported(exports, &format!(".{rest}"), asks)?;
        return file_at(&home.join(file));
    }
    if !rest.is_empty() {
        return file_at(&home.join(rest.trim_start_matches('/')));
    }
    let fields = if asks == Asks::Import { ["browser", "module", "main"] } else { ["browser", "main", "module"] };
    let main = fields.into_iter().find_map(|field| manifest.get(field)?.as_str());
    file_at(&home.join(main.unwrap_or("index.js")))
}

/// The file that a package's own `imports` names, as in `import "#util"`.
fn own(dir: &Path, specifier: &str, asks: Asks) -> Option<PathBuf> {
    let (home, manifest) = dir.ancestors().find_map(|home| Some((home, manifest(home)?)))?;
    let file = exported(manifest.get("imports")?, specifier, asks)?;
    match file.starts_with('.') {
        true => file_at(&home.join(file)),
        false => package(home, &file, asks),
    }
}

fn manifest(home: &Path) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(home.join("package.json")).ok()?).ok()
}

/// The file that `exports` or `imports` of a package names.
fn exported(exports: &Value, wanted: &str, asks: Asks) -> Option<String> {
    let paths = exports.as_object().filter(|paths| paths.keys().any(|path| path.starts_with(['.', '#'])));
    let Some(paths) = paths else {
        return (wanted == ".").then(|| under_conditions(exports, asks)).flatten().map(ToOwned::to_owned);
    };
    if let Some(target) = paths.get(wanted) {
        return under_conditions(target, asks).map(ToOwned::to_owned);
    }
    // "./features/*.js" stands for all that begins and ends alike.
    paths.iter().find_map(|(path, target)| {
        let (start, end) = path.split_once('*')?;
        let middle = wanted.strip_prefix(start)?.strip_suffix(end)?;
        Some(under_conditions(target, asks)?.replace('*', middle))
    })
}

fn under_conditions(value: &Value, asks: Asks) -> Option<&str> {
    match value {
        Value::String(file) => Some(file),
        Value::Array(choices) => choices.iter().find_map(|choice| under_conditions(choice, asks)),
        Value::Object(conditions) => {
            asks.conditions().into_iter().find_map(|condition| under_conditions(conditions.get(condition)?, asks))
        }
        _ => None,
    }
}
