//! `cargo xtask faults --minutes N`: the fault tests at their full size, round
//! after round, for as long as asked.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use crate::steps::HostBuild;
use crate::{steps, test};

/// The test modules that break things on purpose.
pub const MODULES: &[&str] = &["crash::", "cluster::", "outage::"];

#[derive(Args)]
pub struct Arguments {
    /// Begin new rounds for this many minutes; a round is always run to its end.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Run only tests whose name contains this.
    #[arg(long)]
    filter: Option<String>,
}

/// Runs the rounds. Returns whether none failed.
pub fn run(root: &Path, arguments: &Arguments) -> Result<bool> {
    test::prepare(root, HostBuild::Optimised)?;
    let begin = Instant::now();
    let limit = Duration::from_secs(arguments.minutes * 60);
    let mut rounds = Vec::new();
    loop {
        let number = rounds.len() + 1;
        let round = steps::step("faults", &format!("round {number}"), || {
            let filters: Vec<&str> = match &arguments.filter {
                Some(filter) => vec![filter],
                None => MODULES.iter().copied().chain(["failures::"]).collect(),
            };
            test::journeys(root, HostBuild::Optimised, "full", &filters, &[])
        });
        let failed = round.failure.is_some();
        rounds.push(round);
        // A failure ends the run, so that its logs are still there.
        if failed || begin.elapsed() >= limit {
            break;
        }
    }
    Ok(steps::summary(&rounds))
}
