//! `cargo xtask bench NAME`: starts the servers, then hands over to the
//! benchmark program in `tests/bench`.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::servers::{Kafka, Postgres};
use crate::{steps, test};

#[derive(Args)]
pub struct Arguments {
    /// The benchmark, for example `journey`, and its own arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    benchmark: Vec<String>,
}

/// Runs one benchmark on real servers of this run.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    test::prepare(root)?;
    steps::say("start Kafka and PostgreSQL for the benchmark");
    let kafka = Kafka::obtain("bench")?;
    let postgres = Postgres::obtain("bench")?;
    let mut bench = steps::cargo(root, &["run", "--release", "-p", "courier-bench", "--"]);
    bench.args(&arguments.benchmark);
    bench.env("COURIER_TEST_KAFKA", kafka.bootstrap()).env("COURIER_TEST_POSTGRES", postgres.create_database()?);
    steps::must("measure", &mut bench)
}
