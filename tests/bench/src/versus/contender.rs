//! The measured programs, and how each is started.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use courier::config::Trace;
use courier_tests::servers::process::{Process, run_directory};
use courier_tests::servers::setup::target_directory;
use courier_tests::{Host, guest};

use super::Workload;
use crate::peers::{ATTEMPTS, Contract, RETRY_WAIT};

/// A program that is measured.
#[derive(Debug)]
pub struct Contender {
    /// Its name for `--only`.
    pub name: &'static str,
    /// Its title in the report.
    pub title: &'static str,
    program: Program,
    /// Goal of Courier with a reused sandbox for each workload that has one: its
    /// throughput as a multiple of this contender's.
    pub goals: &'static [(Workload, f64)],
}

#[derive(Clone, Copy, Debug)]
enum Program {
    /// Courier with this isolation and this `trace`.
    Courier(&'static str, Trace),
    /// A peer in this program.
    Rust(&'static str),
    /// A main class of `peers/java`.
    Java(&'static str),
    /// `peers/javascript` in this mode.
    JavaScript(&'static str),
    /// `peers/python`.
    Python,
}

use Workload::{W1, W3, W4};

/// All contenders, Courier first.
pub const CONTENDERS: [Contender; 14] = [
    of("courier-reused", "Courier, reused sandbox", Program::Courier("instance", Trace::All), &[]),
    of("courier-fresh", "Courier, fresh sandbox a message", Program::Courier("message", Trace::All), &[]),
    of("failures-reused", "Courier, reused, a bit a message", Program::Courier("instance", Trace::Failures), &[]),
    of("failures-fresh", "Courier, fresh, a bit a message", Program::Courier("message", Trace::Failures), &[]),
    of("rust-batched", "Rust, rdkafka + sqlx, one loop, batched", Program::Rust("batched"), &[(W1, 1.0)]),
    of("rust-pipelined", "Rust, the same pipelined (the ceiling)", Program::Rust("pipelined"), &[(W1, 0.7)]),
    of("rust-row", "Rust, rdkafka + sqlx, a row a message", Program::Rust("row-a-message"), &[(W1, 50.0)]),
    of("spring-record", "Spring Kafka + JPA a record", Program::Java("SpringRecord"), &[(W1, 20.0)]),
    of("spring-batch", "Spring Kafka batch + JDBC batch", Program::Java("SpringBatch"), &[(W1, 1.5), (W3, 3.0)]),
    of("parallel-record", "Parallel Consumer KEY + JDBC a record", Program::Java("ParallelRecord"), &[(W1, 8.0)]),
    of("parallel-batch", "Parallel Consumer KEY + JDBC batch", Program::Java("ParallelBatch"), &[(W1, 1.3), (W4, 2.0)]),
    of("js-record", "kafka-javascript + pg a record", Program::JavaScript("record"), &[(W1, 15.0)]),
    of("js-batch", "kafka-javascript + pg batched", Program::JavaScript("batch"), &[(W1, 2.0)]),
    of("aiokafka", "aiokafka + asyncpg batched", Program::Python, &[(W1, 5.0)]),
];

const fn of(name: &'static str, title: &'static str, program: Program, goals: &'static [(Workload, f64)]) -> Contender {
    Contender { name, title, program, goals }
}

/// Time limit for the end of a process and of its database connections.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A contender at work.
pub struct Running {
    /// None for a moment while the contender is restarted.
    process: Option<Process>,
    host: Option<Box<Host>>,
    directory: PathBuf,
    program: Program,
    contract: Contract,
}

impl Contender {
    /// Whether it is Courier itself.
    #[must_use]
    pub fn is_courier(&self) -> bool {
        matches!(self.program, Program::Courier(..))
    }

    /// Whether it keeps a row of each message, with its key and its times.
    #[must_use]
    pub fn keeps_rows(&self) -> bool {
        !matches!(self.program, Program::Courier(_, Trace::Failures))
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started, or was not set up.
    pub async fn start(&self, contract: Contract) -> Result<Running> {
        let directory = run_directory()?.join(&contract.group);
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let mut running = Running { process: None, host: None, directory, program: self.program, contract };
        if let Program::Courier(isolation, trace) = self.program {
            running.host = Some(Box::new(host(isolation, trace, &running.contract).await?));
        } else {
            running.spawn()?;
        }
        Ok(running)
    }
}

/// A host with a handler that does the work. The handler is activated only once
/// it is compiled, as a handler in production is.
async fn host(isolation: &str, trace: Trace, contract: &Contract) -> Result<Host> {
    let Contract { topic, group, database, work, effects, .. } = contract;
    // Without work the smallest component is used, to match the native handler.
    let plugin = if *work == crate::peers::Work::None { "noop" } else { "workload" };
    let wait = RETRY_WAIT.as_millis();
    let allowed = effects.strip_prefix("http://").unwrap_or("127.0.0.1:9");
    let binding = format!(
        "group = \"{group}\"\ntopics = [\"{topic}\"]\nplugin = \"{plugin}\"\nisolation = \"{isolation}\"\n\
         trace = {}\n[binding.retry]\nmax_attempts = {ATTEMPTS}\ninitial = \"{wait}ms\"\nmultiplier = 1\njitter = 0\n\
         [binding.config]\nwork = \"{}\"\neffects = \"{effects}\"\n[binding.http]\nallow = [\"{allowed}\"]",
        serde_json::to_string(&trace)?,
        work.name()
    );
    let host = Host::builder(group).store_url(database).binding(&binding).start().await;
    let (status, answer) = host.try_upload(plugin, guest(plugin), true).await;
    ensure!(status.is_success(), "the upload of {plugin} was answered {status}: {answer}");
    Ok(host)
}

impl Running {
    fn spawn(&mut self) -> Result<()> {
        let mut command = command(self.program)?;
        command.envs(self.contract.environment());
        self.process = Some(Process::start("the peer", command, &self.log(), libc::SIGKILL)?);
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.directory.join("peer.log")
    }

    /// The process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        let of_host = self.host.as_ref().and_then(|host| host.process_id());
        of_host.or_else(|| self.process.as_ref().map(Process::id)).unwrap_or_default()
    }

    /// Fails when it has ended.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn check(&mut self) -> Result<()> {
        if let Some(host) = &self.host {
            ensure!(host.exited().is_none(), "the host ended:\n{}", host.log_tail());
        }
        if let Some(process) = &mut self.process {
            ensure!(process.exited()?.is_none(), "it ended:\n{}", process.log_tail(20));
        }
        Ok(())
    }

    /// Kills it with -9 and starts it again at once.
    ///
    /// # Errors
    /// When it cannot be started again.
    pub async fn crash(&mut self) -> Result<()> {
        if let Some(host) = &self.host {
            host.kill9();
            host.start_again().await;
            return Ok(());
        }
        if let Some(mut process) = self.process.take() {
            process.stop(libc::SIGKILL, STOP_LIMIT)?;
        }
        self.spawn()
    }

    /// Number of its handler's calls, by its own count.
    ///
    /// # Errors
    /// When it printed none.
    pub async fn calls(&self) -> Result<u64> {
        if let Some(host) = &self.host {
            let labels = [("group", self.contract.group.as_str())];
            return Ok(host.metric("courier_attempt_seconds_count", &labels).await as u64);
        }
        let log = std::fs::read_to_string(self.log())?;
        let last = log.lines().rev().find_map(|line| line.strip_prefix("{\"calls\":")?.strip_suffix('}'));
        Ok(last.context("it did not say how often it called its handler")?.trim().parse()?)
    }

    /// Ends it and removes its files.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(mut self) -> Result<()> {
        if let Some(host) = &self.host {
            host.kill9();
            if let Some(folder) = host.config().parent() {
                std::fs::remove_dir_all(folder).ok();
            }
        }
        if let Some(mut process) = self.process.take() {
            process.stop(libc::SIGKILL, STOP_LIMIT)?;
        }
        std::fs::remove_dir_all(&self.directory).ok();
        Ok(())
    }
}

/// The command line of a peer.
fn command(program: Program) -> Result<Command> {
    let peers = target_directory().join("bench");
    let there = |file: PathBuf| -> Result<PathBuf> {
        ensure!(file.exists(), "it was not set up ({} is missing): run `cargo xtask bench peers`", file.display());
        Ok(file)
    };
    let mut command = match program {
        Program::Courier(..) => unreachable!("a host is started by its own builder"),
        Program::Rust(name) => {
            let mut command = Command::new(std::env::current_exe().context("cannot tell where this program is")?);
            command.args(["peer", name]);
            command
        }
        Program::Java(class) => {
            let jar = there(peers.join("java/peers.jar"))?;
            let mut command = Command::new("java");
            command.arg("-cp").arg(format!("{}:{}/lib/*", jar.display(), peers.join("java").display()));
            command.arg(format!("courier.bench.{class}"));
            command
        }
        Program::JavaScript(mode) => {
            let folder = peers.join("javascript");
            there(native_client(&folder))?;
            let mut command = Command::new("node");
            command.arg(there(folder.join("peer.js"))?).arg(mode);
            command
        }
        Program::Python => {
            let mut command = Command::new(there(peers.join("python/bin/python"))?);
            command.arg(there(peers.join("python/peer.py"))?);
            command
        }
    };
    // A caller's debug setting would slow the peer down.
    command.env_remove("RUST_LOG");
    Ok(command)
}

/// The compiled part of the Kafka client for JavaScript, which npm may not have
/// been able to build.
fn native_client(folder: &Path) -> PathBuf {
    folder.join("node_modules/@confluentinc/kafka-javascript/build/Release/confluent-kafka-javascript.node")
}
