//! `cargo xtask bench NAME`: builds the host and the peers, then runs the benchmark
//! program in `tests/bench`, which starts the servers that it needs.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::steps::HostBuild;
use crate::{peers, steps, test};

#[derive(Args)]
pub struct Arguments {
    /// The benchmark, for example `journey`, and its own arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    benchmark: Vec<String>,
}

/// Runs one benchmark. The benchmark starts its servers itself, because it measures
/// their resources.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    test::prepare(root, HostBuild::Optimised)?;
    if arguments.benchmark.first().is_some_and(|name| name == "peers") {
        peers::prepare(root)?;
    }
    let mut bench = steps::cargo(root, &["run", "--release", "-p", "courier-bench", "--"]);
    bench.args(&arguments.benchmark);
    steps::must("measure", &mut bench)
}
