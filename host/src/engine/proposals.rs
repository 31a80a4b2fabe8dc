//! The proposals of WebAssembly that are not offered, with words for each.
//!
//! The validator alone would name what it met first (`task.cancel requires ..`),
//! which tells an author neither what the component uses nor how to build it
//! without.

use wasmparser::{BinaryReaderError, Validator, WasmFeatures};

/// A proposal of WebAssembly that this host does not offer.
struct Proposal {
    features: WasmFeatures,
    /// What a component of it uses.
    what: &'static str,
    /// How to build it without.
    remedy: &'static str,
}

/// What the compiler refuses ([`limits`](super::limits) configures it, and the
/// features of `wasmtime` in `Cargo.toml` say what it has).
const NOT_OFFERED: [Proposal; 5] = [
    Proposal {
        features: WasmFeatures::CM_ASYNC
            .union(WasmFeatures::CM_ASYNC_STACKFUL)
            .union(WasmFeatures::CM_MORE_ASYNC_BUILTINS)
            .union(WasmFeatures::CM_ERROR_CONTEXT),
        what: "asynchronous functions of the component model (WASI 0.3)",
        remedy: "build it with synchronous functions, for WASI 0.2 (componentize-qjs: `--sync`)",
    },
    Proposal { features: WasmFeatures::MEMORY64, what: "64-bit memories", remedy: "build it for wasm32" },
    Proposal {
        features: WasmFeatures::THREADS.union(WasmFeatures::SHARED_EVERYTHING_THREADS),
        what: "threads (shared memory or atomic instructions)",
        remedy: "build it without threads",
    },
    Proposal {
        features: WasmFeatures::EXCEPTIONS.union(WasmFeatures::LEGACY_EXCEPTIONS),
        what: "the exceptions of WebAssembly",
        remedy: "build it without them (clang: `-fno-exceptions`, and `-fno-wasm-exceptions`)",
    },
    Proposal {
        features: WasmFeatures::GC.union(WasmFeatures::GC_TYPES),
        what: "garbage-collected types of WebAssembly (structs, arrays, `externref`)",
        remedy: "build it with a compiler that keeps its objects in the memory",
    },
];

/// The features that are offered.
fn offered() -> WasmFeatures {
    let all = WasmFeatures::WASM3.union(WasmFeatures::COMPONENT_MODEL);
    NOT_OFFERED.iter().fold(all, |offered, proposal| offered.difference(proposal.features))
}

/// Says in one sentence what is not valid, or not offered.
pub(super) fn validate(wasm: &[u8]) -> Result<(), String> {
    let Err(error) = validate_with(wasm, offered()) else { return Ok(()) };
    Err(match needed_proposal(wasm) {
        Some(Proposal { what, remedy, .. }) => format!("it uses {what}, which this host does not offer: {remedy}"),
        None => format!("not a valid WebAssembly component: {error}"),
    })
}

/// A proposal without which the component is not valid, if the proposals that
/// are not offered are all that is wrong with it.
fn needed_proposal(wasm: &[u8]) -> Option<&'static Proposal> {
    let every = NOT_OFFERED.iter().fold(offered(), |features, proposal| features.union(proposal.features));
    // Of what is broken otherwise nothing more is read: mutated uploads are many.
    validate_with(wasm, every).ok()?;
    NOT_OFFERED.iter().find(|proposal| validate_with(wasm, every.difference(proposal.features)).is_err())
}

fn validate_with(wasm: &[u8], features: WasmFeatures) -> Result<(), BinaryReaderError> {
    Validator::new_with_features(features).validate_all(wasm).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The refusal of a component whose core module has these parts.
    fn refusal(parts: &str) -> String {
        let wasm = wat::parse_str(format!("(component (core module {parts}))")).expect("the text is WebAssembly");
        validate(&wasm).expect_err("it should be refused")
    }

    #[test]
    fn what_the_host_does_not_offer_is_named_with_its_remedy() {
        for (parts, what, remedy) in [
            ("(memory i64 1)", "it uses 64-bit memories, which this host does not offer", "wasm32"),
            ("(memory 1 1 shared)", "it uses threads", "without threads"),
            ("(memory 1) (func (drop (i32.atomic.load (i32.const 0))))", "it uses threads", "without threads"),
            ("(tag $t) (func (throw $t))", "it uses the exceptions of WebAssembly", "-fno-exceptions"),
            ("(type (struct (field i32)))", "it uses garbage-collected types", "keeps its objects"),
            ("(func (param externref))", "it uses garbage-collected types", "keeps its objects"),
            // One of several is enough to begin with.
            ("(memory i64 1 1 shared)", "it uses 64-bit memories", "wasm32"),
        ] {
            let text = refusal(parts);
            assert!(text.starts_with(what) && text.contains(remedy), "{parts}: {text}");
        }
    }

    #[test]
    fn an_asynchronous_component_is_told_to_become_synchronous() {
        let wasm = wat::parse_str("(component (core func (canon task.cancel)))").expect("the text is WebAssembly");
        let text = validate(&wasm).expect_err("it should be refused");
        assert!(text.contains("it uses asynchronous functions") && text.contains("`--sync`"), "{text}");
    }

    #[test]
    fn what_is_broken_as_well_is_not_blamed_on_a_proposal() {
        let text = refusal("(memory i64 1) (func (result i32))");
        assert!(text.starts_with("not a valid WebAssembly component: "), "{text}");
    }

    #[test]
    fn what_the_compiler_takes_is_valid() {
        let parts = "(memory 1) (memory 1) (type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0))) \
                     (func $tail (return_call $tail)) (func (result v128) (v128.const i64x2 0 0))";
        let wasm = wat::parse_str(format!("(component (core module {parts}))")).expect("the text is WebAssembly");
        validate(&wasm).expect("it uses only what is offered");
    }
}
