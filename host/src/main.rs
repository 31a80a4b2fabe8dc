//! The `courier` program: parse, trace, run, exit code.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // The child that compiles uploads limits its own memory and time, so it
    // starts before there are threads.
    if courier::engine::is_compile_child() {
        return courier::engine::compile_child_main();
    }
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    let cli = courier::cli::Cli::parse();
    cli.trace();
    cli.run().await
}
