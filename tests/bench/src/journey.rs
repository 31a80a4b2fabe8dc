//! W1: from the broker to a durable status, with a handler that does nothing.
//!
//! Each run has three parts. On a full topic it measures the durable messages a
//! second and the cost of each. Then it measures the time from the broker until a
//! message's row is durable: at the rate at which broker, producer, database and
//! contender keep the processors half busy, at most half of the contender's own rate;
//! and at ten messages a second.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use courier_tests::Store;

use crate::StoreName;
use crate::contender::{Contender, Running};
use crate::load::{KEYS, Load, PARTITIONS, Paced, full_topic, topic};
use crate::progress::{Progress, Used};
use crate::stored::{Faults, Way, quantile_of, reconcile, ways};
use crate::table::{Table, machine};

/// Options that `journey` and `indexes` share.
#[derive(clap::Args)]
pub struct Common {
    /// Messages of a run.
    #[arg(long, default_value_t = 300_000)]
    pub messages: u64,
    /// Runs of each contender.
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    /// The stores.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [StoreName::Postgres, StoreName::Sqlite])]
    pub store: Vec<StoreName>,
}

/// Options of `journey`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Seconds that each is driven at half load, and at ten messages a second; 0 leaves it out.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Bytes of a body.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1024])]
    size: Vec<usize>,
}

/// Time limit of a run; a longer one is reported as not finished.
const LIMIT: Duration = Duration::from_secs(180);
/// Interval between two reads of a contender's progress on a full topic.
const RATE_LOOK: Duration = Duration::from_millis(20);
/// The same while latency is measured. A host's messages seem to take longer by
/// up to this; the plain consumer prints its own times.
const LATENCY_LOOK: Duration = Duration::from_millis(2);

/// Messages a second where there are few: nothing waits for others.
const SPARSE_MESSAGES_PER_SECOND: f64 = 10.0;

/// The name of a row of the report, and its figure.
type Stage = (&'static str, fn(&Way) -> f64);

/// The stages of a message's journey.
const STAGES: [Stage; 4] = [
    ("    until it was received", |way| way.fetched),
    ("    until its handler began", |way| way.queued),
    ("    until its handler ended", |way| way.ran),
    ("    until its row was durable", |way| way.settled),
];

/// Measures every size with every store.
///
/// # Errors
/// When a server cannot be started.
pub async fn run(arguments: &Arguments) -> Result<()> {
    println!("{}", machine());
    println!(
        "W1: a handler that does nothing; {} messages, {KEYS} keys, {PARTITIONS} partitions; \
         {} runs, in turn; median (least to greatest)",
        arguments.common.messages, arguments.common.runs
    );
    for size in &arguments.size {
        let full = full_topic("bench", vec![b'x'; *size], arguments.common.messages).await?;
        for store in &arguments.common.store {
            compare(arguments, &full, *size, store.store()).await?;
        }
    }
    Ok(())
}

/// Throughput: the first part of a finished run.
pub struct Rate {
    /// Durable messages a second.
    pub a_second: f64,
    /// Processor time of all processes for all messages.
    used: Used,
    messages: f64,
    peak_mib: f64,
    faults: Faults,
}

/// Latency at a fixed rate: the second and the third part.
struct Pace {
    a_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// The p99 of each stage, in the order of [`STAGES`].
    stages_p99_ms: [f64; 4],
    faults: Faults,
}

struct Trial {
    rate: Rate,
    /// At half load, and at [`SPARSE_MESSAGES_PER_SECOND`].
    paces: Option<[Pace; 2]>,
}

async fn compare(arguments: &Arguments, full: &str, size: usize, store: Store) -> Result<()> {
    let mut trials: [Vec<Option<Trial>>; 3] = Default::default();
    for run in 1..=arguments.common.runs {
        for (at, contender) in Contender::ALL.into_iter().enumerate() {
            let trial = match trial(contender, arguments, full, size, store).await {
                Ok(trial) => Some(trial),
                Err(error) => {
                    println!("{} did not finish run {run}: {error:#}", contender.name());
                    None
                }
            };
            if let Some(Trial { rate, paces }) = &trial {
                let half = paces.as_ref().map_or_else(String::new, |[half, _]| format!(", p99 {:.1} ms", half.p99_ms));
                eprintln!("run {run}: {}: {:.0} a second{half}", contender.name(), rate.a_second);
            }
            trials[at].push(trial);
        }
    }
    println!("\n{size} bytes, {store:?}");
    print!("{}", table(&trials, arguments.common.runs));
    Ok(())
}

async fn trial(contender: Contender, arguments: &Arguments, full: &str, size: usize, store: Store) -> Result<Trial> {
    let mut running = Running::start(contender, store, full).await?;
    let rate = rate(&mut running, arguments.common.messages).await;
    running.end().await?;
    let rate = rate?;
    if arguments.seconds == 0 {
        return Ok(Trial { rate, paces: None });
    }
    let paced = topic("paced").await;
    let mut running = Running::start(contender, store, &paced).await?;
    let load = Load::new(&paced, vec![b'x'; size])?;
    let paces = paces(&mut running, load, rate.a_second, Duration::from_secs(arguments.seconds)).await;
    running.end().await?;
    Ok(Trial { rate, paces: Some(paces?) })
}

/// Measures the throughput on a full topic.
///
/// # Errors
/// When the contender ends, or takes too long.
pub async fn rate(running: &mut Running, total: u64) -> Result<Rate> {
    let begun = Instant::now();
    let mut progress = Progress::default();
    let before = running.used();
    running.begin().await;
    loop {
        let mut done = 0;
        for seen in running.look().await? {
            done = seen.done();
            progress.note(seen.at, done);
        }
        if done >= total {
            break;
        }
        if begun.elapsed() > LIMIT {
            bail!("it had not done {total} within {LIMIT:?}");
        }
        tokio::time::sleep(RATE_LOOK).await;
    }
    let (used, peak_mib) = (running.used() - before, running.peak_mib());
    let faults = reconcile(&running.rows().await?, total, running.invoked().await);
    let a_second = progress.rate().context("the run was too short to have a rate: use more --messages")?;
    Ok(Rate { a_second, used, messages: total as f64, peak_mib, faults })
}

/// Measures the latency at half load and at [`SPARSE_MESSAGES_PER_SECOND`].
async fn paces(running: &mut Running, mut load: Load, a_second: f64, lasting: Duration) -> Result<[Pace; 2]> {
    running.begin().await;
    running.joined().await;
    let half;
    (half, load) = pace(running, load, lasting, move |load| load.pace_half(a_second, lasting)).await?;
    let (sparse, _) =
        pace(running, load, lasting, move |load| load.pace_warm(SPARSE_MESSAGES_PER_SECOND, lasting)).await?;
    Ok([half, sparse])
}

/// Measures the latency while `produce` produces.
async fn pace(
    running: &mut Running,
    mut load: Load,
    lasting: Duration,
    produce: impl FnOnce(&mut Load) -> Result<Paced> + Send + 'static,
) -> Result<(Pace, Load)> {
    let mut producing = tokio::task::spawn_blocking(move || {
        let paced = produce(&mut load)?;
        anyhow::Ok((paced, load))
    });
    let begun = Instant::now();
    let (mut sights, mut paced) = (Vec::new(), None);
    let (Paced { a_second, from, sent }, load) = loop {
        sights.extend(running.look().await?);
        match paced.take() {
            None if producing.is_finished() => paced = Some((&mut producing).await??),
            Some((done, load)) if sights.last().is_some_and(|seen| seen.done() >= done.sent) => break (done, load),
            other => paced = other,
        }
        if begun.elapsed() > LIMIT + lasting {
            bail!("it had not done what was sent after {:?}", begun.elapsed());
        }
        tokio::time::sleep(LATENCY_LOOK).await;
    };
    let rows = running.rows().await?;
    let ways = ways(&rows, &sights, from);
    let faults = reconcile(&rows, sent, running.invoked().await);
    let at = |part, of: fn(&Way) -> f64| quantile_of(&ways, part, of).context("nothing was measured after the warm-up");
    let mut stages_p99_ms = [0.0; 4];
    for (p99, (_, of)) in stages_p99_ms.iter_mut().zip(STAGES) {
        *p99 = at(0.99, of)?;
    }
    let pace = Pace { a_second, p50_ms: at(0.5, Way::whole)?, p99_ms: at(0.99, Way::whole)?, stages_p99_ms, faults };
    Ok((pace, load))
}

/// One row for each measure, one column for each contender.
fn table(trials: &[Vec<Option<Trial>>; 3], runs: usize) -> Table {
    let mut table = Table::new(Contender::ALL.map(Contender::name));
    let rates = |of: &dyn Fn(&Rate) -> f64| {
        trials.each_ref().map(|trials| trials.iter().flatten().map(|trial| of(&trial.rate)).collect())
    };
    let paces = |number: usize, of: &dyn Fn(&Pace) -> f64| {
        trials.each_ref().map(|trials| {
            let paces = trials.iter().flatten().filter_map(|trial| trial.paces.as_ref());
            paces.map(|paces| of(&paces[number])).collect::<Vec<_>>()
        })
    };
    // Each run is compared with the plain consumer's run just before it.
    let of_plain = trials.each_ref().map(|trials_of_one| {
        let pairs = trials_of_one.iter().zip(&trials[0]);
        let both = pairs.filter_map(|(one, plain)| Some((one.as_ref()?, plain.as_ref()?)));
        both.map(|(one, plain)| one.rate.a_second / plain.rate.a_second).collect()
    });
    table.row("durable messages a second", 0, rates(&|rate| rate.a_second));
    table.row("  of the plain consumer", 2, of_plain);
    let us = |used: Duration, rate: &Rate| used.as_secs_f64() * 1e6 / rate.messages;
    table.row("CPU us a message: own process", 1, rates(&|rate| us(rate.used.contender, rate)));
    table.row("  Kafka's broker", 1, rates(&|rate| us(rate.used.broker, rate)));
    table.row("  PostgreSQL", 1, rates(&|rate| us(rate.used.database, rate)));
    table.row("peak memory of the process, MiB", 0, rates(&|rate| rate.peak_mib));
    for (number, load) in ["half load", "sparse"].into_iter().enumerate() {
        table.row(&format!("broker to HANDLED, {load}: p50"), 1, paces(number, &|pace| pace.p50_ms));
        table.row("  p99", 1, paces(number, &|pace| pace.p99_ms));
        for (stage, (name, _)) in STAGES.iter().enumerate() {
            table.row(name, 1, paces(number, &|pace| pace.stages_p99_ms[stage]));
        }
        table.row("  at messages a second", 0, paces(number, &|pace| pace.a_second));
    }
    let count = |of: fn(&Faults) -> u64| {
        trials.each_ref().map(|trials| {
            let all = trials.iter().flatten();
            all.map(|one| {
                // The second reconciles the rows of both.
                of(&one.rate.faults) + one.paces.as_ref().map_or(0, |[_, sparse]| of(&sparse.faults))
            })
            .sum::<u64>()
        })
    };
    table.counts("lost, all runs", count(|faults| faults.lost));
    table.counts("run again, all runs", count(|faults| faults.again));
    table.counts("out of order within a key, all runs", count(|faults| faults.inverted));
    table.counts("runs that did not finish", trials.each_ref().map(|all| (runs - all.iter().flatten().count()) as u64));
    table
}
