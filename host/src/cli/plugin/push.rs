//! `courier plugin push`: uploads a component and says what to add to
//! courier.toml so that it gets messages.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use wasmparser::{Parser, Payload};

use crate::cli::client::Client;
use crate::cli::shapes::{Upload, Wants};
use crate::cli::{Output, show, table};

/// The custom section in which the SDK describes the handler.
const ABOUT: &str = "courier:handler";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The component, as `courier plugin build` made it.
    file: PathBuf,
    /// The plugin's name; the component says it otherwise, or the file's name.
    #[arg(long)]
    name: Option<String>,
    /// Makes it the active version at once.
    #[arg(long)]
    activate: bool,
}

pub(super) async fn run(client: &Client, output: Output, args: Args) -> anyhow::Result<()> {
    let component = std::fs::read(&args.file).with_context(|| {
        format!("cannot read {}: build the component first, `courier plugin build`", args.file.display())
    })?;
    let name = args.name.map_or_else(|| name_of(&args.file, &component), Ok)?;
    let query = [("activate", args.activate.then(|| "true".to_owned()))];
    let answer = client.put(&["plugins", &name], &query, component).await?;
    show(output, &answer, |upload: Upload| uploaded(&upload))
}

/// The name that the component gives itself, else the file's.
fn name_of(file: &Path, component: &[u8]) -> anyhow::Result<String> {
    if let Some(name) = described_name(component) {
        return Ok(name);
    }
    match file.file_stem().and_then(|stem| stem.to_str()) {
        Some(stem) if !stem.is_empty() => Ok(stem.replace('_', "-")),
        _ => bail!("{} gives the plugin no name: add --name", file.display()),
    }
}

/// What is no component has no name here; the host says what is wrong with it.
fn described_name(component: &[u8]) -> Option<String> {
    let sections = Parser::new(0).parse_all(component).map_while(Result::ok).filter_map(|payload| match payload {
        Payload::CustomSection(section) if section.name() == ABOUT => Some(section.data()),
        _ => None,
    });
    let wants = sections.filter_map(|about| serde_json::from_slice::<Wants>(about).ok());
    wants.map(|wants| wants.name).find(|name| !name.is_empty())
}

fn uploaded(upload: &Upload) -> String {
    let Upload { name, version, active, .. } = upload;
    let state = if *active { "active" } else { "not active" };
    let imports = if upload.imports.is_empty() { "nothing".to_owned() } else { upload.imports.join(", ") };
    let mut text = format!("{name} {version} ({state})\nimports {imports}\n");
    if !active {
        text.push_str(&format!("\nactivate it with: courier plugin activate {name} {version}\n"));
    }
    if let Some(wants) = &upload.wants {
        text.push_str(&format!("\nto give it messages, have this in courier.toml:\n\n{}", binding(name, wants)));
    }
    table::clean(&text)
}

/// The binding that a handler wants.
fn binding(name: &str, wants: &Wants) -> String {
    let group = if wants.group.is_empty() { name } else { &wants.group };
    let mut toml = format!(
        "[[binding]]\ngroup = {}\ntopics = {}\nplugin = {}\n",
        quoted(group),
        array(&wants.topics),
        quoted(name)
    );
    if !wants.types.is_empty() {
        toml.push_str(&format!("types = {}\n", array(&wants.types)));
    }
    if wants.world == "batch-handler" {
        toml.push_str("batch = 100\n");
    }
    if !wants.publishes.is_empty() {
        toml.push_str(&format!("[binding.grant]\npublish = {}\n", array(&wants.publishes)));
    }
    toml
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn array(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants() -> Wants {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Wants {
            name: "stock-reserver".into(),
            world: "handler".into(),
            group: "stock".into(),
            topics: texts(&["order"]),
            types: texts(&["OrderCreated"]),
            publishes: texts(&["stock"]),
        }
    }

    #[test]
    fn the_binding_can_be_pasted() {
        let toml = binding("stock-reserver", &wants());
        assert_eq!(
            toml,
            "[[binding]]\ngroup = \"stock\"\ntopics = [\"order\"]\nplugin = \"stock-reserver\"\n\
             types = [\"OrderCreated\"]\n[binding.grant]\npublish = [\"stock\"]\n"
        );
        let config = crate::config::parse("courier.toml", &toml, &|_| None).unwrap();
        assert_eq!(config.bindings[0].grant.publish, ["stock"]);
    }

    #[test]
    fn any_handler_gets_a_binding_that_courier_takes() {
        let batch = Wants { world: "batch-handler".into(), types: vec!["A\"B\\C".into()], ..wants() };
        let config = crate::config::parse("courier.toml", &binding("p", &batch), &|_| None).unwrap();
        assert_eq!(config.bindings[0].batch, 100);
        assert_eq!(config.bindings[0].types.as_deref(), Some(&["A\"B\\C".to_owned()][..]));
    }

    /// A module that holds nothing but one custom section.
    fn module(section: &str, data: &[u8]) -> Vec<u8> {
        let mut content = vec![section.len() as u8];
        content.extend(section.as_bytes());
        content.extend(data);
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        module.extend([0, content.len() as u8]);
        module.extend(content);
        module
    }

    #[test]
    fn the_name_is_the_components_own_or_else_the_files() {
        let named = module(ABOUT, br#"{"name":"stock-reserver","world":"handler"}"#);
        assert_eq!(name_of(Path::new("x.wasm"), &named).unwrap(), "stock-reserver");
        let other = module("producers", b"{}");
        assert_eq!(name_of(Path::new("t/order_handler.wasm"), &other).unwrap(), "order-handler");
        assert_eq!(name_of(Path::new("garbage.wasm"), b"garbage").unwrap(), "garbage");
        assert!(name_of(Path::new("/"), b"").is_err());
    }

    #[test]
    fn the_next_step_is_named() {
        let upload = |active| Upload {
            name: "p".into(),
            version: "sha256:00".into(),
            active,
            imports: vec![],
            wants: Some(wants()),
        };
        assert!(uploaded(&upload(false)).contains("courier plugin activate p sha256:00"));
        assert!(!uploaded(&upload(true)).contains("activate it"));
    }
}
