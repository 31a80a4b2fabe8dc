//! Benchmarks: Courier against the programs one would otherwise write.
//!
//! `journey` is W1: a topic filled before, a fresh group for each run, the
//! peers in turn (A B A B ..) in one process's lifetime on one machine, and
//! ratios between them. `call` measures the engine alone, `lists` the API over a full store. Figures are medians
//! with their spread; nothing here passes or fails.

mod call;
mod journey;
mod lists;
mod peers;
mod progress;

use clap::{Parser, Subcommand};

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
    /// CPU time of one call of a handler that does nothing.
    Call(call::Arguments),
    /// How long the API's lists take over millions of deliveries.
    Lists(lists::Arguments),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().benchmark {
        Benchmark::Journey(arguments) => journey::run(&arguments).await,
        Benchmark::Call(arguments) => call::run(&arguments).await,
        Benchmark::Lists(arguments) => lists::run(&arguments).await,
    }
}

/// The middle of some figures, with the least and the greatest.
fn spread(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    match figures.as_slice() {
        [] => "no run finished".to_owned(),
        [only] => format!("{only:.2}"),
        [least, .., greatest] => {
            format!("{:.2} ({least:.2} to {greatest:.2})", figures[figures.len() / 2])
        }
    }
}
