//! Tests of who gets a slot when there are too few, and how long a call is
//! throttled.

use super::*;

/// Longer than any test runs.
const HELD: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_full_host_says_so_once_an_attempt_has_waited_for_room() {
    let engine = engine();
    let plugin = engine.prepare(handler("(loop (br 0))")).await.unwrap();
    let message = message();
    let brake = Arc::new(Slow { wait: HELD, ..Slow::default() });
    let slow = || held_by(Arc::clone(&brake), &engine, policy());
    let (mut first, mut second, mut third) = (slow(), slow(), sandbox(&engine, policy()));
    let busy = async { tokio::join!(first.run(&plugin, call(&message)), second.run(&plugin, call(&message))) };
    tokio::select! {
        biased;
        _ = busy => panic!("they are held"),
        ended = third.run(&plugin, call(&message)) => {
            check(&ended, Verdict::NoRoom, "all of its 2 sandboxes are used or reserved for other groups; stock runs in 2");
        }
    }
    check(&third.run(&plugin, call(&message)).await, Verdict::CpuLimit, "");
}

/// An idle group kept all slots, and another had none until a restart.
#[tokio::test]
async fn idle_kept_instances_give_way_to_whoever_finds_the_pool_full() {
    let engine = engine();
    let body = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                (if (i32.eq (global.get $calls) (i32.const 2)) (then unreachable))";
    let plugin = engine.prepare(handler(body)).await.unwrap();
    let kept = Policy { isolation: Isolation::Instance, ..policy() };
    let message = message();
    let (mut first, mut second) = (sandbox(&engine, kept.clone()), sandbox(&engine, kept.clone()));
    for idle in [&mut first, &mut second] {
        check(&idle.run(&plugin, call(&message)).await, Verdict::Success, "");
    }
    let mut other = sandbox(&engine, Policy { group: "other".into(), ..kept });
    check(&other.run(&plugin, call(&message)).await, Verdict::Success, "");
    check(&second.run(&plugin, call(&message)).await, Verdict::Trap, "");
    check(&first.run(&plugin, call(&message)).await, Verdict::Success, "");
}

/// The size of the pool relies on the mappings that a slot takes.
#[tokio::test]
async fn a_slot_takes_no_more_mappings_than_are_counted_for_it() {
    const INSTANCES: u64 = 64;
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count() as u64;
    let engine =
        Engine::new(EngineSettings { compiler: None, cache_dir: None, cache_key: [0; 32], slots: 64 }).unwrap();
    let plugin = engine.prepare(handler("")).await.unwrap();
    let kept = Policy { isolation: Isolation::Instance, ..policy() };
    let before = mappings();
    let mut sandboxes: Vec<Sandbox> = (0..INSTANCES).map(|_| sandbox(&engine, kept.clone())).collect();
    for sandbox in &mut sandboxes {
        check(&sandbox.run(&plugin, call(&message())).await, Verdict::Success, "");
    }
    let taken = mappings().saturating_sub(before);
    // Other tests of this process map memory too, far less than this.
    assert!(taken <= INSTANCES * limits::MAPPINGS_PER_SLOT, "{taken} mappings for {INSTANCES} instances");
}

/// A throttled handler had no bound of wall time.
#[tokio::test]
async fn a_call_is_held_at_most_ten_times_its_timeout() {
    let engine = engine();
    let plugin = engine.prepare(handler("(loop (br 0))")).await.unwrap();
    let brake = Arc::new(Slow { wait: HELD, ..Slow::default() });
    let (timeout, cpu) = (Duration::from_millis(50), Duration::from_secs(5));
    let mut sandbox = held_by(brake, &engine, Policy { timeout, cpu, ..policy() });
    let message = message();
    let ended = tokio::time::timeout(HELD / 60, sandbox.run(&plugin, call(&message))).await.expect("it is let go");
    check(&ended, Verdict::Timeout, "");
}
