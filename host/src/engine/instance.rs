//! Runs calls in sandboxes: takes an instance, calls it with the message, and
//! turns the result into one [`Ended`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use courier_core::message::{Message, Timestamp};
use courier_core::verdict::Verdict;
use parking_lot::Mutex;
use wasmtime::Store;
use wasmtime::component::Func;

use super::clock::{Meter, Metered, TickerHandle, in_time};
use super::contract::{self, HandlerFailure};
use super::fault::{Fault, cut};
use super::guest::{Effects, Guest};
use super::handler_log::SharedLog;
use super::limits::WAIT_FOR_ROOM;
use super::log_budget::LogBudget;
use super::node_cache::NodeCache;
use super::prepare::{Engine, LinkedComponent, Prepared};
use super::redaction::Redaction;
use super::slots::{Idle, Seat, SlotPermit};
use super::state_reads::GroupState;
use super::{Brake, Call, Ended, Isolation, Policy, StateSource, World};
use crate::clock::{nanos, now};

/// Runs the calls of one binding, one at a time. It keeps an instance between
/// calls if the binding's isolation allows that.
pub struct Sandbox {
    setup: Setup,
    /// The idle instance. It is taken out during a call, so that an instance whose
    /// call did not return normally is never used again.
    kept: Arc<KeptSandbox>,
}

/// The idle instance between two calls. It is evicted when its slots are needed
/// elsewhere.
#[derive(Default)]
struct KeptSandbox {
    instance: Mutex<Option<Instance>>,
    /// The monotonic clock in nanoseconds when the instance was kept; 0 without one.
    since: AtomicU64,
}

impl KeptSandbox {
    fn put(&self, instance: Instance) {
        *self.instance.lock() = Some(instance);
        self.since.store(nanos(libc::CLOCK_MONOTONIC), Ordering::Relaxed);
    }

    fn take(&self) -> Option<Instance> {
        self.since.store(0, Ordering::Relaxed);
        self.instance.lock().take()
    }
}

impl Idle for KeptSandbox {
    fn since(&self) -> Option<u64> {
        Some(self.since.load(Ordering::Relaxed)).filter(|since| *since != 0)
    }

    fn evict(&self) {
        // A call that begins at this moment may have taken the instance.
        drop(self.take());
    }
}

/// The parts that all calls of a sandbox share.
struct Setup {
    engine: Engine,
    policy: Arc<Policy>,
    cache: NodeCache,
    state: GroupState,
    brake: Arc<dyn Brake>,
    log: SharedLog,
    /// Removes secrets from the handler's reasons.
    redaction: Arc<Redaction>,
    meter: Arc<Meter>,
    pulse: TickerHandle,
    /// The sandbox's seat in the pool, or outside of it when its binding allows more
    /// memory than a slot has.
    seat: Seat,
    /// Its seat outside of the pool when the component does not fit into a slot.
    other_seat: OnceLock<Seat>,
}

/// An instance and what is needed to call it.
struct Instance {
    /// The plugin version that it was made from.
    digest: String,
    store: Store<Guest>,
    handler: Func,
    /// The version of the contract that the handler has the type of.
    contract: contract::ContractVersion,
    world: World,
    calls: u32,
    /// Declared after the store, so that the slots are freed after the instance.
    _permit: SlotPermit,
}

/// What the guest returned for one item, and the effects it asked for.
type Returned = (Result<(), HandlerFailure>, Effects);

/// The result of one call of the guest: one result for each item, or a fault.
struct Run {
    results: Result<Vec<Returned>, Fault>,
    log: String,
    started_at: Timestamp,
    finished_at: Timestamp,
    cpu: Duration,
}

impl Sandbox {
    /// Makes a sandbox for a binding. The cache and the log budget are shared by the
    /// group on this node; the brake belongs to the worker.
    #[must_use]
    pub fn new(
        engine: Engine,
        policy: Arc<Policy>,
        cache: NodeCache,
        logs: LogBudget,
        state: Arc<dyn StateSource>,
        brake: Arc<dyn Brake>,
    ) -> Self {
        let redaction = Arc::new(Redaction::of(policy.secrets.values()));
        let log = SharedLog::new(policy.log, logs).without(Arc::clone(&redaction));
        let pulse = engine.pulse();
        let state = engine.state_reads().of(&policy.group, state);
        let kept = Arc::new(KeptSandbox::default());
        let seat = engine.slots_for(policy.memory).join(&policy.group, as_idle(&kept));
        let meter = Arc::default();
        let other_seat = OnceLock::new();
        Self {
            setup: Setup { engine, policy, cache, state, brake, log, redaction, meter, pulse, seat, other_seat },
            kept,
        }
    }

    /// Runs one call to its end. Dropping the future ends the attempt without
    /// effects; the sandbox stays usable.
    pub async fn run(&mut self, plugin: &Arc<Prepared>, call: Call<'_>) -> Ended {
        self.setup.meter.attempt();
        let ended = self.run_alone(plugin, &call).await;
        if self.setup.policy.isolation != Isolation::Instance {
            self.kept.take();
        }
        ended
    }

    /// Runs the calls of a batch; the results are in the order of the calls.
    ///
    /// A batch handler gets them in one call. When that traps, breaks a limit or
    /// returns a wrong number of outcomes, all its effects are dropped and each item
    /// runs alone, so that one bad message fails alone. A handler of one message
    /// gets them one after another, in one instance with [`Isolation::Batch`].
    pub async fn run_batch(&mut self, plugin: &Arc<Prepared>, calls: &[Call<'_>]) -> Vec<Ended> {
        self.setup.meter.attempt();
        let mut all = Vec::with_capacity(calls.len());
        if plugin.world == World::BatchHandler && calls.len() > 1 {
            let run = self.invoke(plugin, calls).await;
            match run.results {
                Ok(results) => {
                    let cpu = run.cpu / u32::try_from(calls.len()).unwrap_or(u32::MAX);
                    let (started_at, finished_at) = (run.started_at, run.finished_at);
                    for (result, effects) in results {
                        let ended = conclude(Ok((result, effects)), run.log.clone(), started_at, finished_at, cpu);
                        all.push(self.without_secrets(ended));
                    }
                }
                // Without a slot or an instance every item would end as the batch did, so the
                // items are not tried one by one.
                Err(fault) if fault.verdict.never_ran() => {
                    for _ in calls {
                        let (log, cpu) = (run.log.clone(), Duration::ZERO);
                        let ended = conclude(Err(fault.clone()), log, run.started_at, run.finished_at, cpu);
                        all.push(self.without_secrets(ended));
                    }
                }
                Err(_) => {}
            }
        }
        if all.is_empty() {
            for call in calls {
                if self.setup.policy.isolation == Isolation::Message {
                    self.kept.take();
                }
                all.push(self.run_alone(plugin, call).await);
            }
        }
        if self.setup.policy.isolation != Isolation::Instance {
            self.kept.take();
        }
        all
    }

    /// Runs one call, of either world.
    async fn run_alone(&mut self, plugin: &Arc<Prepared>, call: &Call<'_>) -> Ended {
        let run = self.invoke(plugin, std::slice::from_ref(call)).await;
        let result = run.results.map(|mut results| {
            // `invoke` returns as many results as it got calls.
            results.pop().unwrap_or_else(|| (Ok(()), Effects::default()))
        });
        self.without_secrets(conclude(result, run.log, run.started_at, run.finished_at, run.cpu))
    }

    /// Removes the secrets from the reason of a failed call; the log has none left.
    fn without_secrets(&self, ended: Ended) -> Ended {
        let hide = |reason: String| {
            let is_cut = reason.ends_with('…');
            let whole = reason.strip_suffix('…').unwrap_or(&reason).to_owned();
            let mut hidden = self.setup.redaction.hide(whole, is_cut);
            hidden.push_str(if is_cut { "…" } else { "" });
            hidden
        };
        Ended { reason: ended.reason.map(hide), ..ended }
    }

    /// Calls the guest once, within all limits.
    async fn invoke(&mut self, plugin: &Arc<Prepared>, calls: &[Call<'_>]) -> Run {
        let setup = &self.setup;
        setup.meter.reset();
        setup.log.drop_rest();
        let kept = self.kept.take().filter(|kept| kept.digest == plugin.digest);
        // Waiting for a slot comes before the call and does not use up its timeout.
        let instance = match kept {
            Some(instance) => Ok(CallStart::Kept(instance)),
            None => setup.room(plugin, &self.kept).await,
        };
        let started_at = now();
        let instance = match instance {
            Ok(instance) => instance,
            Err(fault) => {
                let log = setup.log.take(calls.len());
                return Run { results: Err(fault), log, started_at, finished_at: now(), cpu: Duration::ZERO };
            }
        };
        let deadline = started_at.after(setup.policy.timeout);
        let work = Box::pin(async move {
            let mut instance = match instance {
                CallStart::Kept(instance) => instance,
                CallStart::Fresh(entry, permit) => setup.instantiate(plugin, entry, permit).await?,
            };
            let results = instance.call(calls, deadline, &setup.log).await?;
            instance.calls += 1;
            Ok::<_, Fault>((results, instance))
        });
        let (meter, pulse, limit) = (Arc::clone(&setup.meter), setup.pulse.clone(), setup.policy.cpu);
        let metered = Metered { inner: work, meter, pulse, limit };
        let ended = match in_time(metered, setup.policy.timeout, &setup.meter).await {
            None => Err(Fault::timeout(&setup.policy)),
            Some(Err(_)) => Err(Fault::cpu(&setup.policy)),
            Some(Ok(ended)) => ended,
        };
        let results = ended.map(|(results, instance)| {
            self.keep(instance);
            results
        });
        let setup = &self.setup;
        let more = setup.meter.tell().more;
        if !more.is_zero() {
            setup.brake.owes(more);
        }
        Run { results, log: setup.log.take(calls.len()), started_at, finished_at: now(), cpu: setup.meter.burned() }
    }

    /// Keeps an instance for the next call, unless it has served its number of calls
    /// or an attempt waits for its slots.
    fn keep(&self, instance: Instance) {
        let policy = &self.setup.policy;
        let lasts = policy.isolation != Isolation::Message && instance.calls < policy.recycle_after;
        if lasts && !self.setup.seat.is_wanted() {
            self.kept.put(instance);
        }
    }
}

/// The start of a call.
enum CallStart<'p> {
    /// The instance of an earlier call.
    Kept(Instance),
    /// A slot, and the component to make an instance from.
    Fresh(&'p LinkedComponent, SlotPermit),
}

fn as_idle(kept: &Arc<KeptSandbox>) -> Weak<dyn Idle> {
    // Two steps: the coercion to the trait applies to the whole pointer.
    let kept: Weak<KeptSandbox> = Arc::downgrade(kept);
    kept
}

impl Setup {
    /// Waits for the slots of a fresh instance.
    async fn room<'p>(&self, plugin: &'p Prepared, kept: &Arc<KeptSandbox>) -> Result<CallStart<'p>, Fault> {
        let policy = &self.policy;
        let entry = self.engine.entry(plugin, policy.memory).await.map_err(|error| {
            let reason = format!("the handler could not be linked: {error}");
            Fault { verdict: Verdict::Instantiate, reason: cut(reason) }
        })?;
        let slots = self.engine.slots_of(entry);
        let seat = if self.seat.is_of(slots) {
            &self.seat
        } else {
            self.other_seat.get_or_init(|| slots.join(&policy.group, as_idle(kept)))
        };
        let taken = seat.take(entry.weight, WAIT_FOR_ROOM).await;
        taken.map(|permit| CallStart::Fresh(entry, permit)).map_err(|no_slot| Fault::no_room(no_slot, &policy.group))
    }

    /// Makes a fresh instance.
    async fn instantiate(
        &self,
        plugin: &Prepared,
        entry: &LinkedComponent,
        permit: SlotPermit,
    ) -> Result<Instance, Fault> {
        let policy = &self.policy;
        let mut store = Guest::store(
            entry.engine(),
            Arc::clone(policy),
            self.cache.clone(),
            self.state.clone(),
            Arc::clone(&self.brake),
            self.log.clone(),
            Arc::clone(&self.meter),
        );
        Guest::begin(&mut store, 0);
        let instance = match entry.pre.instantiate_async(&mut store).await {
            Ok(instance) => instance,
            Err(error) => return Err(Fault::instantiate(&error, store.data().ceiling.refused, policy)),
        };
        let Some(handler) = instance.get_func(&mut store, entry.handler) else {
            let reason = "the handler could not be started: its export is gone".into();
            return Err(Fault { verdict: Verdict::Instantiate, reason });
        };
        Ok(Instance {
            digest: plugin.digest.clone(),
            store,
            handler,
            contract: entry.contract,
            world: plugin.world,
            calls: 0,
            _permit: permit,
        })
    }
}

impl Instance {
    /// Calls the handler. After an error the instance is not used again.
    async fn call(&mut self, calls: &[Call<'_>], deadline: Timestamp, log: &SharedLog) -> Result<Vec<Returned>, Fault> {
        Guest::begin(&mut self.store, calls.len());
        let policy = Arc::clone(&self.store.data().policy);
        // A request of a batch call cannot be assigned to an item.
        let trace = if let [call] = calls { traceparent(call.message) } else { None };
        self.store.data_mut().http.begin(trace, deadline);
        if self.world == World::Handler && calls.len() != 1 {
            let reason = format!("a handler of one message was called with {}", calls.len());
            return Err(Fault { verdict: Verdict::Instantiate, reason });
        }
        let returned = self.contract.call(&mut self.store, self.handler, self.world, calls, deadline).await;
        let guest = self.store.data_mut();
        let results = returned.map_err(|error| Fault::trapped(&error, guest.ceiling.refused, &log.tail(), &policy))?;
        if results.len() != calls.len() {
            let (got, wanted) = (results.len(), calls.len());
            let reason = format!("returned {got} outcomes for a batch of {wanted}: one for each item is needed");
            return Err(Fault { verdict: Verdict::Trap, reason });
        }
        Ok(results.into_iter().zip(guest.effects.drain(..)).collect())
    }
}

/// The `traceparent` of a message (W3C Trace Context).
fn traceparent(message: &Message) -> Option<String> {
    let header = message.headers.iter().find(|header| header.name.eq_ignore_ascii_case("traceparent"))?;
    header.value.as_deref().and_then(|value| std::str::from_utf8(value).ok()).map(ToOwned::to_owned)
}

/// Turns the result of a call into an [`Ended`]. Only a success keeps its effects.
fn conclude(
    result: Result<Returned, Fault>,
    log: String,
    started_at: Timestamp,
    finished_at: Timestamp,
    cpu: Duration,
) -> Ended {
    let mut after = None;
    let mut effects = Effects::default();
    let (verdict, reason) = match result {
        Ok((Ok(()), done)) => {
            effects = done;
            (Verdict::Success, None)
        }
        Ok((Err(HandlerFailure::Error(reason)), _)) => (Verdict::Error, Some(reason)),
        Ok((Err(HandlerFailure::Retry { reason, after: asked }), _)) => {
            after = asked;
            (Verdict::Retry, Some(reason))
        }
        Ok((Err(HandlerFailure::Reject(reason)), _)) => (Verdict::Reject, Some(reason)),
        Ok((Err(HandlerFailure::Unavailable { reason, after: asked }), _)) => {
            after = asked;
            (Verdict::Unavailable, Some(reason))
        }
        Err(fault) => (fault.verdict, Some(fault.reason)),
    };
    Ended {
        verdict,
        reason: reason.map(cut),
        after,
        log,
        emissions: effects.emissions,
        state_writes: effects.state_writes.into_iter().collect(),
        started_at,
        finished_at,
        cpu,
    }
}
