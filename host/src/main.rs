//! The `courier` program: parse, trace, run, exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

/// jemalloc, for the C libraries too: a message is some dozens of small allocations that
/// one thread makes and another frees, for which glibc's allocator takes a fifth of the
/// processor time of a no-op handler.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long the exit waits for threads that block on a request.
const LEFTOVERS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // The child that compiles uploads limits its own memory and time, so it
    // starts before there are threads.
    if courier::engine::is_compile_child() {
        return courier::engine::compile_child_main();
    }
    run()
}

fn run() -> ExitCode {
    let cli = courier::cli::Cli::parse();
    cli.trace();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli.run());
    // A thread may still wait for an unreachable Kafka.
    runtime.shutdown_timeout(LEFTOVERS);
    code
}
