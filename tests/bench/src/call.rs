//! CPU time of one call, the engine alone: no Kafka, no store.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use courier::engine::{
    AttemptInfo, Brake, Burned, Call, Engine, EngineSettings, Isolation, LogBudget, NodeCache, Policy, Sandbox,
    StateHeld, StateQuota, StateSource,
};
use courier_core::message::{Kind, Message, Timestamp};
use courier_core::verdict::Verdict;

use crate::table::spread;

/// Sandboxes whose memory is measured together.
const INSTANCES: u32 = 64;

/// Options of `call`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Seconds of one run.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Runs of each kind.
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Bytes of the message's JSON body.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// The languages of the handlers, each of which does nothing with its message.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "rust,typescript,python")]
    languages: Vec<Language>,
}

/// A language that handlers are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    Rust,
    Typescript,
    Python,
}

impl Language {
    /// The component of its handler.
    fn component(self) -> Result<Vec<u8>> {
        match self {
            Self::Rust => Ok(courier_tests::guest("noop")),
            Self::Typescript => built("noop.ts"),
            Self::Python => built("noop.py"),
        }
    }
}

/// Builds a handler of `handlers/`, as its author would.
fn built(source: &str) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(source);
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("handlers").join(source), &path)?;
    let mut build = Command::new(courier_tests::courier());
    let answer = build.args(["--output", "json", "plugin", "build"]).arg(&path).output()?;
    anyhow::ensure!(answer.status.success(), "{source} cannot be built: {}", String::from_utf8_lossy(&answer.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
    let component = answer["path"].as_str().context("the build tells no path")?;
    std::fs::read(component).with_context(|| format!("cannot read {component}"))
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

/// Measures each language with both isolations in turn.
///
/// # Errors
/// When a handler cannot be built or does not succeed.
pub async fn run(arguments: &Arguments) -> Result<()> {
    // A compile of QuickJS or CPython takes seconds, which `compiler: None` spends here.
    let slots = 2 * INSTANCES;
    let engine = Engine::new(EngineSettings { compiler: None, cache_dir: None, cache_key: [0; 32], slots })?;
    let message = Message {
        id: "0195e6a2-0000-7000-8000-000000000000".to_owned(),
        key: Some(Bytes::from_static(b"key-1")),
        source: String::new(),
        topic: "bench".to_owned(),
        type_name: "Measured".to_owned(),
        kind: Kind::Event,
        time: Timestamp(0),
        content_type: "application/json".to_owned(),
        body: Bytes::from(format!("\"{}\"", "x".repeat(arguments.size.saturating_sub(2)))),
        ..Message::default()
    };
    println!(
        "CPU us a call, body of {} bytes, {} runs of {} s; MiB of {INSTANCES} reused sandboxes:",
        message.body.len(),
        arguments.runs,
        arguments.seconds
    );
    for language in &arguments.languages {
        let what = format!("{language:?}").to_lowercase();
        let component = language.component()?;
        let bytes = component.len();
        let plugin = engine.prepare(component.into()).await.with_context(|| format!("{what} does not prepare"))?;
        let memory = memory_of_instances(&engine, &plugin, &message).await?;
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..arguments.runs {
            for (at, isolation) in [Isolation::Message, Isolation::Instance].into_iter().enumerate() {
                let mut sandbox = sandbox(&engine, isolation);
                figures[at].push(cost_of_call(&mut sandbox, &plugin, &message, arguments.seconds).await?);
            }
        }
        let [fresh, reused] = figures;
        println!(
            "  {what:<10} fresh {}   reused {}   {:.1} MiB   component {:.1} MiB",
            spread(fresh, 1),
            spread(reused, 1),
            mib(memory),
            mib(bytes as u64)
        );
    }
    Ok(())
}

fn sandbox(engine: &Engine, isolation: Isolation) -> Sandbox {
    let (cache, logs) = (NodeCache::new(1024), LogBudget::default());
    Sandbox::new(engine.clone(), Arc::new(policy(isolation)), cache, logs, Arc::new(NoState), Arc::new(NoBrake))
}

/// CPU time of one call in microseconds, over calls that take `seconds`.
async fn cost_of_call(
    sandbox: &mut Sandbox,
    plugin: &Arc<courier::engine::Prepared>,
    message: &Message,
    seconds: f64,
) -> Result<f64> {
    // One-time costs of the first calls are not counted.
    let warm = Instant::now();
    while warm.elapsed().as_secs_f64() < seconds / 10.0 {
        call(sandbox, plugin, message).await?;
    }
    let (begun, before, mut calls) = (Instant::now(), cpu(), 0_u32);
    while begun.elapsed().as_secs_f64() < seconds {
        call(sandbox, plugin, message).await?;
        calls += 1;
    }
    Ok((cpu() - before).as_secs_f64() * 1e6 / f64::from(calls))
}

/// The memory that [`INSTANCES`] sandboxes keep after a call each.
async fn memory_of_instances(
    engine: &Engine,
    plugin: &Arc<courier::engine::Prepared>,
    message: &Message,
) -> Result<u64> {
    call(&mut sandbox(engine, Isolation::Instance), plugin, message).await?;
    let before = resident()?;
    let mut kept = Vec::new();
    for _ in 0..INSTANCES {
        let mut sandbox = sandbox(engine, Isolation::Instance);
        call(&mut sandbox, plugin, message).await?;
        kept.push(sandbox);
    }
    Ok(resident()?.saturating_sub(before))
}

/// Resident memory of this process in bytes.
fn resident() -> Result<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").context("cannot read /proc/self/statm")?;
    let pages: u64 = pages.split(' ').nth(1).context("no second field in /proc/self/statm")?.parse()?;
    // SAFETY: it reads a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Ok(pages * page.unsigned_abs())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
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
