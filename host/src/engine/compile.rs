//! Compiles a component to machine code, in a child process under limits.
//!
//! Hostile input can make a compiler use time and memory without end, so the
//! compiler runs in a process of its own that can be killed. One compilation
//! runs at a time. The machine code is loaded with `deserialize`, which trusts
//! its input as code: it must never get other bytes than this compiler wrote.
//!
//! When the child ends without code, this module decides whose fault that is.
//! Before it reads the component the child compiles a small one of ours, so a
//! failure until then is the host's fault. Afterwards every end that the child
//! itself comes to, including a panic or a crash, is the component's fault.
//! Being killed from outside is the host's.

use std::io::{Read, Write};
use std::panic::PanicHookInfo;
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::limits::{
    Allocation, COMPILE_ADDRESS_SPACE, COMPILE_CPU_SECONDS, COMPILE_CPU_SECONDS_PER_MIB, COMPILE_THREADS, COMPILE_WALL,
    MAX_ARTEFACT_BYTES, MAX_COMPLAINT_BYTES, MAX_UPLOAD_BYTES, config,
};

/// The hidden subcommand that runs [`compile_child_main`]; its only argument is
/// its limit of CPU seconds.
const SUBCOMMAND: &str = "compile-component";

/// The exit code of a child that refused the component; its standard error says
/// why.
const EXIT_REFUSED: u8 = 10;

/// The exit code of a child that panicked over the component; its standard
/// error is the panic's message.
const EXIT_PANICKED: u8 = 11;

/// What the child compiles before it reads the component:
/// `(component (core module (func)))`.
const PROBE: &[u8] =
    b"\0asm\x0d\0\x01\0\x01\x18\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a\x04\x01\x02\0\x0b";

/// The kernel's file with the likelihood that it kills this process when memory
/// is short.
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// The highest likelihood: the kernel kills the compiler before the host.
const OOM_FIRST: &str = "1000";

/// Whether this process, a child, has begun to work on the component.
static HAS_COMPONENT: AtomicBool = AtomicBool::new(false);

/// The niceness of the child, so that running handlers get the processors first.
const CHILD_NICENESS: libc::c_int = 5;

/// Why there is no machine code.
#[derive(Debug)]
pub(super) enum CompileFailure {
    /// The component's fault.
    Refused(String),
    /// The host's fault.
    Host(String),
}

/// Compiles a component in a child if there is a compiler, otherwise in this
/// process and without limits, which suits tests only.
pub(super) async fn compile(compiler: Option<&Path>, wasm: Bytes) -> Result<Vec<u8>, CompileFailure> {
    match compiler {
        Some(program) => compile_in_child(program, &wasm).await,
        None => tokio::task::spawn_blocking(move || compile_here(&wasm))
            .await
            .map_err(|error| CompileFailure::Host(format!("the compiler stopped: {error}")))?,
    }
}

fn compile_here(wasm: &[u8]) -> Result<Vec<u8>, CompileFailure> {
    // The machine code is the same for both allocations; this one reserves no
    // address space for a pool that nobody would use.
    let engine = wasmtime::Engine::new(&config(Allocation::OnDemand))
        .map_err(|error| CompileFailure::Host(format!("the compiler cannot start: {error:#}")))?;
    engine
        .precompile_component(wasm)
        .map_err(|error| CompileFailure::Refused(format!("the component does not compile: {error:#}")))
}

async fn compile_in_child(program: &Path, wasm: &[u8]) -> Result<Vec<u8>, CompileFailure> {
    let cpu_seconds = cpu_seconds(wasm.len());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(COMPILE_THREADS);
    let mut child = Command::new(program)
        .arg(SUBCOMMAND)
        .arg(cpu_seconds.to_string())
        .env_clear()
        .env("RAYON_NUM_THREADS", threads.to_string())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| CompileFailure::Host(format!("cannot run the compiler {}: {error}", program.display())))?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(CompileFailure::Host("the compiler was started without pipes".into()));
    };
    let work = async {
        let feed = async move {
            // A child that refuses early may not read to the end: its exit code says
            // more than the broken pipe.
            let _ = stdin.write_all(wasm).await;
        };
        let ((), artefact, complaint) =
            tokio::join!(feed, read_up_to(stdout, MAX_ARTEFACT_BYTES), read_up_to(stderr, MAX_COMPLAINT_BYTES));
        (child.wait().await, artefact, complaint)
    };
    // At the timeout `work` is dropped, which kills the child.
    let Ok((status, artefact, complaint)) = tokio::time::timeout(COMPILE_WALL, work).await else {
        let seconds = COMPILE_WALL.as_secs();
        // A child that uses CPU time is ended by its limit, long before.
        return Err(CompileFailure::Host(format!("compiling took longer than {seconds} s: the machine is too busy")));
    };
    let host = |error: std::io::Error| CompileFailure::Host(format!("cannot talk to the compiler: {error}"));
    let (status, artefact, complaint) = (status.map_err(host)?, artefact.map_err(host)?, complaint.map_err(host)?);
    judge_child(status, artefact, &String::from_utf8_lossy(&complaint), cpu_seconds)
}

/// The CPU seconds that the compilation of a component of this size may use.
fn cpu_seconds(bytes: usize) -> u64 {
    const MIB: usize = 1024 * 1024;
    COMPILE_CPU_SECONDS + COMPILE_CPU_SECONDS_PER_MIB * bytes.div_ceil(MIB) as u64
}

fn judge_child(
    status: ExitStatus,
    artefact: Vec<u8>,
    complaint: &str,
    cpu_seconds: u64,
) -> Result<Vec<u8>, CompileFailure> {
    use std::os::unix::process::ExitStatusExt;

    let complaint = complaint.trim();
    if status.success() {
        if artefact.len() > MAX_ARTEFACT_BYTES {
            return Err(CompileFailure::Refused("its machine code is larger than the host accepts".into()));
        }
        return Ok(artefact);
    }
    match status.code().map(u8::try_from) {
        Some(Ok(EXIT_REFUSED)) => return Err(CompileFailure::Refused(complaint.to_owned())),
        Some(Ok(EXIT_PANICKED)) => {
            return Err(CompileFailure::Refused(format!("the compiler gave up on it: {complaint}")));
        }
        _ => {}
    }
    match status.signal() {
        Some(libc::SIGXCPU) => Err(CompileFailure::Refused(format!(
            "compiling it burned more than the limit of {cpu_seconds} s of CPU: make it smaller or split its \
             largest functions"
        ))),
        // A failed allocation aborts; a deep recursion overflows the stack.
        Some(libc::SIGABRT | libc::SIGSEGV | libc::SIGBUS) => Err(CompileFailure::Refused(format!(
            "compiling it needed more memory than the limit of {}",
            super::fault::size(COMPILE_ADDRESS_SPACE)
        ))),
        // Nobody sends these signals: the compiler itself failed on the component.
        Some(signal @ (libc::SIGILL | libc::SIGTRAP | libc::SIGFPE | libc::SIGSYS)) => {
            Err(CompileFailure::Refused(format!("the compiler crashed over it (signal {signal})")))
        }
        Some(libc::SIGKILL) => Err(CompileFailure::Host(
            "the compiler was killed: most likely the machine is short of memory, which the kernel's log tells".into(),
        )),
        _ => Err(CompileFailure::Host(format!("the compiler ended with {status}: {complaint}"))),
    }
}

/// Reads to the end and keeps at most `limit` bytes and one more; the rest is
/// discarded, so that the writer does not block.
async fn read_up_to(mut from: impl AsyncRead + Unpin, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    (&mut from).take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(bytes)
}

/// Whether a host started this process as a compiler, by its first argument.
#[must_use]
pub fn is_compile_child() -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == SUBCOMMAND)
}

/// What the hidden subcommand `courier compile-component` runs: reads a
/// component on standard input, writes machine code on standard output. It
/// limits itself before it reads the first byte.
#[must_use]
pub fn compile_child_main() -> ExitCode {
    std::panic::set_hook(Box::new(end_on_panic));
    match compile_stdin() {
        Ok(()) => ExitCode::SUCCESS,
        Err(CompileFailure::Refused(why)) => {
            eprintln!("{why}");
            ExitCode::from(EXIT_REFUSED)
        }
        Err(CompileFailure::Host(why)) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Ends the child with the panic's message, and with an exit code that says whose
/// fault it was.
fn end_on_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("it panicked without a message");
    eprintln!("{message}");
    let code = if HAS_COMPONENT.load(Ordering::SeqCst) { EXIT_PANICKED } else { 1 };
    // Other threads may still compile; their results are no longer needed.
    // SAFETY: the call takes a number and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

fn compile_stdin() -> Result<(), CompileFailure> {
    // Without the argument the child has the limit of the smallest component.
    let allowed = std::env::args().nth(2).and_then(|seconds| seconds.parse().ok()).unwrap_or(COMPILE_CPU_SECONDS);
    limit_self(allowed).map_err(|error| CompileFailure::Host(format!("cannot limit the compiler: {error}")))?;
    compile_here(PROBE).map_err(|(CompileFailure::Refused(why) | CompileFailure::Host(why))| {
        CompileFailure::Host(format!("the compiler does not work here: {why}"))
    })?;
    let mut wasm = Vec::new();
    std::io::stdin()
        .lock()
        .take(MAX_UPLOAD_BYTES as u64 + 1)
        .read_to_end(&mut wasm)
        .map_err(|error| CompileFailure::Host(format!("cannot read the component: {error}")))?;
    HAS_COMPONENT.store(true, Ordering::SeqCst);
    super::component::inspect(&wasm).map_err(|refused| CompileFailure::Refused(refused.to_string()))?;
    let artefact = compile_here(&wasm)?;
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(&artefact)
        .and_then(|()| stdout.flush())
        .map_err(|error| CompileFailure::Host(format!("cannot write the machine code: {error}")))
}

/// Limits this process: memory, CPU, no files written, no core dump, and a
/// lower priority than the host's.
fn limit_self(cpu_seconds: u64) -> std::io::Result<()> {
    // When memory is short the kernel should kill this process and not the host,
    // its parent. A system without this file decides by size alone.
    let _ = std::fs::write(OOM_SCORE, OOM_FIRST);
    let limits = [
        (libc::RLIMIT_AS, COMPILE_ADDRESS_SPACE),
        (libc::RLIMIT_CPU, cpu_seconds),
        (libc::RLIMIT_FSIZE, 0),
        (libc::RLIMIT_CORE, 0),
    ];
    for (resource, most) in limits {
        // The hard limit of CPU time is above the soft one, so that the signal says
        // which limit was met.
        let hard = if resource == libc::RLIMIT_CPU { most + 1 } else { most };
        let limit = libc::rlimit { rlim_cur: most, rlim_max: hard };
        // SAFETY: `limit` is a valid rlimit that the call only reads.
        if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    // SAFETY: the call takes numbers only. If the system refuses, the compiler
    // competes with the host, which is no reason to stop.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, CHILD_NICENESS) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Compiles with a program that behaves like this script.
    async fn with_compiler(script: &str) -> Result<Vec<u8>, CompileFailure> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("compiler");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        loop {
            match compile(Some(&program), Bytes::from(vec![b'x'; 1 << 20])).await {
                // A child that another test forks at this moment still holds
                // the script open for writing, until it becomes its program.
                Err(CompileFailure::Host(why)) if why.contains("Text file busy") => tokio::task::yield_now().await,
                ended => return ended,
            }
        }
    }

    #[tokio::test]
    async fn what_the_child_says_is_passed_on() {
        let code = with_compiler("test $1 = compile-component && /usr/bin/wc -c").await.unwrap();
        assert_eq!(String::from_utf8_lossy(&code).trim(), "1048576");
    }

    #[tokio::test]
    async fn its_end_tells_whose_fault_it_was() {
        for (script, expected) in [
            ("echo it is odd >&2; exit 10", "it is odd"),
            ("kill -XCPU $$", "burned more than the limit of 21 s of CPU"),
            ("kill -ABRT $$", "needed more memory than the limit of 4GiB"),
            ("echo multiple memories >&2; exit 11", "the compiler gave up on it"),
            ("echo multiple memories >&2; exit 11", "multiple memories"),
            ("kill -ILL $$", "the compiler crashed over it"),
        ] {
            let Err(CompileFailure::Refused(why)) = with_compiler(script).await else {
                panic!("{script}: not refused")
            };
            assert!(why.contains(expected), "{why}");
        }
        for script in ["echo broken >&2; exit 1", "kill -KILL $$", "kill -TERM $$"] {
            assert!(matches!(with_compiler(script).await, Err(CompileFailure::Host(_))), "{script}");
        }
        assert!(matches!(compile(Some(Path::new("/nowhere")), Bytes::new()).await, Err(CompileFailure::Host(_))));
    }

    #[test]
    fn a_larger_component_may_burn_more() {
        assert_eq!(cpu_seconds(0), COMPILE_CPU_SECONDS);
        assert_eq!(cpu_seconds(18 << 20), 38);
        assert_eq!(cpu_seconds(MAX_UPLOAD_BYTES), 60);
    }

    #[test]
    fn the_probe_is_a_component_that_compiles() {
        let probe = wat::parse_str("(component (core module (func)))").unwrap();
        assert_eq!(PROBE, probe);
        assert!(compile_here(PROBE).is_ok());
    }
}
