//! Latency of a group's messages beside a group that misbehaves.
//!
//! One host runs all groups, on its own processors where there is more than one:
//! see [`processors`](crate::processors). First the measured group's capacity is
//! taken from a full topic. Then the group is driven at 30 % of it, in turn alone
//! and beside one hostile group, and the result is the ratio of the two p99. A
//! hostile group always has more records than it can handle; the processor time
//! of its threads in each second is printed beside the ratio, since an idle
//! neighbour would prove nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use courier_tests::{Host, guest, scripted_binding, unique, usage, wait_until};
use reqwest::Method;

use crate::StoreName;
use crate::load::{Load, Paced, topic};
use crate::processors::Processors;
use crate::progress::{Progress, Seen, now};
use crate::stored::{Stored, Way, quantile_of, ways};
use crate::table::{machine, spread};

/// Options of `fairness`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Pairs of measurements for each neighbour.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Messages for the measurement of the group's capacity.
    #[arg(long, default_value_t = 300_000)]
    messages: u64,
    /// Load of the measured group, as a part of its capacity.
    #[arg(long, default_value_t = 0.3)]
    load: f64,
    /// Neighbours: words of the scripted guest, or `flood` for an endless stream of
    /// messages that succeed at once.
    #[arg(long, value_delimiter = ',', default_values_t = ["spin", "alloc", "stack", "trap", "log:1MiB", "flood"].map(str::to_owned))]
    neighbours: Vec<String>,
    /// The store.
    #[arg(long, value_enum, default_value_t = StoreName::Sqlite)]
    store: StoreName,
    /// Let the broker, the producer and the host share all processors.
    #[arg(long)]
    shared: bool,
}

/// Interval between two reads of the positions while messages are timed.
const LOOK: Duration = Duration::from_millis(2);
/// Least number of unread records of a hostile group, and the number of records
/// that it gets when it has fewer.
const BACKLOG: u64 = 50_000;
/// Time limit for each other step.
const LIMIT: Duration = Duration::from_secs(120);

/// A group and its topic.
struct Place {
    group: String,
    topic: String,
}

impl Place {
    async fn new(name: &str) -> Self {
        Self { group: unique(name), topic: topic(name).await }
    }

    fn binding(&self, policy: &str) -> String {
        scripted_binding(&self.group, &self.topic, policy)
    }
}

/// Measures beside each neighbour in turn.
///
/// # Errors
/// When a server or the host cannot be started.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let machine = machine();
    let apart = if arguments.shared { None } else { Processors::halves()? };
    if let Some([others, _]) = &apart {
        // Before the broker and the database start.
        others.keep(std::process::id())?;
    }
    if matches!(arguments.store, StoreName::Postgres) {
        let _ = courier_tests::postgres();
    }
    let (full, measured) = (Place::new("full").await, Place::new("measured").await);
    let mut hostile = Vec::new();
    for word in &arguments.neighbours {
        let name: String = word.chars().take_while(char::is_ascii_alphanumeric).collect();
        hostile.push((word, Place::new(&name).await));
    }
    let mut host = Host::builder("host-1").store(arguments.store.store());
    host = host.binding(&full.binding("")).binding(&measured.binding(""));
    for (_, place) in &hostile {
        host = host.binding(&place.binding("cpu = \"100ms\"\nmemory = \"16MiB\""));
    }
    let host = host.start().await;
    if let Some([_, of_host]) = &apart {
        of_host.keep(host.process_id().context("the host does not run")?)?;
    }
    let stored = Arc::new(Stored::open(&host.store_url()).await?);
    for (_, place) in &hostile {
        set(&host, place, "pause").await?;
    }
    let mut load = Load::new(&full.topic, body("ok"))?;
    load.send(arguments.messages)?;
    load.flush()?;
    host.upload("scripted", guest("scripted")).await;
    let capacity = capacity(&host, &stored, &full, arguments).await?;
    let a_second = capacity * arguments.load;
    println!("{machine}");
    println!(
        "one group at {a_second:.0} messages a second, {:.0} % of the {capacity:.0} it can do alone; {:?}; \
         {}; {} pairs of {} s, in turn; median (least to greatest)",
        arguments.load * 100.0,
        arguments.store.store(),
        if apart.is_some() { "the host on half of the processors" } else { "all on all processors" },
        arguments.runs,
        arguments.seconds
    );
    let lasting = Duration::from_secs(arguments.seconds);
    let mut feeders: Vec<Feeder> =
        hostile.iter().map(|(word, place)| Feeder::new(word, place)).collect::<Result<_>>()?;
    let mut results: Vec<Beside> = hostile.iter().map(|_| Beside::default()).collect();
    for run in 1..=arguments.runs {
        for ((word, place), (feeder, result)) in hostile.iter().zip(feeders.iter_mut().zip(&mut results)) {
            let alone = p99(&stored, &measured, a_second, lasting).await?;
            set(&host, place, "resume").await?;
            let feeding = feeder.feed(&host, &stored, place).await?;
            let beside = p99(&stored, &measured, a_second, lasting).await?;
            let strength = feeding.end().await?;
            set(&host, place, "pause").await?;
            quiet(&host, place).await;
            eprintln!(
                "run {run}: {word}: p99 {alone} alone, {beside} beside it; \
                 it used {:.2} cores, {:.2} in its weakest second",
                strength.cores, strength.weakest
            );
            result.add(alone.whole, beside.whole, strength);
        }
    }
    ensure!(host.exited().is_none(), "a guest ended the host:\n{}", host.log_tail());
    println!(
        "{:<10}{:<24}{:<26}{:<26}{:<24}{:<22}messages it ended",
        "neighbour", "ratio of p99", "p99 alone, ms", "p99 beside it, ms", "cores it used", "in its weakest second"
    );
    for ((word, _), result) in hostile.iter().zip(results) {
        println!(
            "{word:<10}{:<24}{:<26}{:<26}{:<24}{:<22}{}",
            spread(result.ratio, 2),
            spread(result.alone, 1),
            spread(result.beside, 1),
            spread(result.cores, 2),
            spread(result.weakest, 2),
            spread(result.ended, 0)
        );
    }
    Ok(())
}

/// The measurements beside one neighbour.
#[derive(Default)]
struct Beside {
    ratio: Vec<f64>,
    alone: Vec<f64>,
    beside: Vec<f64>,
    cores: Vec<f64>,
    weakest: Vec<f64>,
    ended: Vec<f64>,
}

impl Beside {
    fn add(&mut self, alone: f64, beside: f64, strength: Strength) {
        self.ratio.push(beside / alone);
        self.alone.push(alone);
        self.beside.push(beside);
        self.cores.push(strength.cores);
        self.weakest.push(strength.weakest);
        self.ended.push(strength.ended as f64);
    }
}

fn body(word: &str) -> Vec<u8> {
    format!("{{\"do\": [\"{word}\"]}}").into_bytes()
}

async fn set(host: &Host, place: &Place, what: &str) -> Result<()> {
    let path = format!("/v1/groups/{}/{what}", place.group);
    let (status, answer) = host.request(Method::POST, &path, None).await;
    ensure!(status.is_success(), "{path} was answered {status}: {answer}");
    Ok(())
}

/// The group's throughput on a full topic, alone, in messages a second.
async fn capacity(host: &Host, stored: &Stored, full: &Place, arguments: &Arguments) -> Result<f64> {
    ensure!(host.exited().is_none(), "the host ended:\n{}", host.log_tail());
    let mut progress = Progress::default();
    let begun = Instant::now();
    loop {
        let seen = Seen { next: stored.positions(&full.group, &full.topic).await?, at: now() };
        progress.note(seen.at, seen.done());
        if seen.done() >= arguments.messages {
            break;
        }
        ensure!(begun.elapsed() < LIMIT, "only {} messages within {LIMIT:?}", seen.done());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    progress.rate().context("the topic was empty too soon: use more --messages")
}

/// The p99 from the broker to a durable row, in whole and by stage.
struct Percentiles {
    whole: f64,
    parts: Way,
}

impl Percentiles {
    fn of(ways: &[Way]) -> Option<Self> {
        let p99 = |what: fn(&Way) -> f64| quantile_of(ways, 0.99, what);
        let parts = Way {
            fetched: p99(|way| way.fetched)?,
            queued: p99(|way| way.queued)?,
            ran: p99(|way| way.ran)?,
            settled: p99(|way| way.settled)?,
        };
        Some(Self { whole: p99(Way::whole)?, parts })
    }
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Way { fetched, queued, ran, settled } = self.parts;
        write!(f, "{:.1} ms ({fetched:.1} fetched, {queued:.1} queued, {ran:.1} ran, {settled:.1} settled)", self.whole)
    }
}

/// Measures the latency at a fixed rate.
async fn p99(stored: &Stored, place: &Place, a_second: f64, lasting: Duration) -> Result<Percentiles> {
    let before = stored.positions(&place.group, &place.topic).await?.values().sum::<i64>().unsigned_abs();
    let mut load = Load::new(&place.topic, body("ok"))?;
    let mut producing = tokio::task::spawn_blocking(move || load.pace_warm(a_second, lasting));
    let begun = Instant::now();
    let (mut sights, mut paced): (Vec<Seen>, _) = (Vec::new(), None);
    let Paced { from, .. } = loop {
        let next = stored.positions(&place.group, &place.topic).await?;
        sights.push(Seen { at: now(), next });
        match paced.take() {
            None if producing.is_finished() => paced = Some((&mut producing).await??),
            Some(done) if sights.last().is_some_and(|seen| seen.done() >= before + done.sent) => break done,
            other => paced = other,
        }
        ensure!(begun.elapsed() < LIMIT + lasting, "the group does not keep up with {a_second:.0} messages a second");
        tokio::time::sleep(LOOK).await;
    };
    let rows = stored.rows_of_host(&place.group, &place.topic, from).await?;
    Percentiles::of(&ways(&rows, &sights, from)).context("nothing was measured after the warm-up")
}

/// The load that a hostile group made.
struct Strength {
    /// Processors that its threads kept busy, on average.
    cores: f64,
    /// The least of these in any second.
    weakest: f64,
    /// Messages that it ended.
    ended: u64,
}

/// Keeps a hostile group supplied with records.
struct Feeder {
    load: Option<Load>,
}

/// A feeder at work.
struct Feeding<'a> {
    feeder: &'a mut Feeder,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<(Load, Strength)>>,
}

impl Feeder {
    fn new(word: &str, place: &Place) -> Result<Self> {
        let word = if word == "flood" { "ok" } else { word };
        Ok(Self { load: Some(Load::new(&place.topic, body(word))?) })
    }

    /// Feeds and watches the group, from the moment it handles messages.
    async fn feed<'a>(&'a mut self, host: &Host, stored: &Arc<Stored>, place: &Place) -> Result<Feeding<'a>> {
        let process = host.process_id().context("the host does not run")?;
        let mut load = self.load.take().context("this group is fed already")?;
        load.send(BACKLOG)?;
        let threads = format!("run {}", place.group);
        let before = usage::cpu_of_threads(process, &threads);
        wait_until("the hostile group is at work", LIMIT, async || {
            let used = usage::cpu_of_threads(process, &threads).saturating_sub(before);
            if used >= Duration::from_millis(100) { Ok(()) } else { Err(format!("it used {used:?}")) }
        })
        .await;
        let stop = Arc::new(AtomicBool::new(false));
        let (stored, group, topic) = (Arc::clone(stored), place.group.clone(), place.topic.clone());
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let used = || usage::cpu_of_threads(process, &threads);
            let (first, begun, mut weakest) = (used(), Instant::now(), f64::INFINITY);
            let (mut second, mut at) = (first, begun);
            let ended = |next: std::collections::BTreeMap<i32, i64>| next.values().sum::<i64>().unsigned_abs();
            let before = ended(stored.positions(&group, &topic).await?);
            let mut done = before;
            while !stopped.load(Ordering::Relaxed) {
                done = ended(stored.positions(&group, &topic).await?);
                if load.sent().saturating_sub(done) < BACKLOG {
                    load = tokio::task::spawn_blocking(move || load.send(BACKLOG).map(|()| load)).await??;
                }
                if at.elapsed() >= Duration::from_secs(1) {
                    let now = used();
                    weakest = weakest.min(now.saturating_sub(second).as_secs_f64() / at.elapsed().as_secs_f64());
                    (second, at) = (now, Instant::now());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let cores = used().saturating_sub(first).as_secs_f64() / begun.elapsed().as_secs_f64();
            Ok((load, Strength { cores, weakest, ended: done - before }))
        });
        Ok(Feeding { feeder: self, stop, task })
    }
}

impl Feeding<'_> {
    async fn end(self) -> Result<Strength> {
        self.stop.store(true, Ordering::Relaxed);
        let (load, strength) = self.task.await??;
        self.feeder.load = Some(load);
        Ok(strength)
    }
}

/// Waits until a paused group has no running attempt.
async fn quiet(host: &Host, place: &Place) {
    let used = || usage::cpu_of_threads(host.process_id().unwrap_or_default(), &format!("run {}", place.group));
    let mut last = used();
    wait_until("the hostile group rests", LIMIT, async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = used();
        let busy = now.saturating_sub(std::mem::replace(&mut last, now));
        if busy < Duration::from_millis(20) { Ok(()) } else { Err(format!("it used {busy:?}")) }
    })
    .await;
}
