//! The data of an instance's wasmtime store, and the store itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi_http::WasiHttpCtx;

use super::clock::{CpuExceeded, HeldBack, Meter};
use super::handler_log::SharedLog;
use super::http::HttpGate;
use super::limits::{Ceiling, MAX_HANDLES, MAX_HOST_CALL_BYTES, MAX_HTTP_HEADER_BYTES, may_hold};
use super::node_cache::NodeCache;
use super::state_quota::StateHeld;
use super::state_reads::GroupState;
use super::{Brake, Outgoing, Policy};

/// The state that the imports of an instance work on.
pub(super) struct Guest {
    pub(super) policy: Arc<Policy>,
    pub(super) cache: NodeCache,
    pub(super) state: GroupState,
    pub(super) brake: Arc<dyn Brake>,
    pub(super) log: SharedLog,
    pub(super) ceiling: Ceiling,
    pub(super) meter: Arc<Meter>,
    /// The effects of the current call, one entry for each item of a batch.
    pub(super) effects: Vec<Effects>,
    /// Bytes of all effects of the current call.
    pub(super) output: usize,
    /// Messages that the current call published, over all its items.
    pub(super) emitted: usize,
    /// State that the current call wrote, over all its items.
    pub(super) kept: StateHeld,
    /// Made at the guest's first call of WASI: most calls use none, and seeding its
    /// random generators costs more than the rest of a store.
    pub(super) wasi: Option<WasiCtx>,
    /// The state of the HTTP requests of the current call.
    pub(super) http: HttpGate,
    pub(super) http_ctx: WasiHttpCtx,
    pub(super) table: ResourceTable,
}

/// The effects of an attempt, which are kept when it succeeds.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) emissions: Vec<Outgoing>,
    pub(super) state_writes: BTreeMap<String, Option<Bytes>>,
}

/// Ticks between two interruptions of a guest.
const TICKS_PER_TURN: u64 = 1;

impl Guest {
    /// A store for one instance, with every limit in place.
    pub(super) fn store(
        engine: &wasmtime::Engine,
        policy: Arc<Policy>,
        cache: NodeCache,
        state: GroupState,
        brake: Arc<dyn Brake>,
        log: SharedLog,
        meter: Arc<Meter>,
    ) -> Store<Self> {
        let ceiling = Ceiling::new(policy.memory);
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        let mut http_ctx = WasiHttpCtx::new();
        http_ctx.set_field_size_limit(MAX_HTTP_HEADER_BYTES);
        let guest = Self {
            http: HttpGate::new(Arc::clone(&policy), log.clone()),
            http_ctx,
            policy,
            cache,
            state,
            brake,
            log,
            ceiling,
            meter,
            effects: Vec::new(),
            output: 0,
            emitted: 0,
            kept: StateHeld::default(),
            wasi: None,
            table,
        };
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| &mut guest.ceiling);
        store.set_hostcall_fuel(MAX_HOST_CALL_BYTES);
        store.set_max_component_handles(MAX_HANDLES);
        store.epoch_deadline_callback(|store| {
            let guest = store.data();
            if guest.meter.burned_now() > guest.policy.cpu {
                return Err(wasmtime::Error::new(CpuExceeded));
            }
            let burned = guest.meter.tell();
            let may_hold = may_hold(guest.policy.timeout, guest.meter.held());
            let free = burned.more.is_zero() || may_hold.is_zero();
            let wait = if free { None } else { Arc::clone(&guest.brake).burned(burned) };
            let meter = Arc::clone(&guest.meter);
            Ok(UpdateDeadline::YieldCustom(
                TICKS_PER_TURN,
                Box::pin(async move {
                    // Tokio's own yield lets the worker serve timers and I/O before it comes
                    // back; waking the task here would not.
                    tokio::task::yield_now().await;
                    if let Some(wait) = wait {
                        let _held = HeldBack::from_now(meter);
                        // Bounded: a guest that is throttled for ever would keep its lane and its
                        // sandbox for ever.
                        let _ = tokio::time::timeout(may_hold, wait).await;
                    }
                }),
            ))
        });
        store
    }

    /// Prepares the store for a call of this many items.
    pub(super) fn begin(store: &mut Store<Self>, items: usize) {
        store.set_epoch_deadline(TICKS_PER_TURN);
        let guest = store.data_mut();
        guest.effects.clear();
        guest.effects.resize_with(items, Effects::default);
        guest.output = 0;
        guest.emitted = 0;
        guest.kept = StateHeld::default();
        guest.ceiling.refused = false;
    }
}
