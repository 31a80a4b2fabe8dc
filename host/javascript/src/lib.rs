//! Builds a handler in JavaScript or TypeScript into a component, with nothing
//! but this crate: neither Rust nor Node need be installed.
//!
//! [`sources`] reads the handler's modules with those that they import
//! ([`resolve`], [`commonjs`]), and [`strip`] takes their types out;
//! [`link`] joins the prebuilt QuickJS runtime to the imports that the handler
//! uses ([`uses`]); [`snapshot`] starts the script once and keeps the memory, so
//! that a fresh instance begins where the script's modules are evaluated.

mod commonjs;
mod link;
mod loader;
mod resolve;
mod snapshot;
mod sources;
mod strip;
mod uses;
mod world;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize};

use self::sources::Sources;
use self::uses::Uses;
use self::world::World;

/// The custom section in which a component says what it wants.
const ABOUT_SECTION: &str = "courier:handler";
/// How the SDK tells the builder, in its log, what the handler declares.
const DECLARED_PREFIX: &str = "courier:handler ";
/// The stack of the builder: packages hold expressions that nest deeply.
const STACK_BYTES: usize = 64 * 1024 * 1024;
/// The endings of the files that this crate builds.
pub const ENDINGS: [&str; 4] = ["ts", "mts", "js", "mjs"];

/// What `handler({ .. }, ..)` declares.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Declared {
    world: World,
    group: String,
    topics: Vec<String>,
    types: Vec<String>,
    publishes: Vec<String>,
    http: Vec<String>,
    uses: Option<Vec<String>>,
}

/// What the component says about itself.
#[derive(Serialize)]
struct About<'a> {
    name: &'a str,
    world: World,
    group: &'a str,
    topics: &'a [String],
    types: &'a [String],
    publishes: &'a [String],
    http: &'a [String],
    uses: Vec<&'static str>,
    language: &'a str,
}

/// Builds the handler in `file` into a component for the plugin `name`. It
/// blocks for a second or two.
///
/// # Errors
/// A sentence with file, line and column where the source is at fault.
pub fn build(file: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    // The runtime's calls are asynchronous; a thread of its own lets a caller
    // be asynchronous too.
    std::thread::scope(|threads| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(threads, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.context("cannot start the builder")?.block_on(component(file, name))
        });
        let built = thread.context("cannot start the builder")?.join();
        built.unwrap_or_else(|_| Err(anyhow!("the builder failed on {}, which is its own fault", file.display())))
    })
}

async fn component(file: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let sources = Sources::read(file)?;
    let (found_uses, found_world) = (Uses::found_in(sources.texts()), World::found_in(sources.texts()));
    let mut started = start(&sources, &found_uses, found_world).await?;
    let declared = declared(&started.logged)?;
    let uses = match &declared.uses {
        Some(names) => Uses::declared(names)?,
        None => found_uses.clone(),
    };
    // What it declares goes before what its sources look like.
    if uses != found_uses || declared.world != found_world {
        started = start(&sources, &uses, declared.world).await?;
    }
    let is_typescript = file.extension().is_some_and(|ending| ending == "ts" || ending == "mts");
    let about = About {
        name,
        world: declared.world,
        group: &declared.group,
        topics: &declared.topics,
        types: &declared.types,
        publishes: &declared.publishes,
        http: &declared.http,
        uses: uses.names().collect(),
        language: if is_typescript { "typescript" } else { "javascript" },
    };
    Ok(link::with_section(&started.component, ABOUT_SECTION, &serde_json::to_vec(&about)?))
}

async fn start(sources: &Sources, uses: &Uses, world: World) -> anyhow::Result<snapshot::Started> {
    let linked = link::link(uses, world)?;
    let sources = Arc::new(sources.clone().with_sdk(uses, world));
    snapshot::start(&linked, &sources, world).await.context("the module of the handler cannot be loaded")
}

/// What the handler declares, which the SDK logs while the script starts.
fn declared(logged: &[String]) -> anyhow::Result<Declared> {
    let Some(text) = logged.iter().find_map(|line| line.strip_prefix(DECLARED_PREFIX)) else {
        bail!(
            "the module exports no handler: write `export default handler({{ group, topics }}, (event, ctx) => {{ .. }})`"
        );
    };
    serde_json::from_str(text).context("the handler's description is not as expected")
}

#[cfg(test)]
mod tests;
