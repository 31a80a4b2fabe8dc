//! The `courier` program: parse, trace, run, exit code.

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = courier::cli::Cli::parse();
    cli.trace();
    cli.run().await
}
