//! Measures the pure parts that every message passes through, without Kafka, store
//! or engine.
//!
//! Each part has two figures: nanoseconds, which depend on the machine, and
//! instructions counted by Valgrind, which hardly do. The instructions are compared
//! with `instructions.txt`: more than [`TOLERATED`] times as many is a failure.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use courier::kafka::record::Record;
use courier::store::{DeliveryKey, PositionId};
use courier_core::lanes::LaneKey;
use courier_core::message::{Attempts, Epoch, Header, Offset, Timestamp};
use courier_core::partition::{Action, Answer, Bounds, Claim, Event, Machine};
use courier_core::verdict::Outcome;
use courier_tests::servers::setup::output_of;

use crate::table::spread;

/// Greatest accepted ratio of instructions to the baseline.
const TOLERATED: f64 = 1.05;
/// Rounds of the longer of two runs. The shorter has half as many; their
/// difference leaves the one-time work of a process out.
const ROUNDS: u64 = 4_000;
/// Records that a machine receives before their outcomes.
const RECORDS: i64 = 16;

/// Options of `parts`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Timed runs of each part.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Count instructions, and fail above the baseline's tolerance.
    #[arg(long)]
    instructions: bool,
    /// Count instructions and write them down as the baseline.
    #[arg(long)]
    write_baseline: bool,
}

/// A part.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Part {
    /// The partition's machine: records of many keys, from reception to the
    /// store's answer.
    Partition,
    /// The same for records of one key, each of which waits for the one before.
    Lane,
    /// A record with the headers of a CloudEvent becomes a message.
    CloudEvent,
    /// A record is encoded for the store and read back.
    Record,
    /// The key of a delivery is written as a cursor and read back.
    Cursor,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Lane => "lane",
            Self::CloudEvent => "cloud-event",
            Self::Record => "record",
            Self::Cursor => "cursor",
        }
    }

    /// Runs the part `rounds` times; one round is one message.
    ///
    /// # Panics
    /// When a part gives a wrong result, since its figure would mean nothing.
    pub fn run(self, rounds: u64) {
        match self {
            Self::Partition => partition(rounds, |offset| format!("key-{:03}", offset % 1_000)),
            Self::Lane => partition(rounds, |_| "key".to_owned()),
            Self::CloudEvent => {
                let record = record();
                for round in 0..rounds {
                    let offset = Offset(i64::try_from(round).unwrap_or_default());
                    let message = black_box(&record).to_message("orders", 3, offset);
                    assert_eq!(message.id, "0195e6a2-0000-7000-8000-000000000000");
                }
            }
            Self::Record => {
                let record = record();
                for _ in 0..rounds {
                    let read = Record::decode(&black_box(&record).encode()).expect("it was encoded just now");
                    assert_eq!(read.headers.len(), record.headers.len());
                }
            }
            Self::Cursor => {
                for round in 0..rounds {
                    let offset = Offset(i64::try_from(round).unwrap_or_default());
                    let key = DeliveryKey { position: PositionId(17), offset };
                    let read: DeliveryKey = black_box(key.to_string()).parse().expect("it was written just now");
                    assert_eq!(read.offset, offset);
                }
            }
        }
    }
}

fn record() -> Record {
    let header = |name: &str, value: &'static str| Header {
        name: name.to_owned(),
        value: Some(Bytes::from_static(value.as_bytes())),
    };
    Record {
        timestamp: Timestamp(1_764_000_000_000_000),
        key: Some(Bytes::from_static(b"key-001")),
        value: Some(Bytes::from(vec![b'x'; 100])),
        headers: vec![
            header("ce_specversion", "1.0"),
            header("ce_id", "0195e6a2-0000-7000-8000-000000000000"),
            header("ce_type", "OrderCreated"),
            header("ce_source", "shop"),
            header("ce_time", "2025-11-24T16:00:00Z"),
            header("content-type", "application/json"),
            header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ],
        left_out: None,
    }
}

/// Takes records through a machine: they come a few at a time, each dispatched
/// record succeeds, and each write is answered at once.
fn partition(rounds: u64, key: impl Fn(i64) -> String) {
    let claim =
        Claim { epoch: Epoch(1), position: Offset(0), settled: Vec::new(), open: Vec::new(), blocked: HashSet::new() };
    let mut machine: Machine<()> = Machine::new(Bounds::default(), claim);
    let rounds = i64::try_from(rounds).unwrap_or(i64::MAX) / RECORDS * RECORDS;
    let mut actions = Vec::new();
    for offset in 0..rounds {
        let event = Event::Record { offset: Offset(offset), lane: LaneKey::Key(key(offset).into()), bytes: 100 };
        machine.step(Timestamp(offset), event, &mut actions);
        if offset % RECORDS == RECORDS - 1 {
            answer(&mut machine, offset, &mut actions);
        }
    }
    assert_eq!(machine.position(), Offset(rounds), "everything is settled");
}

fn answer(machine: &mut Machine<()>, at: i64, actions: &mut Vec<Action<()>>) {
    loop {
        machine.flush(actions);
        if actions.is_empty() {
            return;
        }
        for action in std::mem::take(actions) {
            let event = match action {
                Action::Dispatch { offset, attempts: Attempts { invoked, used }, .. } => Event::AttemptFinished {
                    offset,
                    outcome: Outcome::Handled,
                    attempts: Attempts { invoked: invoked + 1, used: used + 1 },
                    detail: (),
                },
                Action::Settle(_) => Event::Settled(Answer::Written),
                _ => continue,
            };
            machine.step(Timestamp(at), event, actions);
        }
    }
}

/// Times all parts, or counts their instructions.
///
/// # Errors
/// When instructions cannot be counted, or are more than the baseline allows.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.write_baseline {
        let counted = count()?;
        let file = baseline();
        return std::fs::write(&file, written(&counted)).with_context(|| format!("cannot write {}", file.display()));
    }
    if arguments.instructions {
        return compare(&count()?);
    }
    println!("{:<14}ns a message, {} runs", "", arguments.runs);
    for part in Part::value_variants() {
        part.run(ROUNDS);
        let time = |_| {
            let begun = Instant::now();
            part.run(ROUNDS * 25);
            begun.elapsed().as_nanos() as f64 / (ROUNDS * 25) as f64
        };
        println!("{:<14}{}", part.name(), spread((0..arguments.runs).map(time).collect(), 0));
    }
    Ok(())
}

/// Instructions a message, by the part's name.
type Counts = BTreeMap<String, u64>;

fn count() -> Result<Counts> {
    let mut counts = Counts::new();
    for part in Part::value_variants() {
        let (few, many) = (collected(*part, ROUNDS / 2)?, collected(*part, ROUNDS)?);
        counts.insert(part.name().to_owned(), many.saturating_sub(few) / (ROUNDS / 2));
    }
    Ok(counts)
}

/// Counts the instructions of a process that runs a part `rounds` times.
fn collected(part: Part, rounds: u64) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(std::env::current_exe().context("cannot tell where this program is")?);
    valgrind.args(["part", part.name(), &rounds.to_string()]);
    // Valgrind prints the count to standard error.
    let output = valgrind.output().context("valgrind does not run: install it (Debian: apt-get install valgrind)")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed ({}):\n{text}", output.status);
    let line =
        text.lines().find_map(|line| line.split_once("Collected :")).context("valgrind did not say its count")?;
    Ok(line.1.trim().parse()?)
}

fn baseline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt")
}

/// The compiler's version, kept with the baseline: a different compiler needs a
/// new baseline.
fn compiler() -> Result<String> {
    Ok(output_of("ask for the compiler's version", Command::new("rustc").arg("--version"))?.trim().to_owned())
}

fn written(counts: &Counts) -> String {
    let mut text = format!("# Instructions a message; {}.\n", compiler().unwrap_or_default());
    text.push_str("# Written by `cargo xtask bench parts --write-baseline`.\n");
    for (name, count) in counts {
        writeln!(text, "{name} {count}").expect("a String takes any text");
    }
    text
}

fn read(text: &str) -> Result<Counts> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let count = |line: &str| -> Result<(String, u64)> {
        let (name, count) = line.split_once(' ').with_context(|| format!("{line:?} is no name with a count"))?;
        Ok((name.to_owned(), count.parse()?))
    };
    lines.map(count).collect()
}

fn compare(counted: &Counts) -> Result<()> {
    let file = baseline();
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("there is no baseline {}: write it with --write-baseline", file.display()))?;
    let allowed = read(&text)?;
    let mut over = Vec::new();
    println!("{:<14}{:>10}{:>10}  instructions a message", "", "baseline", "now");
    for (name, now) in counted {
        let Some(before) = allowed.get(name) else { bail!("{name} has no baseline: write it anew") };
        println!("{name:<14}{before:>10}{now:>10}  {:+.1} %", (*now as f64 / *before as f64 - 1.0) * 100.0);
        if is_over(*before, *now) {
            over.push(name.as_str());
        }
    }
    let by = compiler()?;
    let other = if text.contains(&by) { String::new() } else { format!(" (the baseline is not from {by})") };
    ensure!(over.is_empty(), "more than 5 % more instructions{other}: {}", over.join(", "));
    Ok(())
}

fn is_over(before: u64, now: u64) -> bool {
    now as f64 > before as f64 * TOLERATED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_does_what_is_measured() {
        for part in Part::value_variants() {
            part.run(64);
        }
    }

    #[test]
    fn five_percent_more_is_tolerated_and_six_is_not() {
        let counts = read(&written(&Counts::from([("lane".to_owned(), 1_000)]))).unwrap();
        assert!(!is_over(counts["lane"], 1_050) && is_over(counts["lane"], 1_060));
    }
}
