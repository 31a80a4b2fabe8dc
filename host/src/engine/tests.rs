//! Tests of the engine with small components written by hand.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use courier_core::message::{Kind, Message, Timestamp};
use courier_core::verdict::Verdict;
use futures::future::BoxFuture;

use super::*;

mod canary;
mod hostile;
mod parts;
mod pool;
mod versions;

/// The types of the first version of the contract, as a component imports them.
const FIRST: &str = r#"
    (import "courier:plugin/types@1.0.0" (instance $types
        (type $header' (record (field "name" string) (field "value" (list u8))))
        (export "header" (type $header (eq $header')))
        (type $kind' (enum "event" "broadcast"))
        (export "kind" (type $kind (eq $kind')))
        (type $timestamp' u64)
        (export "timestamp" (type $timestamp (eq $timestamp')))
        (type $message' (record
            (field "id" string) (field "key" (option (list u8))) (field "source" string) (field "topic" string)
            (field "type" string) (field "kind" $kind) (field "time" $timestamp) (field "content-type" string)
            (field "body" (list u8)) (field "headers" (list $header))))
        (export "message" (type $message (eq $message')))
        (type $attempt' (record
            (field "group" string) (field "delivery" string) (field "number" u32) (field "counted" u32)
            (field "max-attempts" u32) (field "partition" u32) (field "offset" u64) (field "deadline" $timestamp)))
        (export "attempt" (type $attempt (eq $attempt')))
        (type $delivery' (record (field "message" $message) (field "attempt" $attempt)))
        (export "delivery" (type $delivery (eq $delivery')))
        (type $retry' (record (field "reason" string) (field "after-ms" (option u64))))
        (export "retry" (type $retry (eq $retry')))
        (type $failure' (variant
            (case "error" string) (case "retry" $retry) (case "reject" string) (case "unavailable" string)))
        (export "failure" (type $failure (eq $failure')))))
    (alias export $types "message" (type $message))
    (alias export $types "attempt" (type $attempt))
    (alias export $types "delivery" (type $delivery))
    (alias export $types "failure" (type $failure))
"#;

/// The allocator that a module needs to get lists and strings. It hands memory
/// past the first page out upwards, and begins anew with each call.
const MEMORY: &str = r#"
    (memory (export "memory") 4)
    (global $free (mut i32) (i32.const 65536))
    (global $calls (mut i32) (i32.const 0))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
        (global.set $free (i32.add (local.get $at) (local.get 3)))
        (local.get $at))
    (func (export "done") (param i32) (global.set $free (i32.const 65536)))
"#;

/// A handler of one message with this body. It returns what lies at 1024; zeros
/// there mean success.
fn handler(body: &str) -> Bytes {
    handler_of(FIRST, "", body)
}

/// A handler of the version with these types, with `more` in its module.
fn handler_of(types: &str, more: &str, body: &str) -> Bytes {
    component(&format!(
        r#"(component {types}
            (core module $m {MEMORY} {more} (func $handle (export "handle") (param i32) (result i32) {body} (i32.const 1024)))
            (core instance $i (instantiate $m))
            (func (export "handle") (param "message" $message) (param "attempt" $attempt)
                (result (result (error $failure)))
                (canon lift (core func $i "handle") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))
                    (post-return (core func $i "done")))))"#
    ))
}

/// A batch handler that is called with the address and number of items. It
/// returns the address and number of outcomes that lie at 1024.
fn batch_handler(body: &str) -> Bytes {
    batch_handler_of(FIRST, body)
}

fn batch_handler_of(types: &str, body: &str) -> Bytes {
    component(&format!(
        r#"(component {types}
            (core module $m {MEMORY}
                (func (export "handle-batch") (param $items i32) (param $len i32) (result i32)
                    {body} (i32.const 1024)))
            (core instance $i (instantiate $m))
            (func (export "handle-batch") (param "items" (list $delivery))
                (result (list (result (error $failure))))
                (canon lift (core func $i "handle-batch") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))
                    (post-return (core func $i "done")))))"#
    ))
}

fn component(text: &str) -> Bytes {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}")).into()
}

/// Ends a handler with failure number `case` and the reason "no".
fn failing(case: u32) -> String {
    format!(
        "(i32.store8 (i32.const 1024) (i32.const 1)) (i32.store8 (i32.const 1032) (i32.const {case}))
         (i32.store (i32.const 1040) (i32.const 2048)) (i32.store (i32.const 1044) (i32.const 2))
         (i32.store16 (i32.const 2048) (i32.const 0x6f6e))"
    )
}

#[derive(Default)]
struct Known(HashMap<String, Bytes>);

impl StateSource for Known {
    fn held(&self, _group: &str) -> BoxFuture<'_, Result<StateHeld, String>> {
        Box::pin(async { Ok(StateHeld::default()) })
    }

    fn get(&self, _group: &str, key: &str, _age: Option<Duration>) -> BoxFuture<'_, Result<Option<Bytes>, String>> {
        let value = self.0.get(key).cloned();
        Box::pin(async move { Ok(value) })
    }
}

fn engine() -> Engine {
    Engine::new(EngineSettings { compiler: None, cache_dir: None, cache_key: [0; 32], slots: 2 }).unwrap()
}

pub(super) fn policy() -> Policy {
    Policy {
        group: "stock".into(),
        isolation: Isolation::Message,
        memory: 1 << 20,
        timeout: Duration::from_secs(5),
        cpu: Duration::from_millis(50),
        log: 64 * 1024,
        output: 1 << 20,
        recycle_after: 3,
        publish: Vec::new(),
        rules: Arc::new(NoRules),
        http: None,
        state: false,
        state_quota: Arc::new(StateQuota::new(StateHeld { keys: 1_000, bytes: 1 << 20 }, None)),
        cache: false,
        config: BTreeMap::new(),
        secrets: BTreeMap::new(),
    }
}

fn sandbox(engine: &Engine, policy: Policy) -> Sandbox {
    held_by(Arc::default(), engine, policy)
}

fn held_by(brake: Arc<Slow>, engine: &Engine, policy: Policy) -> Sandbox {
    let (cache, logs) = (NodeCache::new(1024), LogBudget::default());
    Sandbox::new(engine.clone(), Arc::new(policy), cache, logs, Arc::new(Known::default()), brake)
}

/// A brake that throttles guests at each tick but the first.
#[derive(Default)]
pub(super) struct Slow {
    wait: Duration,
    told: parking_lot::Mutex<Duration>,
}

impl Brake for Slow {
    fn owes(&self, more: Duration) {
        *self.told.lock() += more;
    }

    fn burned(self: Arc<Self>, burned: Burned) -> Option<BoxFuture<'static, ()>> {
        self.owes(burned.more);
        (!self.wait.is_zero()).then(|| -> BoxFuture<'static, ()> { Box::pin(tokio::time::sleep(self.wait)) })
    }
}

fn message() -> Message {
    Message {
        id: "m-1".into(),
        key: Some(Bytes::from_static(b"k")),
        source: "test".into(),
        topic: "order".into(),
        type_name: "OrderCreated".into(),
        kind: Kind::Event,
        time: Timestamp(1),
        content_type: "text/plain".into(),
        body: Bytes::from_static(b"hello"),
        ..Message::default()
    }
}

fn call(message: &Message) -> Call<'_> {
    Call { message, attempt: AttemptInfo { delivery: "d-1".into(), number: 1, ..AttemptInfo::default() } }
}

/// Runs a handler with this body once.
async fn run(body: &str) -> Ended {
    run_under(body, policy()).await
}

async fn run_under(body: &str, policy: Policy) -> Ended {
    run_component(handler(body), policy, &message()).await
}

async fn run_component(wasm: Bytes, policy: Policy, message: &Message) -> Ended {
    let engine = engine();
    let plugin = engine.prepare(wasm).await.unwrap();
    sandbox(&engine, policy).run(&plugin, call(message)).await
}

/// The reason for which a component is refused.
async fn refused(wasm: Bytes) -> String {
    match engine().prepare(wasm).await {
        Err(PrepareError::Refused(refused)) => refused.to_string(),
        Err(PrepareError::Host(why)) => panic!("the host took the blame: {why}"),
        Ok(_) => panic!("it was accepted"),
    }
}

#[track_caller]
fn check(ended: &Ended, verdict: Verdict, reason: &str) {
    let text = ended.reason.as_deref().unwrap_or_default();
    assert_eq!(ended.verdict, verdict, "{text}");
    assert!(text.contains(reason), "{text}");
}

#[tokio::test]
async fn a_handler_succeeds_or_says_why_not() {
    let ended = run("").await;
    check(&ended, Verdict::Success, "");
    assert_eq!(ended.reason, None);
    assert!(ended.finished_at >= ended.started_at && ended.cpu > Duration::ZERO);
    check(&run(&failing(0)).await, Verdict::Error, "no");
    check(&run(&failing(1)).await, Verdict::Retry, "no");
    check(&run(&failing(2)).await, Verdict::Reject, "no");
    check(&run(&failing(3)).await, Verdict::Unavailable, "no");
    let wait = "(i32.store8 (i32.const 1048) (i32.const 1)) (i64.store (i32.const 1056) (i64.const 500))";
    assert_eq!(run(&format!("{} {wait}", failing(1))).await.after, Some(Duration::from_millis(500)));
}

/// A handler that logs its request, or fails with its text, carried a token
/// into the store.
#[tokio::test]
async fn secrets_in_the_reason_of_a_handler_are_replaced() {
    let said = |text: &str| {
        let bytes: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        let data = format!("(data (i32.const 2048) \"{bytes}\")");
        let fails = format!(
            "(i32.store8 (i32.const 1024) (i32.const 1)) (i32.store8 (i32.const 1032) (i32.const 0))
             (i32.store (i32.const 1040) (i32.const 2048)) (i32.store (i32.const 1044) (i32.const {}))",
            text.len()
        );
        handler_of(FIRST, &data, &fails)
    };
    let secrets = BTreeMap::from([("key".to_owned(), SecretString::from("s3cret"))]);
    let policy = || Policy { secrets: secrets.clone(), ..policy() };
    let ended = run_component(said("401 for Bearer s3cret at x"), policy(), &message()).await;
    assert_eq!(ended.reason.as_deref(), Some("401 for Bearer *** at x"));
    let long = format!("{}s3cret", "x".repeat(limits::MAX_REASON_BYTES - 5));
    let reason = run_component(said(&long), policy(), &message()).await.reason.unwrap();
    assert!(reason.ends_with("x***…"), "{}", &reason[reason.len() - 20..]);
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart() {
    check(&run("unreachable").await, Verdict::Trap, "panicked or aborted");
    check(&run("(drop (i32.load (i32.const -8)))").await, Verdict::Trap, "accessed memory out of bounds");
    check(&run("(drop (i32.div_u (i32.const 1) (i32.const 0)))").await, Verdict::Trap, "divided an integer by zero");
    let endless = "(drop (call $handle (i32.const 0)))";
    check(&run(endless).await, Verdict::StackOverflow, "overflowed its stack");
    let hungry = "(loop (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)) (br 0))";
    check(&run(hungry).await, Verdict::MemoryLimit, "needed more memory than 1MiB (binding `memory`)");
}

#[tokio::test]
async fn a_guest_that_spins_is_ended_by_its_cpu_limit() {
    let began = Instant::now();
    let ended = run("(loop (br 0))").await;
    check(&ended, Verdict::CpuLimit, "used more than 50ms of CPU (binding `cpu`)");
    assert!(ended.cpu >= Duration::from_millis(50) && ended.cpu < Duration::from_secs(1), "{:?}", ended.cpu);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_guest_that_takes_too_long_is_ended_by_its_timeout() {
    let policy = Policy { timeout: Duration::from_millis(50), cpu: Duration::from_secs(60), ..policy() };
    let ended = run_under("(loop (br 0))", policy).await;
    check(&ended, Verdict::Timeout, "took longer than 50ms (binding `timeout`)");
}

#[tokio::test]
async fn what_a_guest_is_held_back_is_no_time_of_its_own() {
    let engine = engine();
    let plugin = engine.prepare(handler("(loop (br 0))")).await.unwrap();
    let brake = Arc::new(Slow { wait: Duration::from_millis(100), ..Slow::default() });
    let (timeout, cpu) = (Duration::from_millis(300), Duration::from_millis(20));
    let began = Instant::now();
    let ended =
        held_by(Arc::clone(&brake), &engine, Policy { timeout, cpu, ..policy() }).run(&plugin, call(&message())).await;
    check(&ended, Verdict::CpuLimit, "");
    assert!(began.elapsed() > timeout, "it was held for longer than it may take");
    let told = *brake.told.lock();
    assert!(told > cpu / 2 && told < ended.cpu, "{told:?} of {:?}", ended.cpu);
}

#[tokio::test]
async fn a_guest_that_spins_lets_others_run_on_its_thread() {
    let engine = engine();
    let plugin = engine.prepare(handler("(loop (br 0))")).await.unwrap();
    let mut sandbox = sandbox(&engine, Policy { cpu: Duration::from_millis(300), ..policy() });
    let message = message();
    // The test has one thread: this loop gets a turn only when the guest yields.
    let mut turns = 0;
    let ended = tokio::select! {
        ended = sandbox.run(&plugin, call(&message)) => ended,
        () = async { loop { tokio::time::sleep(Duration::from_millis(10)).await; turns += 1; } } => unreachable!(),
    };
    check(&ended, Verdict::CpuLimit, "");
    assert!(turns >= 5, "{turns}");
}

#[tokio::test]
async fn an_instance_that_wants_too_much_memory_never_starts() {
    let ended = run_under("", Policy { memory: 64 * 1024, ..policy() }).await;
    check(&ended, Verdict::Instantiate, "it needs more memory than 64KiB (binding `memory`)");
}

#[tokio::test]
async fn more_memory_than_the_pool_has_is_mapped_for_the_instance() {
    let memory = 2 * limits::POOL_MEMORY as u64;
    let body = "(if (i32.eq (memory.grow (i32.const 4100)) (i32.const -1)) (then unreachable))";
    check(&run_under(body, Policy { memory, cpu: Duration::from_secs(5), ..policy() }).await, Verdict::Success, "");
}

/// Fails with a reject at the call of this number within one instance.
fn failing_at(call: u32) -> String {
    format!(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (if (i32.eq (global.get $calls) (i32.const {call})) (then {}))",
        failing(2)
    )
}

#[tokio::test]
async fn an_instance_lives_as_long_as_its_isolation_says() {
    let engine = engine();
    let plugin = engine.prepare(handler(&failing_at(2))).await.unwrap();
    let message = message();
    for (isolation, expected) in [
        (Isolation::Message, [Verdict::Success; 4]),
        (Isolation::Batch, [Verdict::Success; 4]),
        // The third call is the last of the instance, the fourth the first of
        // the next one. What lies in memory after the failure stays there.
        (Isolation::Instance, [Verdict::Success, Verdict::Reject, Verdict::Reject, Verdict::Success]),
    ] {
        let mut sandbox = sandbox(&engine, Policy { isolation, ..policy() });
        for verdict in expected {
            check(&sandbox.run(&plugin, call(&message)).await, verdict, "");
        }
    }
    let mut sandbox = sandbox(&engine, Policy { isolation: Isolation::Batch, ..policy() });
    let calls = [call(&message), call(&message)];
    for _ in 0..2 {
        let ended = sandbox.run_batch(&plugin, &calls).await;
        check(&ended[0], Verdict::Success, "");
        check(&ended[1], Verdict::Reject, "no");
    }
}

#[tokio::test]
async fn a_trap_ends_the_instance_also_when_it_is_kept() {
    let engine = engine();
    let body = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                (if (i32.eq (global.get $calls) (i32.const 2)) (then unreachable))";
    let plugin = engine.prepare(handler(body)).await.unwrap();
    let mut sandbox = sandbox(&engine, Policy { isolation: Isolation::Instance, ..policy() });
    for verdict in [Verdict::Success, Verdict::Trap, Verdict::Success, Verdict::Trap] {
        check(&sandbox.run(&plugin, call(&message())).await, verdict, "");
    }
}

#[tokio::test]
async fn a_dropped_call_leaves_the_sandbox_usable() {
    let engine = engine();
    let spins_first = "(if (i32.eqz (global.get $calls)) (then (global.set $calls (i32.const 1)) (loop (br 0))))";
    let plugin = engine.prepare(handler(spins_first)).await.unwrap();
    let slow = Policy { cpu: Duration::from_millis(200), isolation: Isolation::Instance, ..policy() };
    let mut sandbox = sandbox(&engine, slow);
    let message = message();
    for _ in 0..5 {
        let run = sandbox.run(&plugin, call(&message));
        assert!(tokio::time::timeout(Duration::from_millis(20), run).await.is_err());
    }
    check(&sandbox.run(&plugin, call(&message)).await, Verdict::CpuLimit, "");
}

#[tokio::test]
async fn a_cache_directory_of_others_is_not_used() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let settings =
        EngineSettings { compiler: None, cache_dir: Some(dir.path().to_owned()), cache_key: [0; 32], slots: 1 };
    let engine = Engine::new(settings).unwrap();
    engine.prepare(handler("")).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was kept there");
}

/// Returns one outcome for each of `len` items, all successes.
const OUTCOMES: &str = "(i32.store (i32.const 1024) (i32.const 131072)) (i32.store (i32.const 1028) (local.get $len))";

#[tokio::test]
async fn a_batch_is_one_call() {
    let engine = engine();
    let plugin = engine.prepare(batch_handler(OUTCOMES)).await.unwrap();
    assert_eq!(plugin.world, World::BatchHandler);
    let message = message();
    let calls = [call(&message), call(&message), call(&message)];
    let all = sandbox(&engine, policy()).run_batch(&plugin, &calls).await;
    assert_eq!(all.len(), 3);
    for ended in &all {
        check(ended, Verdict::Success, "");
    }
    check(&sandbox(&engine, policy()).run(&plugin, call(&message)).await, Verdict::Success, "");
}

#[tokio::test]
async fn a_batch_that_fails_as_a_whole_runs_item_by_item() {
    let engine = engine();
    let message = message();
    let calls = [call(&message), call(&message)];
    let alone = "(if (i32.gt_u (local.get $len) (i32.const 1)) (then unreachable))";
    let short = "(if (i32.gt_u (local.get $len) (i32.const 1)) (then (local.set $len (i32.const 1))))";
    for body in [alone, short] {
        let plugin = engine.prepare(batch_handler(&format!("{body} {OUTCOMES}"))).await.unwrap();
        let all = sandbox(&engine, policy()).run_batch(&plugin, &calls).await;
        assert_eq!(all.iter().map(|ended| ended.verdict).collect::<Vec<_>>(), [Verdict::Success; 2]);
    }
    let never = engine.prepare(batch_handler("(local.set $len (i32.const 7)) unreachable")).await.unwrap();
    for ended in sandbox(&engine, policy()).run_batch(&never, &calls).await {
        check(&ended, Verdict::Trap, "panicked or aborted");
    }
    let none = engine.prepare(batch_handler("")).await.unwrap();
    check(&sandbox(&engine, policy()).run(&none, call(&message)).await, Verdict::Trap, "returned 0 outcomes");
}

#[tokio::test]
async fn a_handler_of_another_type_is_refused_when_prepared() {
    let wasm = component(
        r#"(component
            (core module $m (func (export "handle")))
            (core instance $i (instantiate $m))
            (func (export "handle") (canon lift (core func $i "handle"))))"#,
    );
    let refused = refused(wasm).await;
    assert!(refused.contains("another type than the contract"), "{refused}");
}

#[tokio::test]
async fn preparing_again_costs_nothing_and_the_cache_outlives_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        EngineSettings { compiler: None, cache_dir: Some(dir.path().to_owned()), cache_key: [0; 32], slots: 1 };
    let wasm = handler("");
    let engine = Engine::new(settings.clone()).unwrap();
    let prepared = engine.prepare(wasm.clone()).await.unwrap();
    assert!(Arc::ptr_eq(&prepared, &engine.prepare(wasm.clone()).await.unwrap()));
    // A missing compiler would fail, so the component comes from the cache.
    let engine = Engine::new(EngineSettings { compiler: Some("/nowhere".into()), ..settings }).unwrap();
    let prepared = engine.prepare(wasm).await.unwrap();
    check(&sandbox(&engine, policy()).run(&prepared, call(&message())).await, Verdict::Success, "");
    assert!(matches!(engine.prepare(handler("nop")).await, Err(PrepareError::Host(_))));
}
