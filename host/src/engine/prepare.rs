//! Makes a component ready to be called: compiled or taken from the cache, linked
//! to its imports, and its exports checked for their types. Everything that a
//! call needs is looked up here, once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};

use super::artefacts::Artefacts;
use super::builtin::shown_version;
use super::clock::{Ticker, TickerHandle};
use super::compile::{CompileFailure, compile};
use super::component::{Inspection, RefusedUpload, World, inspect};
use super::contract;
use super::guest::Guest;
use super::imports;
use super::limits::{
    Allocation, MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_TABLES, MEMORIES_PER_SLOT, POOL_MEMORY, TABLES_PER_SLOT, config,
};
use super::slots::SlotPool;
use super::state_reads::StateReads;

/// The settings of the engine.
#[derive(Clone)]
pub struct EngineSettings {
    /// The program that compiles when run as `<compiler> compile-component`; `None`
    /// compiles in this process, without limits, which suits tests only.
    pub compiler: Option<PathBuf>,
    /// The directory that keeps machine code over restarts.
    pub cache_dir: Option<PathBuf>,
    /// The key by which those files are authenticated.
    pub cache_key: [u8; 32],
    /// Instances that may live at once, in the pool and as many outside of it;
    /// [`Capacity`](super::Capacity) computes how many this machine can hold.
    pub slots: u32,
}

/// The engine could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the WebAssembly engine: {0}")]
pub struct EngineError(String);

/// A component could not be prepared.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PrepareError {
    /// The component's fault, for the person who uploaded it.
    #[error(transparent)]
    Refused(#[from] RefusedUpload),
    /// The host's fault, for its operator; a later try may succeed.
    #[error("the component cannot be prepared now: {0}")]
    Host(String),
}

/// Compiles and runs components. Clones share everything.
#[derive(Clone)]
pub struct Engine(Arc<EngineParts>);

struct EngineParts {
    compiler: Option<PathBuf>,
    artefacts: Option<Artefacts>,
    pool: Allocator,
    roomy: Allocator,
    ticker: Ticker,
    /// The reads of state that run now.
    state_reads: StateReads,
    /// One compilation at a time, so that uploads cannot take all processors.
    compiling: Semaphore,
    /// The prepared components in use, by digest.
    prepared: Mutex<HashMap<String, Weak<Prepared>>>,
}

/// A wasmtime engine with one way to allocate instances, its linker and its slots.
struct Allocator {
    engine: wasmtime::Engine,
    linker: Linker<Guest>,
    /// The slots of its instances.
    slots: SlotPool,
}

/// A component that is ready to be called.
pub struct Prepared {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The version to show for it ([`shown_version`]), shared by all its attempts.
    pub version: Arc<str>,
    /// The world it exports.
    pub world: World,
    /// Linked for the pool; `None` when the component's shape does not fit a slot.
    pooled: Option<LinkedComponent>,
    /// Linked for bindings that allow more memory than a slot has; made at the first
    /// call of such a binding.
    roomy: OnceCell<LinkedComponent>,
}

#[cfg(test)]
impl Engine {
    /// Keeps everything from being compiled.
    pub(crate) async fn occupy_compiler(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.0.compiling.acquire().await.unwrap()
    }
}

#[cfg(test)]
impl Prepared {
    /// A version that is linked for nothing and cannot run, for tests that run none.
    pub(crate) fn unlinked(digest: &str, world: World) -> Self {
        Self {
            digest: digest.to_owned(),
            version: shown_version(digest).into(),
            world,
            pooled: None,
            roomy: OnceCell::new(),
        }
    }
}

/// A component linked for one allocator, from which instances are made.
#[derive(Clone)]
pub(super) struct LinkedComponent {
    pub(super) pre: InstancePre<Guest>,
    /// The index of the handler among the exports; its type is that of `contract`.
    pub(super) handler: ComponentExportIndex,
    /// The version of the contract by which the handler is called.
    pub(super) contract: contract::ContractVersion,
    /// The slots of one instance.
    pub(super) weight: u32,
}

impl Engine {
    /// Sets up an engine: reserves the pool and starts the ticker.
    pub fn new(settings: EngineSettings) -> Result<Self, EngineError> {
        let failed = |error: wasmtime::Error| EngineError(format!("{error:#}"));
        let pool = Allocator::new(Allocation::Pool(settings.slots), settings.slots).map_err(failed)?;
        let roomy = Allocator::new(Allocation::OnDemand, settings.slots).map_err(failed)?;
        let ticker = Ticker::start(vec![pool.engine.weak(), roomy.engine.weak()])
            .map_err(|error| EngineError(format!("no thread for the ticker: {error}")))?;
        // Without the cache a restart compiles again; everything else works.
        let artefacts = settings.cache_dir.as_deref().and_then(|dir| {
            Artefacts::open(dir, &pool.engine, settings.cache_key)
                .inspect_err(|error| {
                    tracing::warn!(dir = %dir.display(), %error, "ignored the cache directory: components are compiled at each start");
                })
                .ok()
        });
        Ok(Self(Arc::new(EngineParts {
            compiler: settings.compiler,
            artefacts,
            pool,
            roomy,
            ticker,
            state_reads: StateReads::default(),
            compiling: Semaphore::new(1),
            prepared: Mutex::default(),
        })))
    }

    /// Inspects a component, as [`inspect`] does, on a blocking thread.
    ///
    /// # Errors
    /// Why it is refused, or that the host is stopping.
    pub async fn inspect(wasm: Bytes) -> Result<Inspection, PrepareError> {
        Ok(blocking(move || inspect(&wasm)).await??)
    }

    /// Makes a component ready to be called, or returns the one that is in use
    /// already.
    ///
    /// # Errors
    /// Why it is refused, or what this host lacks.
    pub async fn prepare(&self, wasm: Bytes) -> Result<Arc<Prepared>, PrepareError> {
        let inspection = Self::inspect(wasm.clone()).await?;
        let digest = inspection.digest;
        if let Some(prepared) = self.find(&digest) {
            return Ok(prepared);
        }
        let _turn = self.0.compiling.acquire().await;
        // Another task may have prepared it while this one waited.
        if let Some(prepared) = self.find(&digest) {
            return Ok(prepared);
        }
        let prepared = Arc::new(self.load_or_compile(wasm, digest.clone(), inspection.world).await?);
        let mut known = self.0.prepared.lock();
        known.retain(|_, prepared| prepared.strong_count() > 0);
        known.insert(digest, Arc::downgrade(&prepared));
        Ok(prepared)
    }

    fn find(&self, digest: &str) -> Option<Arc<Prepared>> {
        let known = self.0.prepared.lock();
        known.get(digest).and_then(Weak::upgrade)
    }

    async fn load_or_compile(&self, wasm: Bytes, digest: String, world: World) -> Result<Prepared, PrepareError> {
        if let Some(artefacts) = self.0.artefacts.clone() {
            let kept = blocking({
                let digest = digest.clone();
                move || artefacts.load(&digest)
            })
            .await?;
            if let Some(artefact) = kept {
                match self.load(artefact, &digest, world).await {
                    Err(PrepareError::Host(error)) => {
                        tracing::warn!(%digest, %error, "failed to load a cached artefact: compiling again");
                    }
                    loaded => return loaded,
                }
            }
        }
        let artefact = match compile(self.0.compiler.as_deref(), wasm).await {
            Ok(artefact) => artefact,
            Err(CompileFailure::Refused(why)) => return Err(PrepareError::Refused(RefusedUpload(why))),
            Err(CompileFailure::Host(why)) => return Err(PrepareError::Host(why)),
        };
        if let Some(artefacts) = self.0.artefacts.clone() {
            let (digest, artefact) = (digest.clone(), artefact.clone());
            blocking(move || artefacts.keep(&digest, &artefact)).await?;
        }
        self.load(artefact, &digest, world).await
    }

    async fn load(&self, artefact: Vec<u8>, digest: &str, world: World) -> Result<Prepared, PrepareError> {
        let (inner, digest) = (Arc::clone(&self.0), digest.to_owned());
        blocking(move || {
            // A component that does not fit a slot of the pool still runs, outside of it.
            let (pooled, roomy) = match inner.pool.deserialize(&artefact) {
                Ok(component) => (Some(inner.pool.link(&component, world)?), OnceCell::new()),
                Err(unfit) => {
                    let component = inner
                        .roomy
                        .deserialize(&artefact)
                        .map_err(|_| PrepareError::Host(format!("its machine code does not load: {unfit:#}")))?;
                    check_size(&component, &unfit)?;
                    (None, OnceCell::new_with(Some(inner.roomy.link(&component, world)?)))
                }
            };
            let version = shown_version(&digest).into();
            Ok(Prepared { digest, version, world, pooled, roomy })
        })
        .await?
    }

    /// The linked component for a binding that allows this much memory.
    pub(super) async fn entry<'p>(
        &self,
        prepared: &'p Prepared,
        memory: u64,
    ) -> Result<&'p LinkedComponent, PrepareError> {
        if let Some(pooled) = prepared.pooled.as_ref().filter(|_| memory <= POOL_MEMORY as u64) {
            return Ok(pooled);
        }
        prepared
            .roomy
            .get_or_try_init(|| async {
                let Some(pooled) = prepared.pooled.clone() else {
                    return Err(PrepareError::Host("the component is linked for no allocator".into()));
                };
                let (inner, world) = (Arc::clone(&self.0), prepared.world);
                blocking(move || {
                    let host = |error: wasmtime::Error| PrepareError::Host(format!("{error:#}"));
                    let artefact = pooled.pre.component().serialize().map_err(host)?;
                    let component = inner.roomy.deserialize(&artefact).map_err(host)?;
                    inner.roomy.link(&component, world)
                })
                .await?
            })
            .await
    }

    /// The reads of state of all sandboxes.
    pub(super) fn state_reads(&self) -> &StateReads {
        &self.0.state_reads
    }

    /// The pool of slots that instances of this component take.
    pub(super) fn slots_of(&self, entry: &LinkedComponent) -> &SlotPool {
        let pooled = wasmtime::Engine::same(entry.engine(), &self.0.pool.engine);
        if pooled { &self.0.pool.slots } else { &self.0.roomy.slots }
    }

    /// The pool of slots that a binding of this much memory is expected to use.
    pub(super) fn slots_for(&self, memory: u64) -> &SlotPool {
        if memory <= POOL_MEMORY as u64 { &self.0.pool.slots } else { &self.0.roomy.slots }
    }

    /// A handle that counts the polls of a sandbox's guests.
    pub(super) fn pulse(&self) -> TickerHandle {
        self.0.ticker.pulse()
    }
}

impl Allocator {
    fn new(allocation: Allocation, slots: u32) -> wasmtime::Result<Self> {
        let engine = wasmtime::Engine::new(&config(allocation))?;
        let mut linker = Linker::new(&engine);
        imports::link(&mut linker)?;
        Ok(Self { engine, linker, slots: SlotPool::new(slots) })
    }

    fn deserialize(&self, artefact: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: `deserialize` trusts its input as code. `artefact` was written by
        // our own compiler (`compile`), directly or through the cache, whose files
        // only this user may write and which carry their digest; `inspect` refuses
        // precompiled uploads, so that they never come here.
        unsafe { Component::deserialize(&self.engine, artefact) }
    }

    fn link(&self, component: &Component, world: World) -> Result<LinkedComponent, PrepareError> {
        let refused =
            |what: &str, error: wasmtime::Error| PrepareError::Refused(RefusedUpload(format!("{what}: {error:#}")));
        let pre = self
            .linker
            .instantiate_pre(component)
            .map_err(|error| refused("its imports are not what this host offers", error))?;
        let (handler, contract) = find_handler(&pre, world)
            .map_err(|error| refused("its handler has another type than the contract", error))?;
        Ok(LinkedComponent { pre, handler, contract, weight: weight(component) })
    }
}

/// The slots of an instance of the component.
fn weight(component: &Component) -> u32 {
    let needed = component.resources_required();
    let (memories, tables) = needed.map_or((0, 0), |needed| (needed.num_memories, needed.num_tables));
    memories.div_ceil(MEMORIES_PER_SLOT).max(tables.div_ceil(TABLES_PER_SLOT)).max(1)
}

/// Refuses a component of which no instance could ever be made, since it has more
/// parts than the host allows. `unfit` is the pool's error.
fn check_size(component: &Component, unfit: &wasmtime::Error) -> Result<(), PrepareError> {
    let refused = |what: String| Err(PrepareError::Refused(RefusedUpload(what)));
    let Some(needed) = component.resources_required() else {
        return refused("it imports a core module, which this host does not offer".into());
    };
    if needed.num_memories > MAX_MEMORIES {
        let memories = needed.num_memories;
        return refused(format!("it has {memories} memories, the limit for a component is {MAX_MEMORIES}"));
    }
    if needed.num_tables > MAX_TABLES {
        return refused(format!("it has {} tables, the limit for a component is {MAX_TABLES}", needed.num_tables));
    }
    // Only the pool's own text names the number of instances.
    let unfit = format!("{unfit:#}");
    if unfit.contains("core module instances") {
        return refused(format!("it consists of more than {MAX_CORE_INSTANCES} core instances: {unfit}"));
    }
    Ok(())
}

impl LinkedComponent {
    pub(super) fn engine(&self) -> &wasmtime::Engine {
        self.pre.engine()
    }
}

/// Finds the handler and, by its type, the version of the contract, so that an
/// upload of a wrong type is refused at once and not at its first call.
fn find_handler(
    pre: &InstancePre<Guest>,
    world: World,
) -> wasmtime::Result<(ComponentExportIndex, contract::ContractVersion)> {
    let name = match world {
        World::Handler => "handle",
        World::BatchHandler => "handle-batch",
    };
    let component = pre.component();
    let Some((ComponentItem::ComponentFunc(function), index)) = component.get_export(None, name) else {
        wasmtime::bail!("it exports no function `{name}`");
    };
    let imports_first = component
        .component_type()
        .imports(component.engine())
        .any(|(name, _)| name.starts_with(imports::PACKAGE) && name.contains(imports::FIRST_VERSION));
    let version = contract::ContractVersion::of(&function, pre, world, imports_first)?;
    Ok((index, version))
}

/// Runs slow work on a blocking thread. All of it reads an uploaded component, so
/// a panic is the component's fault.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PrepareError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        if error.is_panic() {
            PrepareError::Refused(RefusedUpload(
                "the host cannot read it, which is a fault of the host's own reader".into(),
            ))
        } else {
            PrepareError::Host(format!("the host is stopping: {error}"))
        }
    })
}
