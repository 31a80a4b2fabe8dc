//! The programs that `journey` compares: a host with a no-op handler in either
//! isolation, and the plain consumer. Each runs as a process with its own store.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use courier_tests::servers::process::{Process, run_directory};
use courier_tests::{Host, Store, guest, kafka, postgres, unique, usage, wait_until};

use crate::load::PARTITIONS;
use crate::peers::{Contract, Work, batched};
use crate::progress::{Seen, Used, now};
use crate::stored::{Row, Stored};

/// Time limit for a contender to get its partitions assigned.
const JOIN_LIMIT: Duration = Duration::from_secs(60);

/// A measured program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// A plain consumer with a native handler.
    Plain,
    /// Courier with a sandbox that many messages share.
    Reused,
    /// Courier with a fresh sandbox for each message.
    Fresh,
}

impl Contender {
    /// All contenders; the first is the baseline of the ratios.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Reused, Self::Fresh];

    /// Its column title.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain consumer",
            Self::Reused => "courier, reused",
            Self::Fresh => "courier, fresh",
        }
    }
}

/// A contender at work on one topic.
pub struct Running {
    program: Program,
    stored: Stored,
    url: String,
    store: Store,
    topic: String,
    group: String,
}

enum Program {
    Plain { process: Process, log: PathBuf, read: usize, handled: u64 },
    Courier { host: Box<Host>, version: String },
}

impl Running {
    /// Starts a contender with a fresh group and store. A host does not begin
    /// before [`Running::begin`].
    ///
    /// # Errors
    /// When it or its store cannot be started.
    pub async fn start(contender: Contender, store: Store, topic: &str) -> Result<Self> {
        let group = unique("bench");
        let isolation = match contender {
            Contender::Plain => return Self::start_plain(store, topic, group).await,
            Contender::Reused => "instance",
            Contender::Fresh => "message",
        };
        let binding =
            format!("group = \"{group}\"\ntopics = [\"{topic}\"]\nplugin = \"noop\"\nisolation = \"{isolation}\"");
        let host = Host::builder(&group).store(store).binding(&binding).start().await;
        let url = host.store_url();
        let stored = Stored::open(&url).await?;
        // Compiled before the run begins, as a handler in production is.
        let (status, answer) = host.try_upload("noop", guest("noop"), false).await;
        ensure!(status.is_success(), "the upload of noop was answered {status}: {answer}");
        let version = answer["version"].as_str().unwrap_or_default().to_owned();
        let program = Program::Courier { host: Box::new(host), version };
        Ok(Self { program, stored, url, store, topic: topic.to_owned(), group })
    }

    async fn start_plain(store: Store, topic: &str, group: String) -> Result<Self> {
        let directory = run_directory()?.join(&group);
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let url = match store {
            Store::Postgres => postgres().create_database()?,
            Store::Sqlite => format!("sqlite://{}", directory.join("plain.db").display()),
        };
        let mut command = Command::new(std::env::current_exe().context("cannot tell where this program is")?);
        let contract = Contract {
            bootstrap: kafka().bootstrap().to_owned(),
            topic: topic.to_owned(),
            group: group.clone(),
            database: url.clone(),
            work: Work::None,
            effects: String::new(),
        };
        command.args(["peer", "batched"]).envs(contract.environment());
        let log = directory.join("plain.log");
        let process = Process::start("the plain consumer", command, &log, libc::SIGKILL)?;
        let mut program = Program::Plain { process, log, read: 0, handled: 0 };
        wait_until("the plain consumer has its tables", JOIN_LIMIT, async || {
            let Program::Plain { process, log, .. } = &mut program else { return Ok(()) };
            if let Ok(Some(status)) = process.exited() {
                panic!("the plain consumer ended ({status}):\n{}", process.log_tail(20));
            }
            let text = std::fs::read_to_string(log).unwrap_or_default();
            if text.contains(batched::OPEN) { Ok(()) } else { Err(text) }
        })
        .await;
        let stored = Stored::open(&url).await?;
        Ok(Self { program, stored, url, store, topic: topic.to_owned(), group })
    }

    /// Drops those of these indexes that its store has.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn drop_indexes(&self, names: &[&str]) -> Result<()> {
        for name in names {
            self.stored.drop_index(name).await?;
        }
        Ok(())
    }

    /// Starts the work.
    pub async fn begin(&self) {
        if let Program::Courier { host, version } = &self.program {
            host.activate("noop", version).await;
        }
    }

    /// Waits until it has all partitions.
    pub async fn joined(&self) {
        wait_until("the contender has its partitions", JOIN_LIMIT, async || match &self.program {
            Program::Courier { host, .. } => {
                let seen = host.try_group(&self.group).await.map_err(|error| format!("{error:#}"))?;
                let owned = seen.partitions.iter().filter(|partition| partition.node.is_some()).count();
                if owned == PARTITIONS as usize { Ok(()) } else { Err(format!("{owned} partitions")) }
            }
            Program::Plain { log, .. } => {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                if text.contains(batched::JOINED) { Ok(()) } else { Err(text) }
            }
        })
        .await;
    }

    /// Its progress: the plain consumer's notes since the last call, or the host's
    /// present position from its store.
    ///
    /// # Errors
    /// When it has ended, or its store does not answer.
    pub async fn look(&mut self) -> Result<Vec<Seen>> {
        match &mut self.program {
            Program::Courier { host, .. } => {
                ensure!(host.exited().is_none(), "the host ended:\n{}", host.log_tail());
                let next = self.stored.positions(&self.group, &self.topic).await?;
                // Read after the answer, so that no record seems durable too early.
                Ok(vec![Seen { at: now(), next }])
            }
            Program::Plain { process, log, read, handled } => {
                ensure!(process.exited()?.is_none(), "the plain consumer ended:\n{}", process.log_tail(20));
                let text = std::fs::read(log)?;
                let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1).max(*read);
                let new = String::from_utf8_lossy(&text[*read..whole]).into_owned();
                *read = whole;
                let notes: Vec<_> = new.lines().filter_map(batched::parse).collect();
                *handled = notes.last().map_or(*handled, |note| note.handled);
                Ok(notes.into_iter().map(|note| note.seen).collect())
            }
        }
    }

    /// Processor time so far.
    #[must_use]
    pub fn used(&self) -> Used {
        Used::now(self.process_id(), self.store)
    }

    /// The most memory it had so far, in MiB.
    #[must_use]
    pub fn peak_mib(&self) -> f64 {
        usage::peak_memory(self.process_id()) as f64 / f64::from(1 << 20)
    }

    fn process_id(&self) -> u32 {
        match &self.program {
            Program::Courier { host, .. } => host.process_id().unwrap_or_default(),
            Program::Plain { process, .. } => process.id(),
        }
    }

    /// The rows it wrote, in the order of the log.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn rows(&self) -> Result<Vec<Row>> {
        match &self.program {
            Program::Courier { .. } => self.stored.rows_of_host(&self.group, &self.topic, 0).await,
            Program::Plain { .. } => self.stored.rows_of_plain().await,
        }
    }

    /// Number of invocations of its handler.
    pub async fn invoked(&self) -> u64 {
        match &self.program {
            Program::Courier { host, .. } => {
                host.metric("courier_attempt_seconds_count", &[("group", &self.group)]).await as u64
            }
            Program::Plain { handled, .. } => *handled,
        }
    }

    /// Ends it and removes its store, so that each run begins with the same
    /// machine.
    ///
    /// # Errors
    /// When the database cannot be removed.
    pub async fn end(self) -> Result<()> {
        let Self { program, stored, url, store, .. } = self;
        let directory = match program {
            Program::Courier { host, .. } => {
                host.kill9();
                host.config().parent().map(PathBuf::from)
            }
            Program::Plain { mut process, log, .. } => {
                process.stop(libc::SIGKILL, Duration::from_secs(10))?;
                log.parent().map(PathBuf::from)
            }
        };
        stored.close().await;
        if store == Store::Postgres {
            postgres().drop_database(&url)?;
        }
        if let Some(directory) = directory {
            std::fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        Ok(())
    }
}
