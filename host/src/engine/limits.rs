//! Every bound of the engine, and the wasmtime configuration that follows.
//!
//! [`Policy`](super::Policy) has the bounds that a binding sets; the bounds here
//! are the host's, which no binding can raise.

use std::num::NonZeroU32;
use std::time::Duration;

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, ResourceLimiter};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Bytes of a component that may be uploaded. One with a Python runtime in it
/// has 18 MiB before any package is added.
pub const MAX_UPLOAD_BYTES: usize = 40 * MIB;

/// Bytes of logs a second, on average, that the attempts of a group may store on
/// one node.
pub const LOG_BYTES_A_SECOND: NonZeroU32 = NonZeroU32::new(MIB as u32).unwrap();

/// Bytes of logs that a group may store at once.
pub const LOG_BURST_BYTES: NonZeroU32 = NonZeroU32::new(8 * MIB as u32).unwrap();

/// Bytes of a log that are stored even when the group's budget is used up.
pub const LOG_KEPT_BYTES: usize = KIB;

/// Bytes of the section in which a handler declares its topics, group and types.
pub const MAX_WANTS_BYTES: usize = 64 * KIB;
/// Components within components of an upload. Tools make two or three layers.
pub(super) const MAX_NESTING: u32 = 100;

/// CPU seconds that a compilation of the smallest component may use on all its
/// threads. It ends a compilation that would not end by itself.
pub const COMPILE_CPU_SECONDS: u64 = 20;

/// CPU seconds on top for each MiB of the component. A Python runtime of 18 MiB
/// uses under 20 s in all, and twice that on shared processors.
pub const COMPILE_CPU_SECONDS_PER_MIB: u64 = 1;

/// Wall time of a compilation before its process is killed. It ends a child that
/// hangs without using CPU time, and is far above the CPU limit, since on a busy
/// host a sound component may wait for the processors.
pub const COMPILE_WALL: Duration = Duration::from_secs(5 * 60);

/// Threads of a compilation. Each reserves address space for its heap and its
/// stack, so that on a machine of many cores one thread for each core would use
/// up [`COMPILE_ADDRESS_SPACE`].
pub const COMPILE_THREADS: usize = 8;

/// Bytes of address space a compilation may use.
pub const COMPILE_ADDRESS_SPACE: u64 = 4 * 1024 * MIB as u64;

/// Bytes of machine code a compilation may hand back.
pub const MAX_ARTEFACT_BYTES: usize = 512 * MIB;

/// Artefacts kept on disk; beyond it the oldest are removed.
pub const MAX_ARTEFACTS: usize = 256;

/// Bytes of a compiler's error message that are shown.
pub const MAX_COMPLAINT_BYTES: usize = 2 * KIB;

/// The interval at which busy guests are interrupted. It bounds how long a guest
/// can keep a worker thread, and how exactly a CPU limit is kept; at 1 ms the
/// interruptions cost a busy guest less than 1 %.
pub const TICK: Duration = Duration::from_millis(1);

/// Ticks without a guest running after which the ticker goes to sleep.
pub const IDLE_TICKS: u32 = 1_000;

/// The least slots of the pool: a reload may need more than the bindings at the
/// start, and the pool cannot grow.
pub const MIN_SLOTS: u32 = 1_024;

/// The most slots of the pool. Each reserves address space for
/// [`MEMORIES_PER_SLOT`] memories, and a process has 128 TiB of it.
pub const MAX_SLOTS: u32 = 12_000;

/// Memories that a slot has room for. An instance of more takes several slots;
/// most languages make components of one memory.
pub const MEMORIES_PER_SLOT: u32 = 2;
/// Tables that a slot has room for; an instance of more takes several slots.
pub const TABLES_PER_SLOT: u32 = 4;

/// When the pool is too small for all groups, one slot in this many is reserved
/// for no group.
pub const UNRESERVED_PART: u32 = 2;

/// Mappings of address space (`vm.max_map_count`) of an instance in a slot: its
/// stack with a guard, and its memories with the inaccessible pages around them.
pub const MAPPINGS_PER_SLOT: u64 = 8;

/// Bytes of memory of the smallest waiting instance. The pool has at most as many
/// slots as fit into half of the machine's memory.
pub const LEAST_BYTES_PER_SLOT: u64 = 256 * KIB as u64;

/// How long an attempt waits for a slot before it ends as `no_room`, so that a
/// short shortage leaves no trace on a delivery.
pub const WAIT_FOR_ROOM: Duration = Duration::from_secs(1);

/// How long a call may be throttled in all, in multiples of its `timeout`. After
/// that it runs unthrottled, within its `timeout` and `cpu`.
pub const MAX_HELD_TIMEOUTS: u32 = 10;

/// How long a call of this `timeout` may be throttled further, after it was `held`.
#[must_use]
pub fn may_hold(timeout: Duration, held: Duration) -> Duration {
    (timeout * MAX_HELD_TIMEOUTS).saturating_sub(held)
}

/// Bytes of linear memory of a slot. A binding that allows more runs outside the
/// pool, where each instance maps its own memory and unmaps it at its end.
pub const POOL_MEMORY: usize = 256 * MIB;

/// Bytes of each memory slot that stay resident between two instances, so that a
/// fresh instance of the same handler finds warm pages. Only pages that the last
/// instance wrote are reset; the kernel's page map tells which.
pub const POOL_KEEP_RESIDENT: usize = 2 * MIB;

/// Bytes of each table that stay resident between two instances.
pub const POOL_TABLE_KEEP_RESIDENT: usize = 64 * KIB;

/// Core instances that one component may consist of.
pub const MAX_CORE_INSTANCES: u32 = 64;

/// Memories of one component, in all its instances together. Components made
/// from JavaScript have two to four. Their bytes count together against the
/// `memory` of the binding.
pub const MAX_MEMORIES: u32 = 8;

/// Tables that one component may have.
pub const MAX_TABLES: u32 = 32;

/// Elements that one table may hold.
pub const MAX_TABLE_ELEMENTS: usize = 20_000;

/// Handles to resources that an instance may hold at once. A kept guest that leaks
/// them traps when this is reached, and is replaced.
pub const MAX_HANDLES: usize = 1_024;

/// Bytes that a guest may hand to the host in one import call.
pub const MAX_HOST_CALL_BYTES: usize = 16 * MIB;

/// Bytes of native stack that a guest may use.
pub const GUEST_STACK: usize = 512 * KIB;

/// Bytes of the stack that a call runs on: [`GUEST_STACK`], and the stack of the
/// host functions that it calls.
pub const CALL_STACK: usize = GUEST_STACK + 512 * KIB;

/// Random bytes that one call of `wasi:random` may ask for.
pub const MAX_RANDOM_BYTES: u64 = MIB as u64;

/// HTTP requests that one call may make.
pub const MAX_HTTP_REQUESTS_PER_CALL: u32 = 100;

/// HTTP requests of a binding in flight on this node, including those whose
/// answer is not yet read to its end. A binding of more `concurrency` may have
/// one for each attempt.
pub const MAX_HTTP_IN_FLIGHT: usize = 1_000;

/// Bytes of the headers of a request, and of the headers of an answer.
pub const MAX_HTTP_HEADER_BYTES: usize = 64 * KIB;

/// Headers of an answer.
pub const MAX_HTTP_HEADERS: usize = 200;

/// Bytes of an HTTP request's body that the host buffers, so that it has a
/// content length. A longer body is streamed.
pub const MAX_HTTP_WHOLE_BYTES: usize = 4 * MIB;

/// Bytes of an HTTP request's body that any request may have in the host's memory, and of
/// each piece that a guest hands over.
pub const HTTP_PIECE_BYTES: usize = 64 * KIB;

/// Bytes that the bodies of a binding's HTTP requests may have in the host's memory on this
/// node beyond [`HTTP_PIECE_BYTES`] each. They are not the guest's memory, and one call may
/// have a hundred requests open. A binding of more `concurrency` may have one whole body
/// for each attempt.
pub const MAX_HTTP_BODIES_BYTES: usize = 16 * MIB;

/// Bytes of the body of an HTTP request.
pub const MAX_HTTP_REQUEST_BYTES: usize = 64 * MIB;

/// Bytes of the body of an HTTP answer, which the guest reads in pieces.
pub const MAX_HTTP_RESPONSE_BYTES: usize = 64 * MIB;

/// Time to make an HTTP connection, including DNS and TLS. A guest may ask for
/// less, and has less where the attempt ends soon: half of the time that it has left,
/// and three quarters of the wait for the head of the answer.
pub const HTTP_CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Time to wait for the head of an HTTP answer. The binding's `timeout` ends the
/// attempt in any case.
pub const HTTP_FIRST_BYTE_WITHIN: Duration = Duration::from_secs(60);

/// Time that an HTTP answer may be silent before the request fails. Not below the
/// wait for its head, which is a silence too.
pub const HTTP_READ_WITHIN: Duration = HTTP_FIRST_BYTE_WITHIN;

/// How long an idle HTTP connection is kept. Node.js servers close theirs after
/// 5 s by default: a request written while the server closes fails, and nobody
/// knows whether the server read it.
pub const HTTP_IDLE_WITHIN: Duration = Duration::from_secs(4);

/// Messages that one call may publish, over all items of a batch. Thousands of
/// empty messages would fit into a call's bytes, and each is a row that the host
/// has to send.
pub const MAX_EMISSIONS_PER_CALL: usize = 1_000;

/// Bytes of the reason of an attempt; a longer one is cut.
pub const MAX_REASON_BYTES: usize = 4 * KIB;

/// Bytes of standard error and logged errors that are searched for a panic
/// message.
pub const PANIC_TAIL_BYTES: usize = 4 * KIB;

/// Frames of a trap's backtrace that its reason names.
pub const TRAP_FRAMES: usize = 3;

/// Bytes of a key of state or cache.
pub const MAX_KEY_BYTES: usize = 512;

/// Bytes of one value of state or cache.
pub const MAX_VALUE_BYTES: usize = 512 * KIB;

/// Bytes that each effect counts against a call's output besides its own, so that
/// the number of empty effects is bounded too.
pub const EFFECT_OVERHEAD_BYTES: usize = 64;

/// Bytes of a topic's name (Kafka's own limit).
pub const MAX_TOPIC_BYTES: usize = 249;

/// How an engine allocates instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allocation {
    /// From a pool of this many instances, prepared ahead.
    Pool(u32),
    /// Mapped for each instance.
    OnDemand,
}

/// The configuration of wasmtime. Every setting that shapes machine code is the
/// same for each [`Allocation`], so that one artefact serves both.
pub(super) fn config(allocation: Allocation) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // Off: the concurrent component model is not offered, and its bookkeeping
        // would cost each call time.
        .concurrency_support(false)
        .wasm_memory64(false)
        // On: JavaScript and Python tools make components with adapters between
        // their own instances, whose modules use several memories.
        .wasm_multi_memory(true)
        .wasm_custom_page_sizes(false)
        .shared_memory(false)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(CALL_STACK)
        .memory_init_cow(true);
    if let Allocation::Pool(slots) = allocation {
        let slots = slots.max(1);
        let mut pool = PoolingAllocationConfig::new();
        // A stack serves one call, and so does a component instance. `slots` counts
        // memories and tables; core instances need no count, since they take no room
        // of their own.
        pool.total_component_instances(slots)
            .total_stacks(slots)
            .total_core_instances(slots.saturating_mul(MAX_CORE_INSTANCES))
            .total_memories(slots.saturating_mul(MEMORIES_PER_SLOT).max(MAX_MEMORIES))
            .total_tables(slots.saturating_mul(TABLES_PER_SLOT).max(MAX_TABLES))
            .max_core_instances_per_component(MAX_CORE_INSTANCES)
            .max_memories_per_component(MAX_MEMORIES)
            .max_tables_per_component(MAX_TABLES)
            .max_tables_per_module(MAX_TABLES)
            .table_elements(MAX_TABLE_ELEMENTS)
            .max_memory_size(POOL_MEMORY)
            .linear_memory_keep_resident(POOL_KEEP_RESIDENT)
            .table_keep_resident(POOL_TABLE_KEEP_RESIDENT)
            .max_unused_warm_slots(slots)
            .pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// Keeps an instance within its binding's `memory` and the host's bounds.
#[derive(Debug)]
pub(super) struct Ceiling {
    memory: usize,
    /// Bytes of all memories of the store.
    held: usize,
    /// Whether memory was refused, which explains a trap that follows.
    pub(super) refused: bool,
}

impl Ceiling {
    pub(super) fn new(memory: u64) -> Self {
        Self { memory: usize::try_from(memory).unwrap_or(usize::MAX), held: 0, refused: false }
    }
}

impl ResourceLimiter for Ceiling {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let held = self.held.saturating_add(desired.saturating_sub(current));
        if held > self.memory {
            self.refused = true;
            return Ok(false);
        }
        self.held = held;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // The module's own maximum or the system refused it; for the guest that is a
        // refusal too. The bytes stay counted, in favour of the host.
        self.refused = true;
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        MAX_CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        MAX_TABLES as usize
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES as usize
    }
}
