//! CPU time of one call, the engine alone: no Kafka, no store.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use courier::engine::{
    AttemptInfo, Brake, Burned, Call, Engine, EngineSettings, Isolation, LogBudget, NodeCache, Policy, Sandbox,
    StateHeld, StateQuota, StateSource,
};
use courier_core::message::{Kind, Message, Timestamp};
use courier_core::verdict::Verdict;

use crate::table::spread;

/// Options of `call`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Calls in one run.
    #[arg(long, default_value_t = 50_000)]
    calls: u32,
    /// Runs of each kind.
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Bytes of the message's body.
    #[arg(long, default_value_t = 100)]
    size: usize,
}

struct NoState;

impl StateSource for NoState {
    fn get(
        &self,
        _group: &str,
        _key: &str,
        _max_age: Option<Duration>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Option<Bytes>, String>> + Send + '_>> {
        Box::pin(async { Ok(None) })
    }

    fn held(&self, _group: &str) -> std::pin::Pin<Box<dyn Future<Output = Result<StateHeld, String>> + Send + '_>> {
        Box::pin(async { Ok(StateHeld::default()) })
    }
}

struct NoBrake;

impl Brake for NoBrake {
    fn owes(&self, _more: Duration) {}

    fn burned(self: Arc<Self>, _burned: Burned) -> Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> {
        None
    }
}

/// Measures both isolations in turn.
///
/// # Errors
/// When the guest is missing or does not succeed.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let engine = Engine::new(EngineSettings { compiler: None, cache_dir: None, cache_key: [0; 32], slots: 64 })?;
    let plugin = engine.prepare(courier_tests::guest("noop").into()).await.context("noop does not prepare")?;
    let message = Message {
        id: "0195e6a2-0000-7000-8000-000000000000".to_owned(),
        key: Some(Bytes::from_static(b"key-1")),
        source: String::new(),
        topic: "bench".to_owned(),
        type_name: "Measured".to_owned(),
        kind: Kind::Event,
        time: Timestamp(0),
        content_type: "application/json".to_owned(),
        body: Bytes::from(vec![b'x'; arguments.size]),
        ..Message::default()
    };
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..arguments.runs {
        for (at, isolation) in [Isolation::Message, Isolation::Instance].into_iter().enumerate() {
            let (cache, logs) = (NodeCache::new(1024), LogBudget::default());
            let (state, brake) = (Arc::new(NoState), Arc::new(NoBrake));
            let mut sandbox = Sandbox::new(engine.clone(), Arc::new(policy(isolation)), cache, logs, state, brake);
            // Warm-up: one-time costs of the first calls are not counted.
            for _ in 0..1_000 {
                call(&mut sandbox, &plugin, &message).await?;
            }
            let before = cpu();
            for _ in 0..arguments.calls {
                call(&mut sandbox, &plugin, &message).await?;
            }
            figures[at].push((cpu() - before).as_secs_f64() * 1e6 / f64::from(arguments.calls));
        }
    }
    let [fresh, reused] = figures;
    println!("CPU us a call, body of {} bytes, {} runs of {} calls:", arguments.size, arguments.runs, arguments.calls);
    println!("  fresh sandbox  {}", spread(fresh, 1));
    println!("  reused sandbox {}", spread(reused, 1));
    Ok(())
}

async fn call(sandbox: &mut Sandbox, plugin: &Arc<courier::engine::Prepared>, message: &Message) -> Result<()> {
    let attempt = AttemptInfo { delivery: "1-1".to_owned(), number: 1, max_attempts: 1, ..AttemptInfo::default() };
    let ended = sandbox.run(plugin, Call { message, attempt }).await;
    anyhow::ensure!(ended.verdict == Verdict::Success, "the guest ended with {:?}: {:?}", ended.verdict, ended.reason);
    Ok(())
}

fn policy(isolation: Isolation) -> Policy {
    Policy {
        group: "bench".to_owned(),
        isolation,
        memory: 64 * 1024 * 1024,
        timeout: Duration::from_secs(5),
        cpu: Duration::from_millis(500),
        log: 64 * 1024,
        output: 1024 * 1024,
        recycle_after: 10_000,
        publish: Vec::new(),
        rules: Arc::new(courier::engine::NoRules),
        http: None,
        state: false,
        state_quota: Arc::new(StateQuota::new(StateHeld::default(), None)),
        cache: false,
        config: Default::default(),
        secrets: Default::default(),
    }
}

/// CPU time of this process, all threads, user and system.
fn cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a value that outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
