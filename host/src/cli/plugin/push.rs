//! `courier plugin push`: uploads a component, and shows the binding that gives it
//! messages.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use wasmparser::{Parser, Payload};

use super::binding::binding;
use super::build;
use crate::cli::client::HostClient;
use crate::cli::shapes::{Upload, Wants};
use crate::cli::{Output, show, table};

/// The custom section in which the SDK describes the handler.
const ABOUT: &str = "courier:handler";

/// How long an upload takes before its progress is shown; a small component is
/// done by then.
const SILENT_FOR: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The component; or the folder of a handler, or its TypeScript, JavaScript or
    /// Python file, which is built first.
    #[arg(default_value = ".")]
    file: PathBuf,
    /// The plugin's name; by default the one in the component, or the file's name.
    #[arg(long)]
    name: Option<String>,
    /// Activate the version at once.
    #[arg(long)]
    activate: bool,
}

pub(super) async fn run(client: &HostClient, output: Output, args: Args) -> anyhow::Result<()> {
    let file = if build::is_source(&args.file) { build::component(&args.file)? } else { args.file };
    let component = std::fs::read(&file).with_context(|| {
        format!("cannot read {}: build the component first, `courier plugin build`", file.display())
    })?;
    let name = args.name.map_or_else(|| name_of(&file, &component), Ok)?;
    let query = [("activate", args.activate.then(|| "true".to_owned()))];
    let mib = component.len() as f64 / f64::from(1 << 20);
    let answer = with_progress(mib, client.put(&["plugins", &name], &query, component)).await?;
    show(output, &answer, |upload: Upload| uploaded(&upload))
}

/// Waits for the response to an upload, and shows progress on standard error: the
/// host responds once it has compiled the component, which can take seconds.
async fn with_progress<T>(mib: f64, answer: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let redraws = std::io::stderr().is_terminal();
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + SILENT_FOR, Duration::from_secs(1));
    let mut answer = std::pin::pin!(answer);
    let mut shown = false;
    loop {
        tokio::select! {
            biased;
            answered = &mut answer => {
                if shown && redraws {
                    eprintln!();
                }
                return answered;
            }
            _ = ticks.tick() => {
                let line = format!("the host compiles {mib:.1} MiB");
                if redraws {
                    eprint!("\r{line}, {} s", begun.elapsed().as_secs());
                    let _ = std::io::stderr().flush();
                } else if !shown {
                    eprintln!("{line}");
                }
                shown = true;
            }
        }
    }
}

/// The name in the component, or else that of the file.
pub(in crate::cli) fn name_of(file: &Path, component: &[u8]) -> anyhow::Result<String> {
    if let Some(name) = described_name(component) {
        return Ok(name);
    }
    match file.file_stem().and_then(|stem| stem.to_str()) {
        Some(stem) if !stem.is_empty() => Ok(stem.replace('_', "-")),
        _ => bail!("{} gives the plugin no name: add --name", file.display()),
    }
}

/// The name in the component. A file that is no component has none; the host says
/// what is wrong with it.
fn described_name(component: &[u8]) -> Option<String> {
    let sections = Parser::new(0).parse_all(component).map_while(Result::ok).filter_map(|payload| match payload {
        Payload::CustomSection(section) if section.name() == ABOUT => Some(section.data()),
        _ => None,
    });
    let wants = sections.filter_map(|about| serde_json::from_slice::<Wants>(about).ok());
    wants.map(|wants| wants.name).find(|name| !name.is_empty())
}

pub(in crate::cli) fn uploaded(upload: &Upload) -> String {
    let Upload { name, version, active, .. } = upload;
    let state = if *active { "active" } else { "not active" };
    let imports = if upload.imports.is_empty() { "nothing".to_owned() } else { upload.imports.join(", ") };
    let mut text = format!("{name} {version} ({state})\nimports {imports}\n");
    if !active {
        text.push_str(&format!("\nactivate it with: courier plugin activate {name} {version}\n"));
    }
    if let Some(wants) = &upload.wants {
        text.push_str(&format!(
            "\nto give it messages, have this in courier.toml:\n\n{}",
            binding(name, wants, &upload.imports)
        ));
    }
    table::clean(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            wants: Some(Wants { topics: vec!["order".into()], ..Wants::default() }),
        };
        assert!(uploaded(&upload(false)).contains("courier plugin activate p sha256:00"));
        assert!(!uploaded(&upload(true)).contains("activate it"));
    }
}
