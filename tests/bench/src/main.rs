//! Benchmarks: Courier against the programs one would otherwise write, and
//! against itself.
//!
//! [`journey`] is W1: a topic filled before, a fresh group for each run, the
//! contenders ([`contender`], [`peers`]) in turn (A B A B ..) on one machine, and
//! ratios between them. [`fairness`] is how long a group's messages take beside
//! one that misbehaves, [`indexes`] what the lists cost the journey, [`call`] the
//! engine alone, [`lists`] the API over a full store. Figures are medians with their spread; nothing here passes or fails.

mod call;
mod contender;
mod fairness;
mod indexes;
mod journey;
mod lists;
mod load;
mod peers;
mod processors;
mod progress;
mod stored;
mod table;

use clap::{Parser, Subcommand, ValueEnum};
use courier_tests::Store;

use crate::peers::batched;

/// Benchmarks.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Broker to durable status, against a plain consumer with a native handler.
    Journey(journey::Arguments),
    /// How long a group's messages take beside one that misbehaves.
    Fairness(fairness::Arguments),
    /// What the indexes of the console's lists cost the journey.
    Indexes(journey::Common),
    /// CPU time of one call of a handler that does nothing.
    Call(call::Arguments),
    /// How long the API's lists take over millions of deliveries.
    Lists(lists::Arguments),
    /// The plain consumer that `journey` compares with.
    #[command(hide = true)]
    Plain(batched::Arguments),
}

/// A store as it is named on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum StoreName {
    Postgres,
    Sqlite,
}

impl StoreName {
    fn store(self) -> Store {
        match self {
            Self::Postgres => Store::Postgres,
            Self::Sqlite => Store::Sqlite,
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().benchmark {
        Benchmark::Journey(arguments) => journey::run(&arguments).await,
        Benchmark::Fairness(arguments) => fairness::run(&arguments).await,
        Benchmark::Indexes(arguments) => indexes::run(&arguments).await,
        Benchmark::Call(arguments) => call::run(&arguments).await,
        Benchmark::Lists(arguments) => lists::run(&arguments).await,
        Benchmark::Plain(arguments) => batched::run(&arguments).await,
    }
}
