//! Tests that a call finds nothing of an earlier one in its sandbox.

use super::*;

/// Looks for a mark in all of its memory, including what it grows, in a global
/// and in a table, fails when it finds one, and leaves one in each of them.
fn hostile() -> Bytes {
    let parts = r#"
        (global $canary (mut i64) (i64.const 0))
        (table $table 8 funcref)
        (func $mark)
        (elem declare func $mark)"#;
    let body = format!(
        r#"(local $at i32) (local $end i32)
        (block $done
            (block $found
                (br_if $found (i64.ne (global.get $canary) (i64.const 0)))
                (br_if $found (i32.eqz (ref.is_null (table.get $table (i32.const 3)))))
                (br_if $found (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
                (local.set $end (i32.mul (memory.size) (i32.const 65536)))
                (loop $look
                    (br_if $found (i64.eq (i64.load (local.get $at)) (i64.const 0x5ca1ab1e0ddba11)))
                    (local.set $at (i32.add (local.get $at) (i32.const 8)))
                    (br_if $look (i32.lt_u (local.get $at) (local.get $end))))
                (global.set $canary (i64.const 1))
                (table.set $table (i32.const 3) (ref.func $mark))
                (local.set $at (i32.const 2048))
                (loop $leave
                    (i64.store (local.get $at) (i64.const 0x5ca1ab1e0ddba11))
                    (local.set $at (i32.add (local.get $at) (i32.const 8)))
                    (br_if $leave (i32.lt_u (local.get $at) (local.get $end))))
                (br $done))
            {})"#,
        failing(2)
    );
    handler_of(FIRST, parts, &body)
}

/// The number of calls of each group.
fn calls() -> u32 {
    let is_full = std::env::var("COURIER_TEST_SCALE").is_ok_and(|scale| scale == "full");
    if is_full { 500_000 } else { 1_000 }
}

/// Under message isolation each call has an instance of its own: nothing that a
/// call wrote is there for the next one, of its own group or of another group
/// that gets its slot.
#[tokio::test]
async fn nothing_of_an_earlier_call_is_found_under_message_isolation() {
    let engine = engine();
    let plugin = engine.prepare(hostile()).await.unwrap();
    let message = message();
    let cpu = Duration::from_secs(5);
    let mut groups = ["stock", "other"].map(|group| sandbox(&engine, Policy { group: group.into(), cpu, ..policy() }));
    for _ in 0..calls() {
        for group in &mut groups {
            check(&group.run(&plugin, call(&message)).await, Verdict::Success, "");
        }
    }
    // The check works: in a kept instance the mark is there.
    let mut kept = sandbox(&engine, Policy { isolation: Isolation::Instance, cpu, ..policy() });
    check(&kept.run(&plugin, call(&message)).await, Verdict::Success, "");
    check(&kept.run(&plugin, call(&message)).await, Verdict::Reject, "no");
}
