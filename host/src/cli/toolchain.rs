//! Builds a guest crate for wasm32-wasip2 with a toolchain that the machine has or
//! can get, and says which one it uses.
//!
//! It tries in this order: the target is installed for the Rust on the path; rustup
//! adds it; Debian's packages build std for it. `COURIER_WASM_TOOLCHAIN` set to
//! `installed`, `rustup` or `debian` allows only that one.
//!
//! This file uses only std and anyhow, because xtask includes it.
#![allow(clippy::disallowed_types, reason = "xtask includes this file, and has no other lock")]

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

/// The target that guests are built for.
const TARGET: &str = "wasm32-wasip2";
/// The environment variable that allows only one toolchain.
const ONLY: &str = "COURIER_WASM_TOOLCHAIN";
/// Debian's packages with a Rust that is new enough, the source of std and the C
/// library that std needs.
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "wasi-libc"];
/// The folder of the archives of `wasi-libc`.
const DEBIAN_LIBC: &str = "/usr/lib/wasm32-wasi";
/// The compiler flags that find those archives.
const DEBIAN_FLAGS: &str = "-C link-self-contained=no -L native=/usr/lib/wasm32-wasi";
/// The oldest minor version of Rust with edition 2024, which guests use.
const OLDEST_MINOR: u32 = 85;
/// How long rustup may take to fetch the target; without a network it may hang.
const RUSTUP_PATIENCE: Duration = Duration::from_secs(180);

/// Builds the crate in `crate_dir` as a component and returns its path.
///
/// `target_dir` is cargo's target folder; by default `target/guest` of the crate,
/// apart from its native builds.
pub fn build_component(crate_dir: &Path, target_dir: Option<&Path>, say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    build_with(crate_dir, target_dir, &[], say)
}

/// [`build_component`] with further flags for the compiler.
pub fn build_with(
    crate_dir: &Path,
    target_dir: Option<&Path>,
    flags: &[String],
    say: &mut dyn FnMut(&str),
) -> Result<PathBuf> {
    ensure!(
        crate_dir.join("Cargo.toml").is_file(),
        "{} has no Cargo.toml: name the folder of a handler's crate",
        crate_dir.display()
    );
    let target_dir = match target_dir {
        Some(dir) => std::path::absolute(dir)?,
        None => std::path::absolute(crate_dir)?.join("target").join("guest"),
    };
    let toolchain = choose(crate_dir, say)?;

    let mut cargo = toolchain.cargo()?;
    cargo
        .current_dir(crate_dir)
        .args(["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"])
        .arg("--target-dir")
        .arg(&target_dir);
    let mut flags = flags.join(" ");
    if let Toolchain::Debian { .. } = toolchain {
        cargo.arg("-Zbuild-std=std,panic_abort");
        // With --target, cargo does not pass RUSTFLAGS to build scripts, which run
        // on this machine.
        flags = format!("{DEBIAN_FLAGS} {flags}");
    }
    if !flags.is_empty() {
        cargo.env("RUSTFLAGS", flags.trim());
    }
    let mut running =
        cargo.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {:?}", cargo.get_program()))?;

    let mut component = None;
    if let Some(stdout) = running.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            // The crate itself is built last, after its dependencies.
            component = component_in(&line?).or(component);
        }
    }
    let status = running.wait()?;
    ensure!(status.success(), "cargo could not build {}; it says why above", crate_dir.display());
    component.with_context(|| {
        format!(
            "{} builds no component: add `crate-type = [\"cdylib\"]` below [lib] in its Cargo.toml",
            crate_dir.display()
        )
    })
}

/// A toolchain that builds for the target.
#[derive(Clone)]
enum Toolchain {
    /// The Rust on the path has the target.
    Installed,
    /// Debian's Rust builds std too; the linker comes from elsewhere.
    Debian {
        /// The program that links a component.
        linker: PathBuf,
        /// The folders of the programs that the linker calls.
        path: Vec<PathBuf>,
    },
}

impl Toolchain {
    /// A cargo command that uses this toolchain.
    fn cargo(&self) -> Result<Command> {
        let Toolchain::Debian { linker, path } = self else {
            return Ok(clean("cargo"));
        };
        let inherited = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(path.iter().cloned().chain(env::split_paths(&inherited)))
            .context("a folder of the toolchain cannot stand in PATH")?;
        let mut cargo = clean("/usr/bin/cargo");
        cargo
            .env("PATH", path)
            .env("RUSTC", "/usr/bin/rustc")
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_WASM32_WASIP2_LINKER", linker)
            // An outer cargo points this at libraries of another Rust.
            .env_remove("LD_LIBRARY_PATH");
        Ok(cargo)
    }
}

/// Finds a toolchain, once in a process for each Rust.
fn choose(crate_dir: &Path, say: &mut dyn FnMut(&str)) -> Result<Toolchain> {
    static CHOSEN: Mutex<BTreeMap<Option<PathBuf>, Toolchain>> = Mutex::new(BTreeMap::new());
    // A crate can name its own Rust in rust-toolchain.toml, so the folder
    // matters. Held while choosing: two threads must not install twice.
    let sysroot = sysroot(clean("rustc").current_dir(crate_dir));
    let mut chosen = CHOSEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(toolchain) = chosen.get(&sysroot) {
        return Ok(toolchain.clone());
    }
    let toolchain = find(crate_dir, sysroot.as_deref(), say)?;
    chosen.insert(sysroot, toolchain.clone());
    Ok(toolchain)
}

/// Tries the toolchains in turn; the error says why each of them failed.
fn find(crate_dir: &Path, sysroot: Option<&Path>, say: &mut dyn FnMut(&str)) -> Result<Toolchain> {
    let only = env::var(ONLY).ok();
    if let Some(only) = &only {
        ensure!(
            ["installed", "rustup", "debian"].contains(&only.as_str()),
            "{ONLY} is \"{only}\", must be installed, rustup or debian"
        );
    }
    let allowed = |way: &str| only.as_deref().is_none_or(|only| only == way);
    let mut reasons = Vec::new();

    if allowed("installed") {
        match sysroot {
            Some(sysroot) if has_target(sysroot) => {
                say(&format!("toolchain: the installed target {TARGET} of {}", sysroot.display()));
                return Ok(Toolchain::Installed);
            }
            Some(sysroot) => reasons.push(format!("{} has no {TARGET}", sysroot.display())),
            None => reasons.push("there is no rustc on the path".into()),
        }
    }
    if allowed("rustup") {
        say(&format!("toolchain: asking rustup for {TARGET}"));
        match add_target(crate_dir) {
            Ok(()) => {
                say(&format!("toolchain: the target {TARGET}, added by rustup"));
                return Ok(Toolchain::Installed);
            }
            Err(problem) => reasons.push(format!("rustup: {problem:#}")),
        }
    }
    if allowed("debian") {
        match debian(sysroot, say) {
            Ok(toolchain) => {
                say("toolchain: Debian's Rust, building std from its source (about 30 s, once)");
                return Ok(toolchain);
            }
            Err(problem) => reasons.push(format!("debian: {problem:#}")),
        }
    }
    bail!("no toolchain for {TARGET}; install it with `rustup target add {TARGET}` ({})", reasons.join("; "))
}

/// The folder of a compiler's libraries; `None` when there is no such compiler.
fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| PathBuf::from(text.trim()))
}

/// Whether std is installed; a folder alone may be left over from an uninstall.
fn has_target(sysroot: &Path) -> bool {
    let libraries = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    let Ok(mut entries) = libraries.read_dir() else {
        return false;
    };
    entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
}

/// Lets rustup fetch the target for the Rust that `crate_dir` uses.
fn add_target(crate_dir: &Path) -> Result<()> {
    let mut rustup = clean("rustup");
    rustup.current_dir(crate_dir).args(["target", "add", TARGET]).stdin(Stdio::null());
    let mut running = match rustup.spawn() {
        Ok(running) => running,
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => bail!("it is not installed"),
        Err(problem) => return Err(problem).context("cannot start it"),
    };
    let started = Instant::now();
    let status = loop {
        if let Some(status) = running.try_wait()? {
            break status;
        }
        if started.elapsed() > RUSTUP_PATIENCE {
            running.kill()?;
            running.wait()?;
            bail!("it had not fetched the target after {} s", RUSTUP_PATIENCE.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    };
    ensure!(status.success(), "it could not add the target");
    Ok(())
}

/// Checks that Debian's packages are there, or installs them where that is
/// allowed, and finds the linker for components.
fn debian(sysroot: Option<&Path>, say: &mut dyn FnMut(&str)) -> Result<Toolchain> {
    let linker = linker(sysroot)?;
    if let Err(missing) = debian_packages() {
        let command = format!("apt-get install --no-install-recommends {}", DEBIAN_PACKAGES.join(" "));
        ensure!(
            Path::new("/usr/bin/apt-get").exists() && is_root(),
            "{missing:#}; on Debian `{command}` installs what is needed, run as root"
        );
        say(&format!("toolchain: running `{command}` ({missing:#})"));
        install_packages()?;
        debian_packages()?;
    }
    Ok(linker)
}

/// Checks that Debian's Rust is new enough, and that the source of std and the C
/// library are there.
fn debian_packages() -> Result<()> {
    let version = Command::new("/usr/bin/rustc").arg("--version").env_remove("LD_LIBRARY_PATH").output();
    let version = version.context("there is no /usr/bin/rustc")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    ensure!(
        minor_version(&version).is_some_and(|minor| minor >= OLDEST_MINOR),
        "/usr/bin/rustc is \"{}\", must be 1.{OLDEST_MINOR} or newer",
        version.trim()
    );
    let sysroot = sysroot(clean("/usr/bin/rustc").env_remove("LD_LIBRARY_PATH")).unwrap_or_else(|| "/usr".into());
    let source = sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml");
    for (what, path) in [
        ("cargo", PathBuf::from("/usr/bin/cargo")),
        ("the source of std", source),
        ("the C library for WebAssembly", Path::new(DEBIAN_LIBC).join("libc.a")),
    ] {
        ensure!(path.exists(), "{what} is missing ({})", path.display());
    }
    Ok(())
}

/// The 85 of `rustc 1.85.0 (..)`.
fn minor_version(text: &str) -> Option<u32> {
    text.split_whitespace().nth(1)?.split('.').nth(1)?.parse().ok()
}

/// Installs the packages without removing any.
fn install_packages() -> Result<()> {
    let apt_get = |arguments: &[&str]| -> Result<bool> {
        let status = Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        Ok(status.context("cannot start apt-get")?.success())
    };
    let install: Vec<&str> =
        ["install", "-y", "--no-install-recommends", "--no-remove"].into_iter().chain(DEBIAN_PACKAGES).collect();
    // Without package lists apt-get finds no package.
    let done = apt_get(&install)? || (apt_get(&["update"])? && apt_get(&install)?);
    ensure!(done, "apt-get could not install {}; it says why above", DEBIAN_PACKAGES.join(" "));
    Ok(())
}

/// Whether this process runs as root. std cannot tell, `id` can.
fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// The linker for components, which Debian does not package: it comes with a Rust
/// from rustup, or is on the path.
fn linker(sysroot: Option<&Path>) -> Result<Toolchain> {
    const NAME: &str = "wasm-component-ld";
    if let Some(bin) = sysroot.and_then(rustup_programs)
        && bin.join(NAME).is_file()
    {
        return Ok(Toolchain::Debian { linker: bin.join(NAME), path: vec![bin.clone(), bin.join("gcc-ld")] });
    }
    let on_path = env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join(NAME))
        .find(|program| program.is_file());
    match on_path {
        Some(linker) => Ok(Toolchain::Debian { linker, path: Vec::new() }),
        None => bail!(
            "{NAME} is missing: install Rust by rustup, which brings it, or `cargo install {NAME}` and the package lld"
        ),
    }
}

/// The folder in which a Rust from rustup keeps its linkers.
fn rustup_programs(sysroot: &Path) -> Option<PathBuf> {
    let hosts = sysroot.join("lib/rustlib").read_dir().ok()?;
    hosts.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).find(|bin| bin.join("rust-lld").is_file())
}

/// A command without the variables that an outer cargo or rustup, or their caller,
/// set for another build: they choose a toolchain, a target or flags that are wrong
/// for a guest. The settings of registries stay.
fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if belongs_to_another_build(&name) {
            command.env_remove(name);
        }
    }
    command
}

fn belongs_to_another_build(name: &OsString) -> bool {
    const NAMES: [&str; 14] = [
        "CARGO",
        "CARGO_ENCODED_RUSTDOCFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "OUT_DIR",
        "RUSTC",
        "RUSTC_BOOTSTRAP",
        "RUSTC_LINKER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "RUST_RECURSION_COUNT",
    ];
    const PREFIXES: [&str; 9] = [
        "CARGO_BIN_",
        "CARGO_BUILD_",
        "CARGO_CFG_",
        "CARGO_CRATE_",
        "CARGO_FEATURE_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
    ];
    let Some(name) = name.to_str() else {
        return false;
    };
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The `.wasm` file in a line of cargo's messages, if the line names one.
///
/// A message is one line of JSON with `"filenames":["..",..]`. Only that list is
/// read; quotes and backslashes in a path are unescaped.
fn component_in(line: &str) -> Option<PathBuf> {
    if !line.starts_with(r#"{"reason":"compiler-artifact""#) {
        return None;
    }
    let (_, list) = line.split_once(r#""filenames":["#)?;
    let mut names = Vec::new();
    let mut name: Option<String> = None;
    let mut letters = list.chars();
    while let Some(letter) = letters.next() {
        match (&mut name, letter) {
            (None, ']') => break,
            (None, '"') => name = Some(String::new()),
            (None, _) => {}
            (Some(_), '"') => names.extend(name.take()),
            (Some(name), '\\') => name.push(letters.next()?),
            (Some(name), letter) => name.push(letter),
        }
    }
    names.into_iter().map(PathBuf::from).find(|name| name.extension() == Some(OsStr::new("wasm")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_component_in_cargos_messages() {
        for (line, expected) in [
            (r#"{"reason":"compiler-artifact","filenames":["/t/a.wasm"],"fresh":true}"#, Some("/t/a.wasm")),
            (r#"{"reason":"compiler-artifact","filenames":["/t/liba.rlib","/t/a.wasm"]}"#, Some("/t/a.wasm")),
            (r#"{"reason":"compiler-artifact","filenames":["C:\\t\\a \"b\".wasm"]}"#, Some(r#"C:\t\a "b".wasm"#)),
            (r#"{"reason":"compiler-artifact","filenames":["/t/liba.rlib"],"x":["b.wasm"]}"#, None),
            (r#"{"reason":"build-finished","success":true}"#, None),
            ("not a message", None),
        ] {
            assert_eq!(component_in(line), expected.map(PathBuf::from), "{line}");
        }
    }

    #[test]
    fn keeps_another_builds_settings_out() {
        for (name, expected) in [
            ("RUSTFLAGS", true),
            ("CARGO_ENCODED_RUSTFLAGS", true),
            ("RUSTUP_TOOLCHAIN", true),
            ("CARGO_BUILD_TARGET", true),
            ("CARGO_TARGET_DIR", true),
            ("CARGO_HOME", false),
            ("CARGO_NET_OFFLINE", false),
            ("CARGO_REGISTRIES_SHOP_INDEX", false),
            ("RUSTUP_HOME", false),
            ("PATH", false),
        ] {
            assert_eq!(belongs_to_another_build(&name.into()), expected, "{name}");
        }
    }

    #[test]
    fn reads_the_version_of_a_compiler() {
        assert_eq!(minor_version("rustc 1.96.0 (ac68faa20 2026-05-25)"), Some(96));
        assert_eq!(minor_version("rustc 1.63.0"), Some(63));
        assert_eq!(minor_version(""), None);
    }
}
