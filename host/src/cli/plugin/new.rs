//! `courier plugin new`: writes a handler that can be built, tested and run at once.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::write::write_file;
use super::{binding, javascript, python};
use crate::cli::say;
use crate::cli::shapes::Wants;

/// The languages of a new handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Lang {
    /// A crate with courier-sdk.
    Rust,
    /// A file with courier_sdk.
    Python,
    /// A file with courier-sdk, and its test.
    #[value(name = "ts", alias = "typescript")]
    TypeScript,
    /// A file with courier-sdk, and its test.
    #[value(name = "js", alias = "javascript")]
    JavaScript,
}

const RUST_FILES: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("template/lib.rs.txt")),
    ("README.md", include_str!("template/README.md.txt")),
    (".gitignore", "/target\n/*.wasm\n"),
];

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The name of the plugin and of its directory.
    #[arg(value_parser = name)]
    name: String,
    /// The language of the handler.
    #[arg(long, value_enum, default_value = "rust")]
    lang: Lang,
    /// The directory of courier-sdk for Rust; by default that of the checkout of
    /// Courier around the current directory.
    #[arg(long, value_name = "PATH")]
    sdk: Option<PathBuf>,
    /// The consumer group; by default the plugin's name.
    #[arg(long)]
    group: Option<String>,
}

/// Checks a name that is both a plugin's and a package's.
fn name(text: &str) -> Result<String, String> {
    let right = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
    // Cargo refuses these, whatever the case.
    let reserved = ["test", "core", "std", "alloc", "self", "super", "crate"].contains(&text);
    if starts && text.len() <= 64 && text.chars().all(right) && !reserved {
        return Ok(text.to_owned());
    }
    Err("write 1 to 64 small letters, digits and '-', a letter first: order-handler".to_owned())
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let here = std::env::current_dir().context("cannot tell the current directory")?;
    let dir = here.join(&args.name);
    if dir.exists() {
        bail!("{} exists already: choose another name, or remove it", args.name);
    }
    let (name, group) = (&args.name, args.group.as_deref().unwrap_or(&args.name));
    match args.lang {
        Lang::Rust => {}
        Lang::Python => return new_python(&dir, name, group),
        Lang::TypeScript => return new_script(&dir, &javascript::TYPESCRIPT_FILES, name, group),
        Lang::JavaScript => return new_script(&dir, &javascript::JAVASCRIPT_FILES, name, group),
    }
    let sdk = find_sdk(args.sdk.as_deref(), &here)?;
    write(&dir, &RUST_FILES, name, group, &dependency(sdk.as_deref())?)?;
    // With the SDK's lock file a first build takes the versions that the SDK is
    // tested with, and fetches no others.
    if let Some(lock) = sdk.map(|sdk| sdk.join("Cargo.lock")).filter(|lock| lock.is_file()) {
        std::fs::copy(&lock, dir.join("Cargo.lock")).with_context(|| format!("cannot copy {}", lock.display()))?;
    }
    say(&format!(
        "{name}/ is ready; its README.md says what comes next:\n\n  cd {name}\n  cargo test\n  courier plugin build\n  \
         courier plugin push {name}.wasm --activate"
    ))
}

fn new_python(dir: &Path, name: &str, group: &str) -> anyhow::Result<()> {
    write(dir, &python::FILES, name, group, "")?;
    let wants = Wants {
        group: group.to_owned(),
        topics: vec!["order".to_owned()],
        types: vec!["OrderCreated".to_owned()],
        uses: Some(Vec::new()),
        isolation: "instance".to_owned(),
        ..Wants::default()
    };
    say(&format!(
        "{name}/ is ready; its README.md says what comes next:\n\n  cd {name}\n  courier plugin build       # makes \
         {name}.wasm, and .venv at the first time\n  .venv/bin/pytest\n  courier plugin push . --activate\n\nthe binding, which \
         {name}/courier.toml holds:\n\n{}",
        binding::binding(name, &wants, &[])
    ))
}

fn new_script(dir: &Path, files: &[(&str, &str)], name: &str, group: &str) -> anyhow::Result<()> {
    write(dir, files, name, group, "")?;
    javascript::write_sdk(dir)?;
    let wants = Wants {
        group: group.to_owned(),
        topics: vec!["order".to_owned()],
        types: vec!["OrderCreated".to_owned()],
        uses: Some(Vec::new()),
        ..Wants::default()
    };
    let (handler, _) = files[0];
    say(&format!(
        "{name}/ is ready; its README.md says what comes next:\n\n  cd {name}\n  npm install && npm test\n  courier plugin push \
         {handler} --activate\n\nthe binding, which {name}/courier.toml holds:\n\n{}",
        binding::binding(name, &wants, &[])
    ))
}

/// The folder of the SDK: the given one, or that of the checkout around `here`.
/// Without either the crate depends on the published SDK.
fn find_sdk(given: Option<&Path>, here: &Path) -> anyhow::Result<Option<PathBuf>> {
    let Some(path) = given else {
        return Ok(here.ancestors().map(|dir| dir.join("guest-sdk/rust")).find(|sdk| sdk.join("Cargo.toml").is_file()));
    };
    if !path.join("Cargo.toml").is_file() {
        bail!("{} is not courier-sdk: it has no Cargo.toml", path.display());
    }
    Ok(Some(path.canonicalize().with_context(|| format!("cannot open {}", path.display()))?))
}

/// The dependency on the SDK in `Cargo.toml`.
fn dependency(sdk: Option<&Path>) -> anyhow::Result<String> {
    let Some(path) = sdk else { return Ok("\"0.1\"".to_owned()) };
    let path = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(format!("{{ path = {} }}", toml::Value::from(path)))
}

fn write(dir: &Path, files: &[(&str, &str)], name: &str, group: &str, sdk: &str) -> anyhow::Result<()> {
    for (file, template) in files {
        let text = template.replace("{{name}}", name).replace("{{group}}", group).replace("{{sdk}}", sdk);
        write_file(&dir.join(file), &text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_cargo_takes() {
        for right in ["a", "order-handler", "x2"] {
            assert!(name(right).is_ok(), "{right}");
        }
        for wrong in ["", "Order", "2x", "a_b", "../a", "test", "-a", "a b"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_new_crate_names_the_sdk_the_group_and_itself() {
        let temp = tempfile::tempdir().unwrap();
        let sdk = temp.path().join("guest-sdk/rust");
        std::fs::create_dir_all(&sdk).unwrap();
        std::fs::write(sdk.join("Cargo.toml"), "").unwrap();
        let inside = temp.path().join("plugins");
        let found = find_sdk(None, &inside).unwrap();
        assert_eq!(found.as_deref(), Some(sdk.as_path()));
        assert_eq!(find_sdk(Some(&sdk), Path::new("/")).unwrap(), Some(sdk.canonicalize().unwrap()));
        assert_eq!(dependency(find_sdk(None, Path::new("/nowhere")).unwrap().as_deref()).unwrap(), "\"0.1\"");
        assert!(find_sdk(Some(Path::new("/nowhere")), &inside).is_err());

        let dir = temp.path().join("tea-shop");
        write(&dir, &RUST_FILES, "tea-shop", "tea", &dependency(found.as_deref()).unwrap()).unwrap();
        let manifest: toml::Table = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap().parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some("tea-shop"));
        assert!(manifest["dependencies"]["courier-sdk"]["path"].as_str().unwrap().contains("guest-sdk/rust"));
        let code = std::fs::read_to_string(dir.join("src/lib.rs")).unwrap();
        assert!(code.contains("#[handler(group = \"tea\")]"), "{code}");
        let readme = std::fs::read_to_string(dir.join("README.md")).unwrap();
        assert!(!readme.contains("{{") && !code.contains("{{"), "everything is filled in");
        let (_, rest) = readme.split_once("```toml\n").unwrap();
        let binding = rest.split_once("```").unwrap().0;
        assert!(crate::config::parse("courier.toml", binding, &|_| None).is_ok(), "{binding}");
    }

    #[test]
    fn a_new_python_handler_is_filled_in_and_its_binding_is_taken() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("tea-shop");
        new_python(&dir, "tea-shop", "tea").unwrap();
        let read = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap();
        assert!(read("handler.py").contains("@handler(group=\"tea\", topics=[\"order\"])"));
        for (file, _) in python::FILES {
            assert!(!read(file).contains("{{"), "{file}");
        }
        let config = crate::config::parse("courier.toml", &read("courier.toml"), &|_| None).unwrap();
        assert_eq!(config.bindings[0].plugin.name, "tea-shop");
        assert_eq!(config.bindings[0].isolation, crate::config::Isolation::Instance);
    }

    #[test]
    fn a_new_script_is_filled_in_and_has_the_sdk_beside_it() {
        for (files, handler) in
            [(&javascript::TYPESCRIPT_FILES[..], "handler.ts"), (&javascript::JAVASCRIPT_FILES[..], "handler.js")]
        {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("tea-shop");
            new_script(&dir, files, "tea-shop", "tea").unwrap();
            let read = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap();
            assert!(read(handler).contains("{ group: \"tea\", topics: [\"order\"]"), "{}", read(handler));
            for (file, _) in files {
                assert!(!read(file).contains("{{"), "{file}");
            }
            let package: serde_json::Value = serde_json::from_str(&read("package.json")).unwrap();
            let sdk = package["devDependencies"]["courier-sdk"].as_str().unwrap().strip_prefix("file:").unwrap();
            assert!(dir.join(sdk).join("src/index.js").is_file());
            let config = crate::config::parse("courier.toml", &read("courier.toml"), &|_| None).unwrap();
            assert_eq!(
                (config.bindings[0].plugin.name.as_str(), config.bindings[0].group.as_str()),
                ("tea-shop", "tea")
            );
        }
    }
}
