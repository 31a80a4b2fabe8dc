//! Starts the script of a linked component once and keeps what that leaves in
//! memory: an instance of the component then begins with its modules evaluated.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use parking_lot::Mutex;
use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{Component, Instance, Lift, Linker, ResourceTable, ResourceType, Val, WasmList};
use wasmtime::{Config, Engine, EngineWeak, Store, StoreLimits, StoreLimitsBuilder, Trap};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, IoError};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

use super::loader::{self, LOADER_INTERFACE};
use super::sources::Sources;
use super::world::World;

const LOG_INTERFACE: &str = "courier:plugin/log@2.0.0";
/// What the runtime may print while it starts; only its last words matter.
const MAX_PRINTED_BYTES: usize = 64 * 1024;

/// Memory that a script may have when it has started: each instance begins with
/// it, and a host gives a handler less.
const MAX_MEMORY_BYTES: usize = 256 * 1024 * 1024;

/// Time that a script may take to start: one that loops would never end.
const MAX_START: Duration = Duration::from_secs(15);
/// What the runtime says before the message of an error in a module.
const PREFIXES: [&str; 2] =
    ["Failed to evaluate user JavaScript module: ", "Failed to finish JavaScript module evaluation: "];

/// A component that has started, and what its script logged meanwhile.
pub(super) struct Started {
    pub(super) component: Vec<u8>,
    pub(super) logged: Vec<String>,
}

struct Host {
    wasi: WasiCtx,
    table: ResourceTable,
    limits: StoreLimits,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Runs the entry of `sources` in the linked component.
pub(super) async fn start(linked: &[u8], sources: &Arc<Sources>, world: World) -> anyhow::Result<Started> {
    let printed = MemoryOutputPipe::new(MAX_PRINTED_BYTES);
    let wasi = WasiCtx::builder().stdout(printed.clone()).stderr(printed.clone()).build();
    let limits = StoreLimitsBuilder::new().memory_size(MAX_MEMORY_BYTES).build();
    let mut config = Config::new();
    config.epoch_interruption(true);
    let engine = Engine::new(&config).map_err(ours)?;
    let mut store = Store::new(&engine, Host { wasi, table: ResourceTable::new(), limits });
    store.limiter(|host| &mut host.limits);
    store.set_epoch_deadline(1);
    let wizer = Wizer::new();
    let (context, instrumented) = wizer.instrument_component(linked).map_err(ours)?;
    let component = Component::new(&engine, &instrumented).map_err(ours)?;

    let logged = Arc::new(Mutex::new(Vec::new()));
    let linker = linker(&engine, &component, sources, &logged).map_err(ours)?;
    let instance = linker.instantiate_async(&mut store, &component).await.map_err(ours)?;
    let init = instance
        .get_typed_func::<(&str, &str, Option<&str>, bool), (Result<(), String>,)>(&mut store, "init")
        .map_err(ours)?;
    let entry = Some(Sources::ENTRY);
    end_after(engine.weak(), MAX_START);
    let started =
        init.call_async(&mut store, ("globalThis.wit = {};", Sources::entry(world).as_str(), entry, false)).await;
    match started {
        Ok((Ok(()),)) => {}
        Ok((Err(why),)) => {
            let why = PREFIXES.iter().fold(why.trim(), |why, prefix| why.strip_prefix(prefix).unwrap_or(why));
            bail!("{why}")
        }
        Err(trap) if matches!(trap.downcast_ref(), Some(Trap::Interrupt)) => {
            bail!(
                "it does not finish loading within {} s: is there an endless loop outside the handler?",
                MAX_START.as_secs()
            )
        }
        Err(trap) => {
            let printed = String::from_utf8_lossy(&printed.contents()).trim().to_owned();
            bail!("{} {printed}", trap.root_cause());
        }
    }
    let snapshot =
        wizer.snapshot_component(&context, &mut Running { store: &mut store, instance }).await.map_err(ours)?;
    let logged = std::mem::take(&mut *logged.lock());
    Ok(Started { component: loader::close(&snapshot)?, logged })
}

fn ours(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:#}")
}

/// Interrupts what runs in the engine after so long.
fn end_after(engine: EngineWeak, time: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(time);
        if let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
        }
    });
}

fn linker(
    engine: &Engine,
    component: &Component,
    sources: &Arc<Sources>,
    logged: &Arc<Mutex<Vec<String>>>,
) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    linker.allow_shadowing(true);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    for (name, import) in component.component_type().imports(engine) {
        if let ComponentItem::ComponentInstance(interface) = import.ty
            && (name.starts_with("courier:") || name.starts_with("wasi:http/"))
        {
            stub(&mut linker, engine, name, &interface)?;
        }
    }
    let mut loader = linker.instance(LOADER_INTERFACE)?;
    let known = Arc::clone(sources);
    loader.func_wrap("resolve", move |_, (referrer, specifier): (String, String)| {
        Ok((known.resolve(&referrer, &specifier).map(str::to_owned),))
    })?;
    let known = Arc::clone(sources);
    loader.func_wrap("load", move |_, (name,): (String,)| Ok((known.load(&name).map(str::to_owned),)))?;
    let logged = Arc::clone(logged);
    linker.instance(LOG_INTERFACE)?.func_new("log", move |_, _, arguments, _| {
        if let [_, Val::String(text)] = arguments {
            logged.lock().push(text.clone());
        }
        Ok(())
    })?;
    Ok(linker)
}

/// Defines an interface of the host's whose functions trap: a script that
/// publishes or asks for state while it loads ends there.
fn stub(linker: &mut Linker<Host>, engine: &Engine, name: &str, interface: &ComponentInstance) -> wasmtime::Result<()> {
    let mut stubs = linker.instance(name)?;
    for (export, item) in interface.exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(_) => {
                let words = format!("{name} is not there while the module loads: call it in the handler ({export})");
                stubs.func_new(export, move |_, _, _, _| Err(wasmtime::Error::msg(words.clone())))?;
            }
            ComponentItem::Resource(_) => stubs.resource(export, resource(export), |_, _| Ok(()))?,
            _ => {}
        }
    }
    Ok(())
}

/// The type of a resource that an interface exports: `wasi:http/types` exports
/// those of `wasi:io` under names of its own.
fn resource(name: &str) -> ResourceType {
    match name {
        "input-stream" => ResourceType::host::<DynInputStream>(),
        "output-stream" => ResourceType::host::<DynOutputStream>(),
        "pollable" => ResourceType::host::<DynPollable>(),
        "io-error" => ResourceType::host::<IoError>(),
        _ => ResourceType::host::<()>(),
    }
}

/// How the snapshot is read out of the running component.
struct Running<'a> {
    store: &'a mut Store<Host>,
    instance: Instance,
}

impl Running<'_> {
    async fn call<R: Lift + 'static, T>(
        &mut self,
        instance: &str,
        name: &str,
        read: impl FnOnce(&Store<Host>, R) -> T,
    ) -> T {
        const PRESENT: &str = "the instrumented component exports it";
        let (_, instance) = self.instance.get_export(&mut *self.store, None, instance).expect(PRESENT);
        let (_, function) = self.instance.get_export(&mut *self.store, Some(&instance), name).expect(PRESENT);
        let function = self.instance.get_typed_func::<(), (R,)>(&mut *self.store, function).expect(PRESENT);
        let (result,) = function.call_async(&mut *self.store, ()).await.expect("it only reads");
        read(self.store, result)
    }
}

impl ComponentInstanceState for Running<'_> {
    async fn call_func_ret_list_u8(&mut self, instance: &str, func: &str, contents: impl FnOnce(&[u8]) + Send) {
        self.call(instance, func, |store, list: WasmList<u8>| contents(list.as_le_slice(store))).await;
    }

    async fn call_func_ret_s32(&mut self, instance: &str, func: &str) -> i32 {
        self.call(instance, func, |_, value| value).await
    }

    async fn call_func_ret_s64(&mut self, instance: &str, func: &str) -> i64 {
        self.call(instance, func, |_, value| value).await
    }

    async fn call_func_ret_f32(&mut self, instance: &str, func: &str) -> u32 {
        self.call(instance, func, |_, value: f32| value.to_bits()).await
    }

    async fn call_func_ret_f64(&mut self, instance: &str, func: &str) -> u64 {
        self.call(instance, func, |_, value: f64| value.to_bits()).await
    }
}
