//! Benchmarks: Courier against the programs one would otherwise write, and
//! against itself.
//!
//! [`versus`] measures W1 to W5 against all [`peers`] and writes one report.
//! [`journey`] is W1 on either store against the plain consumer: a topic filled
//! before, a fresh group for each run, the contenders ([`contender`]) in turn
//! (A B A B ..) on one machine, and ratios between them. [`fairness`] measures a
//! group's latency beside a group that misbehaves, [`push`] services as handlers,
//! [`idle`] a host without messages, [`indexes`] the cost of the lists' indexes,
//! [`call`] the engine alone, [`parts`] the pure parts alone, [`lists`] the API over a
//! full store. Figures are medians with their spread;
//! only `parts --instructions` can fail.

mod call;
mod contender;
mod fairness;
mod idle;
mod indexes;
mod journey;
mod lists;
mod load;
mod parts;
mod peers;
mod processors;
mod progress;
mod push;
mod stored;
mod table;
mod versus;

use clap::{Parser, Subcommand, ValueEnum};
use courier_tests::Store;

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
    /// Latency of a group's messages beside a group that misbehaves.
    Fairness(fairness::Arguments),
    /// Processor time, threads and memory of a host that has nothing to do.
    Idle(idle::Arguments),
    /// Cost of the console's list indexes for the journey.
    Indexes(journey::Common),
    /// CPU time of one call of a handler that does nothing.
    Call(call::Arguments),
    /// Latency of the API's lists over millions of deliveries.
    Lists(lists::Arguments),
    /// Courier against comparable programs in several languages: W1 to W5.
    Peers(versus::Arguments),
    /// An existing service as handler: rate and memory with http-push, beside wrk.
    Push(push::Arguments),
    /// The pure parts alone: nanoseconds, or instructions against the baseline.
    Parts(parts::Arguments),
    /// Run one of the parts; `parts` starts this to count instructions.
    #[command(hide = true)]
    Part {
        /// The part.
        part: parts::Part,
        /// Number of rounds.
        rounds: u64,
    },
    /// Run the service that `push` measures with.
    #[command(hide = true)]
    Service(push::ServiceArguments),
    /// Run one of the Rust peers; the comparisons start this.
    #[command(hide = true)]
    Peer {
        /// The peer.
        name: peers::Name,
    },
}

/// A store, by its name on the command line.
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
        Benchmark::Idle(arguments) => idle::run(&arguments).await,
        Benchmark::Indexes(arguments) => indexes::run(&arguments).await,
        Benchmark::Call(arguments) => call::run(&arguments).await,
        Benchmark::Lists(arguments) => lists::run(&arguments).await,
        Benchmark::Peers(arguments) => versus::run(&arguments).await,
        Benchmark::Push(arguments) => push::run(&arguments).await,
        Benchmark::Service(arguments) => push::serve(&arguments).await,
        Benchmark::Parts(arguments) => parts::run(&arguments),
        Benchmark::Part { part, rounds } => {
            part.run(rounds);
            Ok(())
        }
        Benchmark::Peer { name } => peers::run(name).await,
    }
}
