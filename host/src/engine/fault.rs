//! Turns the end of a failed call into a verdict and a reason for a developer.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use courier_core::verdict::Verdict;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::Policy;
use super::clock::CpuExceeded;
use super::limits::{MAX_REASON_BYTES, TRAP_FRAMES};
use super::slots::NoSlot;

/// Why a call did not return.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) verdict: Verdict,
    pub(super) reason: String,
}

impl Fault {
    /// The call took longer than the binding's `timeout`.
    pub(super) fn timeout(policy: &Policy) -> Self {
        let reason = format!("took longer than {} (binding `timeout`)", duration(policy.timeout));
        Self { verdict: Verdict::Timeout, reason }
    }

    /// The call used more CPU time than the binding's `cpu`.
    pub(super) fn cpu(policy: &Policy) -> Self {
        let reason = format!("used more than {} of CPU (binding `cpu`)", duration(policy.cpu));
        Self { verdict: Verdict::CpuLimit, reason }
    }

    /// There is no room for another instance.
    pub(super) fn no_room(no_slot: NoSlot, group: &str) -> Self {
        let NoSlot { slots, held, reserved } = no_slot;
        let reason = format!(
            "the host has no room for another instance: all of its {slots} sandboxes are used or reserved for other \
             groups; {group} runs in {held} of them, and {reserved} are reserved for it"
        );
        Self { verdict: Verdict::NoRoom, reason }
    }

    /// The instance could not be made. `refused`: it asked for more memory than the
    /// binding allows.
    pub(super) fn instantiate(error: &wasmtime::Error, refused: bool, policy: &Policy) -> Self {
        if error.is::<PoolConcurrencyLimitError>() {
            let reason = format!("the host has no room for another instance: {}", error.root_cause());
            return Self { verdict: Verdict::NoRoom, reason };
        }
        let why = if refused {
            format!("it needs more memory than {} (binding `memory`)", size(policy.memory))
        } else if error.is::<CpuExceeded>() {
            format!("it {}", Self::cpu(policy).reason)
        } else if let Some(trap) = error.downcast_ref::<Trap>() {
            format!("it {}", trap_in_words(*trap))
        } else {
            chain(error)
        };
        Self { verdict: Verdict::Instantiate, reason: cut(format!("the handler could not be started: {why}")) }
    }

    /// The call trapped. `refused`: it was refused memory before; `printed`: the end
    /// of what it wrote to standard error and logged as errors.
    pub(super) fn trapped(error: &wasmtime::Error, refused: bool, printed: &str, policy: &Policy) -> Self {
        if error.is::<CpuExceeded>() {
            let mut fault = Self::cpu(policy);
            fault.reason.push_str(&place(error));
            return fault;
        }
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            // WASI 0.2 has no exit code, only success or failure.
            let how = if exit.0 == 0 { "with success" } else { "with failure" };
            let reason = format!("exited {how} instead of returning from the handler{}", panicked(printed));
            return Self { verdict: Verdict::Trap, reason: cut(reason) };
        }
        let trap = error.downcast_ref::<Trap>().copied();
        if trap == Some(Trap::StackOverflow) || (trap == Some(Trap::MemoryOutOfBounds) && recursed(error)) {
            let reason = format!("overflowed its stack, most likely by endless recursion{}", place(error));
            return Self { verdict: Verdict::StackOverflow, reason: cut(reason) };
        }
        if refused {
            let reason =
                format!("needed more memory than {} (binding `memory`){}", size(policy.memory), panicked(printed));
            return Self { verdict: Verdict::MemoryLimit, reason: cut(reason) };
        }
        let what = match trap {
            Some(trap) => trap_in_words(trap).into_owned(),
            None => format!("was ended: {}", chain(error)),
        };
        let reason = format!("{what}{}{}", panicked(printed), place(error));
        Self { verdict: Verdict::Trap, reason: cut(reason) }
    }
}

/// Cuts a reason to its bound.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > MAX_REASON_BYTES {
        let mut end = MAX_REASON_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

fn trap_in_words(trap: Trap) -> Cow<'static, str> {
    Cow::Borrowed(match trap {
        Trap::UnreachableCodeReached => "panicked or aborted (`unreachable` was executed)",
        Trap::MemoryOutOfBounds => "accessed memory out of bounds",
        Trap::TableOutOfBounds => "accessed a table out of bounds",
        Trap::HeapMisaligned => "accessed memory at an address that is not aligned",
        Trap::IndirectCallToNull => "called a function pointer that is null",
        Trap::BadSignature => "called a function pointer of another type",
        Trap::IntegerOverflow => "overflowed an integer",
        Trap::IntegerDivisionByZero => "divided an integer by zero",
        Trap::BadConversionToInteger => "converted a number that fits no integer",
        Trap::StackOverflow => "overflowed its stack",
        Trap::Interrupt => "was interrupted",
        Trap::CannotEnterComponent => "was called while it was being called",
        // A runtime whose garbage collector reads the clock when memory is asked of it
        // does this (Go).
        Trap::CannotLeaveComponent => {
            "called an import while it was given its arguments or after it had returned, when it may call none"
        }
        other => return Cow::Owned(format!("trapped: {}", other.to_string().trim_start_matches("wasm trap: "))),
    })
}

/// Whether the trap is a stack overflow. A Rust or C guest has most of its stack
/// in linear memory, and overflows it with an access out of bounds. When one
/// function fills much of the backtrace, the cause is a recursion and not a
/// wrong pointer.
fn recursed(error: &wasmtime::Error) -> bool {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return false };
    let frames = trace.frames();
    let most = frames
        .iter()
        .map(|frame| frames.iter().filter(|other| other.func_index() == frame.func_index()).count())
        .max()
        .unwrap_or(0);
    most >= 4 && most * 3 >= frames.len()
}

/// The innermost named functions, as `, in a < b < c`.
fn place(error: &wasmtime::Error) -> String {
    let mut text = String::new();
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return text };
    let mut last = "";
    let mut named = 0;
    for name in trace.frames().iter().filter_map(|frame| frame.func_name()) {
        // Runtime functions of the language say nothing about the handler, and a
        // recursive function is named once.
        let machinery = ["rust_panic", "core9panicking", "3std9panicking", "__rust", "abort", "3std3sys", "3std5alloc"];
        if name == last || machinery.iter().any(|part| name.contains(part)) {
            continue;
        }
        last = name;
        let _ = write!(text, "{} {:#}", if named == 0 { ", in" } else { " <" }, rustc_demangle::demangle(name));
        named += 1;
        if named == TRAP_FRAMES {
            break;
        }
    }
    text
}

/// The last panic message in the printed text, as `: panicked at ..`. Rust prints
/// `panicked at <place>:` and the message on the lines after it.
fn panicked(printed: &str) -> String {
    let Some((_, rest)) = printed.rsplit_once("panicked at ") else { return String::new() };
    let mut lines = rest.lines().take_while(|line| !line.starts_with("note: ") && !line.starts_with("stack backtrace"));
    let place = lines.next().unwrap_or_default().trim_end_matches(':');
    let message: Vec<&str> = lines.map(str::trim_end).filter(|line| !line.is_empty()).collect();
    format!(": panicked at {place}: {}", message.join(" "))
}

fn chain(error: &wasmtime::Error) -> String {
    // The backtrace is context of the error and many lines long, so it is left out.
    let parts: Vec<String> = error
        .chain()
        .map(ToString::to_string)
        .filter(|part| !part.starts_with("error while executing at wasm backtrace"))
        .collect();
    parts.join(": ")
}

/// A duration as the configuration writes it.
fn duration(time: Duration) -> String {
    let ms = time.as_millis();
    if ms > 0 && ms.is_multiple_of(1_000) { format!("{}s", ms / 1_000) } else { format!("{ms}ms") }
}

/// A size as the configuration writes it.
pub(super) fn size(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_panic_is_found() {
        let printed =
            "x\nthread 'main' panicked at src/lib.rs:5:9:\nboom\nand more\nnote: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(panicked(printed), ": panicked at src/lib.rs:5:9: boom and more");
        assert_eq!(panicked("nothing here"), "");
        assert_eq!(panicked("panicked at "), ": panicked at : ");
    }

    #[test]
    fn every_trap_says_what_it_was() {
        assert!(trap_in_words(Trap::CannotLeaveComponent).starts_with("called an import while it was given"));
        assert_eq!(trap_in_words(Trap::NullReference), "trapped: null reference");
    }

    #[test]
    fn sizes_and_durations_read_as_in_the_configuration() {
        assert_eq!(size(64 << 20), "64MiB");
        assert_eq!(size(1000), "1000 bytes");
        assert_eq!(duration(Duration::from_secs(5)), "5s");
        assert_eq!(duration(Duration::from_millis(500)), "500ms");
        assert_eq!(duration(Duration::ZERO), "0ms");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let long = cut("ü".repeat(MAX_REASON_BYTES));
        assert!(long.len() <= MAX_REASON_BYTES + '…'.len_utf8());
        assert!(long.ends_with('…'));
    }
}
