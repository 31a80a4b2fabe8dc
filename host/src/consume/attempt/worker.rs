//! The loop of a worker: it takes a delivery from the ready queue, waits for
//! its permits, and runs it. A binding has `concurrency` workers.
//!
//! Each group has threads of its own, as many as the machine has cores. The
//! kernel therefore divides the CPUs between groups, and a guest that spins
//! takes time from its own group only. Inside a group epochs make busy guests
//! yield.

use std::sync::Arc;

use courier_core::verdict::Verdict;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::binding::{BoundPlugin, RunningBinding};
use super::circuit_breaker::Permission;
use super::finished_batch::FinishedBatch;
use super::idle_sandboxes::{IdleSandboxes, ThrottledSandbox};
use crate::config::Isolation;
use crate::consume::fairness::cpu_bucket::CpuBucket;
use crate::consume::owner::message::ReadyDelivery;
use crate::engine::{Call, Ended, Prepared, Sandbox, World};

/// Runs deliveries until the queue closes. `finished` is where the worker collects what
/// it has to tell to owners.
pub async fn work(
    bound: Arc<RunningBinding>,
    idle: Arc<IdleSandboxes>,
    pace: Arc<CpuBucket>,
    mut store_up: watch::Receiver<bool>,
    finished: FinishedBatch,
) {
    let mut gate = bound.gate.watch();
    let mut plugin = bound.plugin.clone();
    let worker = bound.ready.add_worker();
    let take_turns = async {
        while let Some(work) = worker.pop().await {
            let Some((work, version)) = permit(&bound, work, &pace, &mut gate, &mut plugin, &mut store_up).await else {
                continue;
            };
            let mut batch = vec![work];
            if takes_batches(&bound, &version) {
                while batch.len() < bound.binding.batch.max(1)
                    && bound.rate.as_ref().is_none_or(|rate| rate.check().is_ok())
                    && let Some(next) = worker.try_pop()
                {
                    if next.is_recalled() { next.give_back() } else { batch.push(next) }
                }
            }
            let mut sandbox = idle.take();
            run(&bound, &version, &mut sandbox, batch, &finished).await;
            idle.put(sandbox);
            // Short handlers, one after the other, must not keep the thread from
            // its other tasks.
            tokio::task::coop::consume_budget().await;
        }
    };
    worker.run(take_turns, || finished.tell()).await;
}

fn takes_batches(bound: &RunningBinding, version: &Prepared) -> bool {
    let together = bound.binding.isolation == Isolation::Batch || version.world == World::BatchHandler;
    // While one delivery probes, the others wait for its result.
    together && bound.binding.batch > 1 && bound.gate.now() == Permission::Open
}

/// Waits until the delivery may begin. `None` when it was returned or failed instead.
async fn permit(
    bound: &RunningBinding,
    mut work: ReadyDelivery,
    pace: &CpuBucket,
    gate: &mut watch::Receiver<Permission>,
    plugin: &mut watch::Receiver<BoundPlugin>,
    store_up: &mut watch::Receiver<bool>,
) -> Option<(ReadyDelivery, Arc<Prepared>)> {
    let (owner, recall) = (Arc::clone(&work.owner), work.recall.clone());
    let (no_more, recall) = (&owner.no_more, recall.as_ref());
    let mut has_turn = false;
    let mut waited_for_rate = false;
    loop {
        // A place in the rate holds for one turn of this loop. Kept through a pause, the
        // places of all workers would let their attempts begin together after it.
        let has_rate = std::mem::take(&mut waited_for_rate);
        // A delivery that does not begin passes its probe on.
        if std::mem::take(&mut work.probe) {
            bound.gate.give_probe_back();
        }
        // The owner dispatches it again once the store takes outcomes, or ends
        // it when it was given up meanwhile.
        if work.is_recalled() {
            work.give_back();
            return None;
        }
        // No handler starts without the store: its outcome could not be kept.
        if !*store_up.borrow_and_update() {
            unless_stopped(no_more, recall, store_up.changed()).await;
            continue;
        }
        if bound.effects_budget.is_full() {
            unless_stopped(no_more, recall, bound.effects_budget.room()).await;
            continue;
        }
        let now = gate.borrow_and_update().clone();
        match now {
            Permission::Open => {}
            Permission::Probing if bound.gate.take_probe() => work.probe = true,
            Permission::Paused(_) | Permission::Full(_) | Permission::Probing => {
                unless_stopped(no_more, recall, gate.changed()).await;
                continue;
            }
            Permission::Closed { verdict, reason } => {
                work.push_back(bound, verdict, &reason);
                return None;
            }
        }
        let version = match &*plugin.borrow_and_update() {
            BoundPlugin::Ready(version) => Arc::clone(version),
            BoundPlugin::Missing(verdict, reason) => {
                // The gate closes for this soon; the first delivery to notice says so.
                if work.probe {
                    bound.gate.give_probe_back();
                }
                work.push_back(bound, *verdict, reason);
                return None;
            }
        };
        if pace.is_held() && !has_turn {
            has_turn = unless_stopped(no_more, recall, pace.acquire()).await;
            // The wait may have been long: every condition is checked again.
            continue;
        }
        if let Some(limiter) = &bound.rate
            && !has_rate
            && limiter.check().is_err()
        {
            waited_for_rate = unless_stopped(no_more, recall, limiter.until_ready()).await;
            continue;
        }
        pace.begun();
        return Some((work, version));
    }
}

/// Waits for `what`; false when the delivery must not begin any more.
async fn unless_stopped<T>(
    no_more: &CancellationToken,
    recall: Option<&CancellationToken>,
    what: impl Future<Output = T>,
) -> bool {
    tokio::select! {
        () = stopped(no_more, recall) => false,
        _ = what => true,
    }
}

/// Waits until the delivery must not begin any more.
async fn stopped(no_more: &CancellationToken, recall: Option<&CancellationToken>) {
    match recall {
        Some(recall) => tokio::select! {
            () = no_more.cancelled() => {}
            () = recall.cancelled() => {}
        },
        None => no_more.cancelled().await,
    }
}

async fn run(
    bound: &Arc<RunningBinding>,
    version: &Arc<Prepared>,
    ThrottledSandbox { sandbox, throttle }: &mut ThrottledSandbox,
    batch: Vec<ReadyDelivery>,
    finished: &FinishedBatch,
) {
    // The deliveries of a batch may belong to different owners. The throttle is
    // lifted when the first of them gives its partition up, and the first owner
    // whose deadline passes drops the batch for all. What is returned runs
    // again.
    let rows: Vec<_> = batch.iter().filter(|work| work.recall.is_some()).map(ReadyDelivery::key).collect();
    bound.begin(&rows);
    throttle.put_on(batch.iter().map(|work| &work.owner.no_more));
    let ended = {
        let calls: Vec<Call<'_>> = batch.iter().map(|work| work.call(bound)).collect();
        // A short call ends when it is polled first; then nothing is prepared for the
        // drop, which would cost as much as the call.
        tokio::select! {
            biased;
            ended = invoke(sandbox, version, calls) => Some(ended),
            () = first_dropped(&batch) => None,
        }
    };
    bound.end(&rows);
    match ended {
        Some(ended) => {
            throttle.pace.ended(ended.len());
            for (work, ended) in batch.into_iter().zip(ended) {
                let owner = Arc::clone(&work.owner);
                finished.push(owner, work.conclude(bound, version, ended));
            }
        }
        None => {
            if batch.iter().any(|work| work.probe) {
                bound.gate.give_probe_back();
            }
            batch.into_iter().for_each(ReadyDelivery::give_back);
        }
    }
}

/// Waits until the first owner of a delivery in the batch drops it.
async fn first_dropped(batch: &[ReadyDelivery]) {
    match batch {
        [alone] => alone.owner.dropped.cancelled().await,
        _ => {
            let dropped = batch.iter().map(|work| Box::pin(work.owner.dropped.cancelled()));
            futures::future::select_all(dropped).await;
        }
    }
}

async fn invoke(sandbox: &mut Sandbox, version: &Arc<Prepared>, mut calls: Vec<Call<'_>>) -> Vec<Ended> {
    match (calls.pop(), version.world) {
        (Some(call), World::Handler) if calls.is_empty() => vec![sandbox.run(version, call).await],
        (last, _) => {
            calls.extend(last);
            sandbox.run_batch(version, &calls).await
        }
    }
}

/// Keeps the gate in step with the plugin and with time.
pub async fn keep_gate(bound: Arc<RunningBinding>) {
    let mut plugin = bound.plugin.clone();
    let mut gate = bound.gate.watch();
    loop {
        let missing = match &*plugin.borrow_and_update() {
            BoundPlugin::Ready(_) => None,
            BoundPlugin::Missing(verdict, reason) => Some((*verdict, reason.clone())),
        };
        // Changes from here on, also by the next two lines, start another turn:
        // a probe may end before they return.
        gate.mark_unchanged();
        bound.gate.missing(missing);
        let probe_in = bound.gate.tick();
        tokio::select! {
            changed = plugin.changed() => if changed.is_err() { return },
            changed = gate.changed() => if changed.is_err() { return },
            () = async { match probe_in { Some(wait) => tokio::time::sleep(wait).await, None => std::future::pending().await } } => {}
            () = bound.closed.cancelled() => return,
        }
    }
}

/// The reason that a binding shows while its plugin has no active version.
#[must_use]
pub fn no_active_version(plugin: &str) -> BoundPlugin {
    BoundPlugin::Missing(
        Verdict::NoPlugin,
        format!(
            "plugin {plugin} has no active version: push one and activate it (courier plugin push FILE --activate)"
        ),
    )
}

#[cfg(test)]
mod tests {
    use courier_core::message::{Attempts, Kind, Offset, Timestamp};
    use tokio::sync::{Semaphore, mpsc};

    use super::*;
    use crate::consume::owner::message::{OwnerMessage, OwnerRef};
    use crate::kafka::buffered::{BufferedRecord, TopicPartition};
    use crate::kafka::record::Record;
    use crate::publish::rules::Rules;
    use crate::store::PositionId;

    /// A binding of one attempt in two seconds, whose plugin is ready.
    fn slow_binding() -> (RunningBinding, watch::Sender<BoundPlugin>) {
        let text =
            "[[binding]]\ngroup = \"stock\"\ntopics = [\"order\"]\nplugin = \"order-handler\"\nrate_limit = 0.5\n";
        let mut config =
            crate::config::parse("courier.toml", text, &|_| None).unwrap_or_else(|error| panic!("{error}"));
        let ready = BoundPlugin::Ready(Arc::new(Prepared::unlinked("sha256:00", World::Handler)));
        let (tell, plugin) = watch::channel(ready);
        (RunningBinding::new(config.bindings.remove(0), plugin, &Rules::default()), tell)
    }

    async fn delivery() -> (ReadyDelivery, mpsc::UnboundedReceiver<OwnerMessage>) {
        let (mail, inbox) = mpsc::unbounded_channel();
        let place = TopicPartition { topic: "order".into(), partition: 0, kind: Kind::Event };
        let owner = OwnerRef {
            place: place.clone(),
            position: PositionId(1),
            mail,
            no_more: CancellationToken::new(),
            dropped: CancellationToken::new(),
            refused: watch::channel(false).1,
        };
        let room = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let record = Record { timestamp: Timestamp(0), key: None, value: None, headers: Vec::new(), left_out: None };
        let buffered = BufferedRecord::reread(place, Offset(7), record, (Timestamp(0), None), room);
        let attempts = Attempts::default();
        let delivery = ReadyDelivery {
            buffered: Arc::new(buffered),
            owner: Arc::new(owner),
            attempts,
            probe: false,
            recall: None,
        };
        (delivery, inbox)
    }

    /// Up to as many attempts as a binding has workers began against a plugin that was
    /// gone, or during a pause, because they waited for their rate when it came.
    #[tokio::test]
    async fn what_came_up_during_the_wait_for_the_rate_is_seen() {
        let (bound, plugin) = slow_binding();
        let (_up, store_up) = watch::channel(true);
        let pace = CpuBucket::default();
        let permit = |work: ReadyDelivery| {
            let (mut gate, mut plugin, mut store_up) = (bound.gate.watch(), bound.plugin.clone(), store_up.clone());
            let (bound, pace) = (&bound, &pace);
            async move { permit(bound, work, pace, &mut gate, &mut plugin, &mut store_up).await.is_some() }
        };
        assert!(permit(delivery().await.0).await, "the first is within the rate");

        let (work, mut inbox) = delivery().await;
        let mut waits = std::pin::pin!(permit(work));
        assert!(futures::poll!(&mut waits).is_pending(), "the second waits for the rate");
        plugin.send_replace(no_active_version("order-handler"));
        assert!(!waits.await, "there is nothing to run");
        let told = inbox.recv().await;
        assert!(
            matches!(&told, Some(OwnerMessage::AttemptFinished(finished)) if finished.verdict == Verdict::NoPlugin),
            "{told:?}"
        );
    }
}
