//! Compares Courier with its alternatives, W1 to W5, in one report.
//!
//! Every contender gets the same topic, filled before, and for each run its own
//! group and database. It is measured from outside: its progress by the offsets
//! that it committed, the times of durable rows by PostgreSQL's commit times, its
//! processor time by the kernel. Only the number of handler calls comes from the
//! contender; where a process is killed, the service that the handlers call counts
//! them instead ([`effects`]).

mod contender;
mod effects;
mod outcome;
mod report;
mod run;
mod svg;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use courier_tests::servers::setup::target_directory;
use courier_tests::{kafka, postgres};

use crate::load::topic_of_orders;
use crate::peers::Work;
use crate::processors::Processors;
use contender::{CONTENDERS, Contender};
use report::{Cell, Report};

/// Options of `peers`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Runs of each contender in each workload.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Messages of a run; W4 gets a tenth of them, W5 a fifth.
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
    /// Seconds after which a run is cut; its rate is computed up to then.
    #[arg(long, default_value_t = 60)]
    limit: u64,
    /// Seconds for which each is driven at half load; 0 skips this.
    #[arg(long, default_value_t = 8)]
    paced: u64,
    /// Bytes of a body.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1024])]
    size: Vec<usize>,
    /// The workloads.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Workload::ALL)]
    workload: Vec<Workload>,
    /// The contenders, by name; all by default.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Run under five minutes: one run each, few messages, few peers in W2 to W4.
    #[arg(long)]
    quick: bool,
    /// Write the report to this path with `.md` and with `.svg` appended.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// A workload: the work of the handlers, and the faults injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// The handlers do nothing.
    W1,
    /// They parse JSON and check it.
    W2,
    /// They fail for one key in a hundred.
    W3,
    /// They wait 10 ms for a service.
    W4,
    /// They call a service, and the process is killed in mid-run.
    W5,
}

impl Workload {
    const ALL: [Self; 5] = [Self::W1, Self::W2, Self::W3, Self::W4, Self::W5];

    fn work(self) -> Work {
        match self {
            Self::W1 => Work::None,
            Self::W2 => Work::Json,
            Self::W3 => Work::Failing,
            Self::W4 | Self::W5 => Work::Effect,
        }
    }

    /// Delay of the answers of the service that [`Work::Effect`] calls.
    fn effect_takes(self) -> Duration {
        if self == Self::W4 { Duration::from_millis(10) } else { Duration::ZERO }
    }

    fn messages(self, of_a_run: u64) -> u64 {
        match self {
            Self::W1 | Self::W2 | Self::W3 => of_a_run,
            Self::W4 => of_a_run / 10,
            Self::W5 => of_a_run / 5,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::W1 => "W1: a handler that does nothing",
            Self::W2 => "W2: JSON parsed and checked",
            Self::W3 => "W3: one key in a hundred fails, three attempts 20 ms apart",
            Self::W4 => "W4: the handler waits 10 ms for a service",
            Self::W5 => "W5: the handler calls a service; kill -9 half-way, started again at once",
        }
    }
}

/// The settings of one run.
#[derive(Clone, Copy, Debug)]
struct Plan {
    workload: Workload,
    bytes: usize,
    messages: u64,
    limit: Duration,
    /// Duration of the part at half load, after the full topic; only in W1.
    paced: Duration,
}

/// Messages of a run with `--quick`, and the limit after which it is cut.
const QUICK_MESSAGES: u64 = 30_000;
const QUICK_LIMIT: Duration = Duration::from_secs(6);
/// Peers that `--quick` measures in W2 to W4, beside Courier.
const QUICK_PEERS: [&str; 2] = ["rust-pipelined", "spring-batch"];
/// Least number of processors at which the contender runs on other processors
/// than the broker, the database and the producer.
const PROCESSORS_TO_PART: usize = 4;

/// Measures and writes the report.
///
/// # Errors
/// When a server cannot be started or the report not written.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let contenders = chosen(&arguments.only)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let apart = if processors >= PROCESSORS_TO_PART { Processors::halves()? } else { None };
    let mut own = None;
    if let Some([others, contender]) = apart {
        // Before the broker and the database start.
        others.keep(std::process::id())?;
        own = Some(contender);
    }
    let _ = kafka();
    keep_commit_times()?;
    let mut report = Report::new(processors, own.is_some(), arguments.quick);
    for plan in plans(arguments) {
        let topic = topic_of_orders("versus", plan.bytes, plan.messages).await?;
        let mut cells: Vec<Cell> = contenders
            .iter()
            .filter(|contender| !arguments.quick || of_quick(contender, plan.workload))
            // A bit a message is for messages that are handled at once.
            .filter(|contender| contender.keeps_rows() || plan.workload == Workload::W1)
            .map(|contender| Cell::new(contender))
            .collect();
        let runs = if arguments.quick { 1 } else { arguments.runs };
        for number in 1..=runs {
            for cell in &mut cells {
                let outcome = run::run(cell.contender, plan, &topic, own.as_ref()).await;
                match &outcome {
                    Ok(measured) => eprintln!("{:?} {} B, run {number}: {measured}", plan.workload, plan.bytes),
                    Err(error) => eprintln!(
                        "{:?} {} B, run {number}: {} did not finish: {error:#}",
                        plan.workload, plan.bytes, cell.contender.name
                    ),
                }
                cell.runs.push(outcome.map_err(|error| format!("{error:#}")));
            }
        }
        report.add(plan, cells);
    }
    let file = arguments.report.clone().unwrap_or_else(|| target_directory().join("bench/report"));
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let (text, picture) = (file.with_extension("md"), file.with_extension("svg"));
    std::fs::write(&text, report.markdown()).with_context(|| format!("cannot write {}", text.display()))?;
    std::fs::write(&picture, report.svg()).with_context(|| format!("cannot write {}", picture.display()))?;
    print!("{}", report.markdown());
    println!("\nwritten to {} and {}", text.display(), picture.display());
    Ok(())
}

fn chosen(only: &[String]) -> Result<Vec<&'static Contender>> {
    for name in only {
        let known: Vec<&str> = CONTENDERS.iter().map(|one| one.name).collect();
        ensure!(known.contains(&name.as_str()), "there is no contender {name:?}: there are {}", known.join(", "));
    }
    Ok(CONTENDERS.iter().filter(|one| only.is_empty() || only.iter().any(|name| name == one.name)).collect())
}

fn of_quick(contender: &Contender, workload: Workload) -> bool {
    let all = matches!(workload, Workload::W1 | Workload::W5);
    all || contender.is_courier() || QUICK_PEERS.contains(&contender.name)
}

fn plans(arguments: &Arguments) -> Vec<Plan> {
    let mut plans = Vec::new();
    for workload in arguments.workload.iter().copied() {
        for bytes in arguments.size.iter().copied() {
            // W3 to W5 measure waiting and crashes, which the body's size does not change.
            let first = arguments.size.first() == Some(&bytes);
            if !first && (arguments.quick || matches!(workload, Workload::W3 | Workload::W4 | Workload::W5)) {
                continue;
            }
            let of_a_run = if arguments.quick { QUICK_MESSAGES } else { arguments.messages };
            let limit = if arguments.quick { QUICK_LIMIT } else { Duration::from_secs(arguments.limit) };
            let paced = if workload == Workload::W1 && first && !arguments.quick { arguments.paced } else { 0 };
            let messages = workload.messages(of_a_run);
            plans.push(Plan { workload, bytes, messages, limit, paced: Duration::from_secs(paced) });
        }
    }
    plans
}

/// Makes PostgreSQL record commit times, which needs a restart.
fn keep_commit_times() -> Result<()> {
    let server = postgres();
    server.psql("postgres", "ALTER SYSTEM SET track_commit_timestamp = on")?;
    server.stop()?;
    server.start_again()
}
