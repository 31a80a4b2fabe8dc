//! A consumer group that runs on this node.
//!
//! [`RunningGroup`] is its threads, its workers and two tasks: [`consumer::event`] answers
//! what Kafka gives and takes, [`consumer::broadcast`] hears broadcasts. Read [`owner`]
//! for what happens in a partition, [`attempt::worker`] and [`attempt::delivery`] for what
//! happens to one message, [`settle::writer`] for how outcomes become durable.

pub mod attempt;
pub mod consumer;
mod context;
pub mod fairness;
pub mod owner;
pub mod redrive;
pub mod settle;

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::attempt::binding::RunningBinding;
use self::attempt::finished_batch::FinishedBatch;
use self::attempt::idle_sandboxes::{IdleSandboxes, ThrottledSandbox};
use self::consumer::broadcast::BroadcastConsumer;
use self::consumer::each_address::{AddressKeeper, Service, StartWorkers};
use self::consumer::event::EventConsumer;
pub use self::context::NodeContext;
use self::fairness::controller::GroupUsage;
use self::fairness::worker_throttle::WorkerThrottle;
use crate::engine::{Brake, LogBudget, NodeCache, Sandbox};
use crate::supervise::{self, Task};

/// How far below the host's other threads the kernel ranks those that run
/// guests (`nice`, 5 is a third of the weight). All groups share what the host
/// does for them; if their guests had as much claim to the processor, one group
/// that keeps it busy would hold up the others there. Between groups nothing
/// changes. Lower still, and guests starve beside other programs.
const GUEST_NICENESS: libc::c_int = 5;
/// Bytes of the cache that the handlers of a group share on a node.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// A running group.
pub struct RunningGroup {
    pub name: String,
    pub bindings: Vec<Arc<RunningBinding>>,
    stop: CancellationToken,
    /// Wakes the consumer of events, and that of broadcasts.
    asked: [Arc<Notify>; 2],
    tasks: Vec<tokio::task::JoinHandle<()>>,
    threads: Option<tokio::runtime::Runtime>,
    /// The fairness controller knows the group while this is held.
    member: Arc<GroupUsage>,
}

impl RunningGroup {
    /// Starts a group: its threads, its workers and the task that follows its
    /// consumer.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub fn start(node: NodeContext, name: String, bindings: Vec<Arc<RunningBinding>>) -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let member = node.restraints.join(&name, bindings.clone(), node.max_record);
        let counted = Arc::clone(&member);
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores)
            .thread_name(format!("run {name}"))
            .on_thread_start(move || {
                give_way();
                counted.threads.join();
            })
            .enable_all()
            .build()?;
        let (cache, logs) = (NodeCache::new(CACHE_BYTES), LogBudget::default());
        let start_workers: StartWorkers = {
            let (node, pace, threads) = (node.clone(), Arc::clone(&member.pace), threads.handle().clone());
            let owners = Handle::current();
            Arc::new(move |bound: &Arc<RunningBinding>| {
                let sandbox = |_| {
                    let throttle = Arc::new(WorkerThrottle::new(Arc::clone(&pace)));
                    let sandbox = Sandbox::new(
                        node.engine.clone(),
                        Arc::clone(&bound.policy),
                        cache.clone(),
                        logs.clone(),
                        Arc::clone(&node.state),
                        Arc::clone(&throttle) as Arc<dyn Brake>,
                    );
                    ThrottledSandbox { sandbox, throttle }
                };
                let sandboxes = (0..bound.binding.concurrency).map(sandbox).collect();
                let idle = Arc::new(IdleSandboxes::new(sandboxes));
                for _ in 0..bound.binding.concurrency {
                    let (idle, pace) = (Arc::clone(&idle), Arc::clone(&pace));
                    let finished = FinishedBatch::new(owners.clone());
                    let work = attempt::worker::work(Arc::clone(bound), idle, pace, node.store_up.clone(), finished);
                    threads.spawn(supervise::unbroken(Task::Worker, work));
                }
                supervise::spawn(Task::BindingGate, attempt::worker::keep_gate(Arc::clone(bound)));
            })
        };
        bindings.iter().for_each(|bound| start_workers(bound));
        let stop = CancellationToken::new();
        let asked: [Arc<Notify>; 2] = Default::default();
        let heard_here = bindings.iter().filter(|bound| !bound.binding.each).cloned().collect();
        let listening =
            BroadcastConsumer::run(node.clone(), name.clone(), heard_here, None, stop.clone(), Arc::clone(&asked[1]));
        let keep_addresses: Vec<_> = Service::all(&bindings)
            .into_iter()
            .map(|service| {
                let start_workers = Arc::clone(&start_workers);
                AddressKeeper::run(node.clone(), name.clone(), service, start_workers, stop.clone())
            })
            .collect();
        let following = EventConsumer::run(
            node,
            name.clone(),
            bindings.clone(),
            Arc::clone(&member.budget),
            stop.clone(),
            Arc::clone(&asked[0]),
        );
        let mut tasks = vec![
            supervise::spawn_until(Task::EventConsumer, stop.clone(), following),
            supervise::spawn_until(Task::BroadcastConsumer, stop.clone(), listening),
        ];
        let keepers = keep_addresses.into_iter();
        tasks.extend(keepers.map(|keeper| supervise::spawn_until(Task::AddressKeeper, stop.clone(), keeper)));
        Ok(Self { name, bindings, stop, asked, tasks, threads: Some(threads), member })
    }

    /// Makes both consumers poll for rerun requests.
    pub fn wake(&self) {
        self.asked.iter().for_each(|asked| asked.notify_one());
    }

    /// Drains the group and leaves it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        // Running attempts must end in time.
        self.member.pace.disable();
        for task in &mut self.tasks {
            if let Err(error) = task.await {
                tracing::error!(group = self.name, %error, "a task of a group failed");
            }
        }
        for bound in &self.bindings {
            bound.closed.cancel();
            bound.ready.close();
        }
        if let Some(threads) = self.threads.take() {
            // Guests that still run are dropped: their partitions are released.
            threads.shutdown_background();
        }
    }
}

impl Drop for RunningGroup {
    /// A stop that takes too long is dropped half-way, and a runtime must not
    /// be dropped where it would block.
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

/// Ranks this thread below those that work for all groups.
fn give_way() {
    // SAFETY: the call has no preconditions. Linux applies it to the calling
    // thread only, and being nicer is always allowed.
    unsafe { libc::nice(GUEST_NICENESS) };
}
