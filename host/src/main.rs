//! The `courier` program: parse, trace, run, exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

/// How long the end waits for threads that are still asking somebody.
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
    // A question to a Kafka that is away may still wait for its answer.
    runtime.shutdown_timeout(LEFTOVERS);
    code
}
