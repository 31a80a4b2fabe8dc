//! Tests of components of several instances and memories: those that tools make
//! run, hostile ones are kept within the bounds.

use super::*;

/// A component with an adapter between its own instances, as JavaScript tools
/// make them: the compiler panicked over it, and the API answered 500.
#[tokio::test]
async fn a_component_with_adapters_between_its_instances_runs() {
    let wasm = component(&format!(
        r#"(component {FIRST}
            (component $inner
                (core module $m
                    (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
                    (func (export "length") (param i32 i32) (result i32) (local.get 1)))
                (core instance $i (instantiate $m))
                (func (export "length") (param "text" string) (result u32)
                    (canon lift (core func $i "length")
                        (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
            (component $main {FIRST}
                (import "length" (func $length (param "text" string) (result u32)))
                (core module $libc {MEMORY})
                (core instance $libc (instantiate $libc))
                (alias core export $libc "memory" (core memory $memory))
                (alias core export $libc "realloc" (core func $realloc))
                (alias core export $libc "done" (core func $done))
                (core func $length' (canon lower (func $length) (memory $memory)))
                (core module $m
                    (import "libc" "memory" (memory 4))
                    (import "inner" "length" (func $length (param i32 i32) (result i32)))
                    (func (export "handle") (param i32) (result i32)
                        (if (i32.ne (call $length (i32.const 2048) (i32.const 3)) (i32.const 3)) (then unreachable))
                        (i32.const 1024)))
                (core instance $i (instantiate $m
                    (with "libc" (instance $libc))
                    (with "inner" (instance (export "length" (func $length'))))))
                (func (export "handle") (param "message" $message) (param "attempt" $attempt)
                    (result (result (error $failure)))
                    (canon lift (core func $i "handle") (memory $memory) (realloc $realloc) (post-return $done))))
            (instance $inner (instantiate $inner))
            (instance $main (instantiate $main
                (with "courier:plugin/types@1.0.0" (instance $types))
                (with "length" (func $inner "length"))))
            (alias export $main "handle" (func $handle))
            (export "handle" (func $handle)))"#
    ));
    check(&run_component(wasm, policy(), &message()).await, Verdict::Success, "");
}

#[tokio::test]
async fn several_memories_count_together_against_the_bindings_memory() {
    // Four of its own pages and eleven more leave one of the sixteen.
    let memories = "(memory $a 5) (memory $b 6)";
    check(&run_component(handler_of(FIRST, memories, ""), policy(), &message()).await, Verdict::Success, "");
    for (memory, pages, verdict) in
        [("$a", 1, Verdict::Success), ("$b", 1, Verdict::Success), ("$a", 2, Verdict::MemoryLimit)]
    {
        let grow =
            format!("(if (i32.eq (memory.grow {memory} (i32.const {pages})) (i32.const -1)) (then unreachable))");
        check(&run_component(handler_of(FIRST, memories, &grow), policy(), &message()).await, verdict, "");
    }
    let bomb = "(loop (drop (memory.grow $a (i32.const 1))) (drop (memory.grow $b (i32.const 1))) (br 0))";
    check(&run_component(handler_of(FIRST, memories, bomb), policy(), &message()).await, Verdict::CpuLimit, "");
    let large = handler_of(FIRST, "(memory $a 8) (memory $b 8)", "");
    let reason = "it needs more memory than 1MiB (binding `memory`)";
    check(&run_component(large, policy(), &message()).await, Verdict::Instantiate, reason);
}

#[tokio::test]
async fn a_component_of_too_many_parts_is_refused_at_its_upload() {
    let most = usize::try_from(limits::MAX_MEMORIES).unwrap();
    let memories = |count: usize| "(memory 0)".repeat(count);
    check(&run_component(handler_of(FIRST, &memories(most - 1), ""), policy(), &message()).await, Verdict::Success, "");
    let why = refused(handler_of(FIRST, &memories(most), "")).await;
    assert!(why.contains("it has 9 memories, the limit for a component is 8"), "{why}");
    let why = refused(handler_of(FIRST, &"(table 0 funcref)".repeat(33), "")).await;
    assert!(why.contains("it has 33 tables, the limit for a component is 32"), "{why}");
    // Memory in small parts, each in an instance of its own.
    let parts = format!(
        "(core module $part (memory 1)) {}",
        "(core instance (instantiate $part))".repeat(usize::try_from(limits::MAX_CORE_INSTANCES).unwrap())
    );
    let why = refused(handler_of(&format!("{FIRST} {parts}"), "", "")).await;
    assert!(why.contains("memories, the limit for a component is 8"), "{why}");
    let why = refused(handler_of(&format!("{FIRST} {}", parts.replace("(memory 1)", "")), "", "")).await;
    assert!(why.contains("it consists of more than 64 core instances"), "{why}");
}
