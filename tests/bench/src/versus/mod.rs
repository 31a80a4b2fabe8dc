//! Courier against what a team would pick instead, W1 to W5, in one report.
//!
//! Every contender gets the same topic (filled before), a group and a database
//! of its own for each run, and is watched from outside: how far it is by the
//! offsets it committed, what became durable when by PostgreSQL's own commit
//! times, what it cost by the kernel's account. Nobody is believed what it says
//! of itself but the number of its handler's calls, and where a process is
//! killed these are counted by the service that the handlers call ([`effects`]).

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

/// How `peers` measures.
#[derive(clap::Args)]
pub struct Arguments {
    /// Runs of each contender in each workload.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Messages of a run; W4 gets a tenth of them, W5 a fifth.
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
    /// Seconds after which a run is cut; its rate is that of what it had done.
    #[arg(long, default_value_t = 60)]
    limit: u64,
    /// Seconds that each is driven at half of its own rate; 0 leaves it out.
    #[arg(long, default_value_t = 8)]
    paced: u64,
    /// Bytes of a body.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1024])]
    size: Vec<usize>,
    /// The workloads.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Workload::ALL)]
    workload: Vec<Workload>,
    /// The contenders, by their names; all unless said.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Under five minutes: a run each, few messages, and no more than a look at
    /// W2 to W4.
    #[arg(long)]
    quick: bool,
    /// Where the report goes: this and `.md`, this and `.svg`.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// What the handlers do, and what is done to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Nothing.
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

    /// How long the service that [`Work::Effect`] calls takes for an answer.
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

/// What one run is given.
#[derive(Clone, Copy, Debug)]
struct Plan {
    workload: Workload,
    bytes: usize,
    messages: u64,
    limit: Duration,
    /// How long it is driven at half of its rate after that; only in W1.
    paced: Duration,
}

/// Runs of `--quick`: so many messages, cut after so long.
const QUICK_MESSAGES: u64 = 30_000;
const QUICK_LIMIT: Duration = Duration::from_secs(6);
/// What `--quick` measures in W2 to W4, beside Courier.
const QUICK_PEERS: [&str; 2] = ["rust-pipelined", "spring-batch"];
/// From so many processors on, the contender is kept apart from the broker, the
/// database and the producer.
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
            // The body's size says nothing about waiting or a crash.
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

/// Lets PostgreSQL note when each transaction committed, which takes a restart.
fn keep_commit_times() -> Result<()> {
    let server = postgres();
    server.psql("postgres", "ALTER SYSTEM SET track_commit_timestamp = on")?;
    server.stop()?;
    server.start_again()
}
