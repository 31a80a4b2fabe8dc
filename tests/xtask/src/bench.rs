//! `cargo xtask bench NAME`: builds what is measured, then hands over to the
//! benchmark program in `tests/bench`, which starts the servers it needs.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::{peers, steps, test};

#[derive(Args)]
pub struct Arguments {
    /// The benchmark, for example `journey`, and its own arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    benchmark: Vec<String>,
}

/// Runs one benchmark. It starts its servers itself, since it asks the kernel
/// what they use.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    test::prepare(root)?;
    if arguments.benchmark.first().is_some_and(|name| name == "peers") {
        peers::prepare(root)?;
    }
    let mut bench = steps::cargo(root, &["run", "--release", "-p", "courier-bench", "--"]);
    bench.args(&arguments.benchmark);
    steps::must("measure", &mut bench)
}
