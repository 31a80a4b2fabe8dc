//! Measures what a call of a handler costs: CPU time of the whole process for
//! each call, with a fresh sandbox and with a kept one.
//!
//!     cargo run --release -p courier --example call_cost -- handler.wasm

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courier::engine::{AttemptInfo, Call, Engine, Isolation, NodeCache, Policy, Sandbox, Settings, StateSource};
use courier_core::message::{Kind, Message, Timestamp};
use futures::future::BoxFuture;

const WARM_UP: u32 = 2_000;
const CALLS: u32 = 50_000;
const RUNS: u32 = 5;

/// No state: a handler that reads finds nothing.
struct Nothing;

impl StateSource for Nothing {
    fn get(&self, _group: &str, _key: &str) -> BoxFuture<'_, Result<Option<Bytes>, String>> {
        Box::pin(async { Ok(None) })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path: PathBuf = std::env::args_os().nth(1).map(Into::into).ok_or_else(|| {
        anyhow::anyhow!("name a handler: cargo run --release -p courier --example call_cost -- handler.wasm")
    })?;
    let wasm = Bytes::from(std::fs::read(&path)?);
    let engine = Engine::new(Settings { compiler: None, cache_dir: None, slots: 16 })?;
    let plugin = engine.prepare(wasm).await?;
    let message = Message {
        id: "0198c0de-0000-7000-8000-000000000000".into(),
        key: Some(Bytes::from_static(b"order-4711")),
        source: "shop".into(),
        topic: "order".into(),
        type_name: "OrderCreated".into(),
        kind: Kind::Event,
        time: Timestamp(1),
        content_type: "application/json".into(),
        body: Bytes::from_static(
            br#"{"order_id":"4711","order_name":"a hundred bytes, about as much as a usual small event has"}"#,
        ),
        headers: Vec::new(),
    };
    for _ in 0..RUNS {
        for isolation in [Isolation::Message, Isolation::Instance] {
            let mut sandbox =
                Sandbox::new(engine.clone(), Arc::new(policy(isolation)), NodeCache::new(0), Arc::new(Nothing));
            let mut before = Duration::ZERO;
            for n in 0..WARM_UP + CALLS {
                if n == WARM_UP {
                    before = process_cpu();
                }
                let attempt = AttemptInfo { delivery: "d".into(), number: 1, ..AttemptInfo::default() };
                let ended = sandbox.run(&plugin, Call { message: &message, attempt }).await;
                anyhow::ensure!(ended.reason.is_none(), "the handler failed: {:?}", ended.reason);
            }
            let each = (process_cpu() - before) / CALLS;
            println!("{isolation:?}: {:.2} us of CPU a call", each.as_nanos() as f64 / 1e3);
        }
    }
    Ok(())
}

fn policy(isolation: Isolation) -> Policy {
    Policy {
        group: "cost".into(),
        isolation,
        memory: 64 << 20,
        timeout: Duration::from_secs(5),
        cpu: Duration::from_millis(500),
        log: 64 << 10,
        output: 1 << 20,
        recycle_after: 10_000,
        publish: Vec::new(),
        state: false,
        cache: false,
        config: Default::default(),
        secrets: Default::default(),
    }
}

fn process_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the call to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
