//! The real host: the `courier` binary as a child process with its own TOML, used
//! over HTTP and by signals, as users do.
//!
//! Nothing here uses the host's code, so that a test says something about the
//! released program.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::servers::process::{Process, describe, free_port, run_directory, tail};
use crate::{courier, guest, postgres, unique, usage, wait_until};

/// The bound of a host's start, until `/readyz` answers 200.
pub const READY_LIMIT: Duration = Duration::from_secs(60);
/// Lines of the log that a failed test shows.
const SHOWN: usize = 60;

/// The store of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// A file of its own.
    Sqlite,
    /// A database of its own on the shared server.
    Postgres,
}

impl Store {
    /// The store of a journey that any store may carry: PostgreSQL, unless
    /// `COURIER_TEST_STORE` says `sqlite`. The conformance suite holds both to the
    /// same rules, and the crash tests run on both.
    #[must_use]
    pub fn of_this_pass() -> Self {
        match std::env::var("COURIER_TEST_STORE").as_deref() {
            Ok("sqlite") => Self::Sqlite,
            Ok("postgres" | "") | Err(_) => Self::Postgres,
            Ok(other) => panic!("COURIER_TEST_STORE is {other:?}: it is `sqlite` or `postgres`"),
        }
    }
}

/// The settings of a host. See [`Host::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    node: String,
    kafka: String,
    properties: Vec<(String, String)>,
    create_topics: bool,
    dev: bool,
    store: String,
    tables: Vec<String>,
    bindings: Vec<String>,
    environment: Vec<(String, String)>,
    token: String,
}

impl Builder {
    /// The `host:port` of the Kafka to use; without it, the shared one.
    #[must_use]
    pub fn kafka(mut self, bootstrap: &str) -> Self {
        bootstrap.clone_into(&mut self.kafka);
        self
    }

    /// A line of `[kafka.properties]`; the value is TOML, so text has quotes.
    #[must_use]
    pub fn property(mut self, name: &str, toml: &str) -> Self {
        self.properties.retain(|(known, _)| known != name);
        self.properties.push((name.to_owned(), toml.to_owned()));
        self
    }

    /// Lets the host create its own topics, such as dead letters.
    #[must_use]
    pub fn create_topics(mut self) -> Self {
        self.create_topics = true;
        self
    }

    /// Starts it as `courier dev`, which uses a broker and a store of its own in place
    /// of those that the TOML names.
    #[must_use]
    pub fn dev(mut self) -> Self {
        self.dev = true;
        self
    }

    /// Sets the kind of a fresh store; the default is SQLite.
    #[must_use]
    pub fn store(self, store: Store) -> Self {
        match store {
            Store::Sqlite => self.store_url(""),
            Store::Postgres => {
                let url = postgres().create_database();
                self.store_url(&url.unwrap_or_else(|error| panic!("no database for a test: {error:#}")))
            }
        }
    }

    /// Sets a store that other hosts or an earlier one use too; empty means a SQLite
    /// file in the host's own directory.
    #[must_use]
    pub fn store_url(mut self, url: &str) -> Self {
        url.clone_into(&mut self.store);
        self
    }

    /// The text of one `[[binding]]`, without that line.
    #[must_use]
    pub fn binding(mut self, toml: &str) -> Self {
        self.bindings.push(toml.to_owned());
        self
    }

    /// A whole table of another sort, such as `[auth]`.
    #[must_use]
    pub fn table(mut self, toml: &str) -> Self {
        self.tables.push(toml.to_owned());
        self
    }

    /// A variable in the host's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The token that requests of this test carry.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        token.clone_into(&mut self.token);
        self
    }

    /// Writes the TOML without starting anything; see [`Host::start_again`].
    #[must_use]
    pub fn prepare(self) -> Host {
        let directory = run_directory().unwrap_or_else(|error| panic!("{error:#}")).join(unique(&self.node));
        std::fs::create_dir_all(&directory)
            .unwrap_or_else(|error| panic!("cannot create {}: {error}", directory.display()));
        let port = free_port().unwrap_or_else(|error| panic!("{error:#}"));
        let host = Host {
            address: format!("http://127.0.0.1:{port}"),
            config: directory.join("courier.toml"),
            log: directory.join("host.log"),
            client: courier::http_client::builder()
                .timeout(Duration::from_secs(60))
                .default_headers(self.authorization())
                .build()
                .expect("a client without special settings can be built"),
            process: Mutex::new(None),
            directory,
            port,
            settings: self,
        };
        host.write_config(&host.toml());
        host
    }

    fn authorization(&self) -> HeaderMap {
        let value =
            || HeaderValue::from_str(&format!("Bearer {}", self.token)).expect("a token of a test is plain text");
        (!self.token.is_empty()).then(|| (header::AUTHORIZATION, value())).into_iter().collect()
    }

    /// Starts the host and waits until it is ready.
    pub async fn start(self) -> Host {
        let host = self.prepare();
        host.start_again().await;
        host
    }
}

/// A host, running or stopped; its node, port and store stay the same.
#[derive(Debug)]
pub struct Host {
    pub(crate) address: String,
    config: PathBuf,
    log: PathBuf,
    pub(crate) client: reqwest::Client,
    process: Mutex<Option<Process>>,
    directory: PathBuf,
    port: u16,
    settings: Builder,
}

impl Host {
    /// A host of this node name on the shared Kafka, with SQLite. Its Kafka session is
    /// short, so that tests see it expire.
    #[must_use]
    pub fn builder(node: &str) -> Builder {
        let builder = Builder {
            node: node.to_owned(),
            kafka: String::new(),
            properties: Vec::new(),
            create_topics: false,
            dev: false,
            store: String::new(),
            tables: Vec::new(),
            bindings: Vec::new(),
            environment: Vec::new(),
            token: String::new(),
        };
        builder.property("session.timeout.ms", "6000").property("heartbeat.interval.ms", "1000")
    }

    /// A host with one binding of the scripted guest, uploaded and active;
    /// `policy` is appended to the binding.
    pub async fn scripted(node: &str, store: Store, group: &str, topic: &str, policy: &str) -> Self {
        let host = Self::builder(node).store(store).create_topics().binding(&scripted_binding(group, topic, policy));
        let host = host.start().await;
        host.upload("scripted", guest("scripted")).await;
        host
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.settings.node
    }

    /// The store's URL as configured.
    #[must_use]
    pub fn store_url(&self) -> String {
        match self.settings.store.as_str() {
            "" => format!("sqlite://{}", self.directory.join("courier.db").display()),
            url => url.to_owned(),
        }
    }

    /// The TOML that the builder's settings make.
    #[must_use]
    pub fn toml(&self) -> String {
        let settings = &self.settings;
        let kafka = if settings.kafka.is_empty() { crate::kafka().bootstrap() } else { &settings.kafka };
        let mut text = String::new();
        let mut line = |text_of_line: &str| writeln!(text, "{text_of_line}").expect("a String takes any text");
        line(&format!("[server]\nlisten = \"127.0.0.1:{}\"\nnode = \"{}\"\n", self.port, settings.node));
        line(&format!("[kafka]\nbootstrap_servers = [\"{kafka}\"]\n"));
        line("[kafka.properties]");
        for (name, value) in &settings.properties {
            line(&format!("\"{name}\" = {value}"));
        }
        if settings.create_topics {
            line("\n[kafka.topics]\ncreate = true\npartitions = 2\nreplication = 1");
        }
        line(&format!("\n[store]\nurl = \"{}\"\n", self.store_url()));
        for table in &settings.tables {
            line(table);
        }
        for binding in &settings.bindings {
            line(&format!("[[binding]]\n{binding}\n"));
        }
        text
    }

    /// Replaces the configuration file with any text; a running host reloads it by
    /// itself.
    pub fn write_config(&self, toml: &str) {
        std::fs::write(&self.config, toml)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", self.config.display()));
    }

    /// Starts a stopped host with the same node, port and store; returns how
    /// long it took to be ready.
    pub async fn start_again(&self) -> Duration {
        let begin = Instant::now();
        self.spawn();
        self.ready().await;
        begin.elapsed()
    }

    /// Waits until a host that was spawned is ready.
    pub async fn ready(&self) {
        wait_until(&format!("host {} is ready", self.node()), READY_LIMIT, async || {
            if let Some(status) = self.exited() {
                panic!("host {} ended at its start ({}):\n{}", self.node(), describe(status), self.log_tail());
            }
            match self.try_request(Method::GET, "/readyz", None).await {
                Ok((StatusCode::OK, _)) => Ok(()),
                Ok((status, body)) => Err(format!("/readyz answers {status}: {body}")),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await;
    }

    /// Starts the process without waiting for anything.
    pub fn spawn(&self) {
        let mut command = self.command();
        command.arg(if self.settings.dev { "dev" } else { "serve" }).arg("--config").arg(&self.config);
        let process = Process::start(&format!("host {}", self.node()), command, &self.log, libc::SIGKILL);
        *self.process() = Some(process.unwrap_or_else(|error| panic!("{error:#}")));
    }

    /// The binary with this host's environment, in its directory.
    fn command(&self) -> Command {
        let mut command = Command::new(courier());
        command.current_dir(&self.directory).envs(self.settings.environment.iter().cloned());
        command.env("RUST_BACKTRACE", "1");
        command
    }

    /// Runs another command of the CLI against this host and returns its exit
    /// status, standard output and error output.
    pub fn cli(&self, arguments: &[&str]) -> (ExitStatus, String, String) {
        let mut command = self.command();
        command.env("COURIER_SERVER", &self.address).args(arguments);
        let output = command.output().unwrap_or_else(|error| panic!("courier {arguments:?} does not run: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status, text(&output.stdout), text(&output.stderr))
    }

    /// The DDL of an outbox that the CLI prints for a dialect, such as `postgres`.
    pub fn outbox_schema(&self, arguments: &[&str]) -> String {
        let (status, printed, errors) = self.cli(&[&["outbox", "schema", "--for"], arguments].concat());
        assert!(status.success(), "{errors}");
        printed
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a signal to the running host.
    pub fn signal(&self, signal: i32) {
        self.process().as_ref().unwrap_or_else(|| panic!("host {} does not run", self.node())).signal(signal);
    }

    /// Freezes it.
    pub fn sigstop(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Thaws it.
    pub fn sigcont(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Makes it reload its configuration.
    pub fn sighup(&self) {
        self.signal(libc::SIGHUP);
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub fn kill9(&self) {
        if let Some(mut process) = self.process().take() {
            process.stop(libc::SIGKILL, Duration::from_secs(10)).unwrap_or_else(|error| panic!("{error:#}"));
        }
    }

    /// Sends SIGTERM and returns the exit status; panics when the host takes longer
    /// than `limit`.
    pub async fn sigterm(&self, limit: Duration) -> ExitStatus {
        self.signal(libc::SIGTERM);
        let what = format!("host {} has stopped after SIGTERM", self.node());
        let status = wait_until(&what, limit, async || self.exited().ok_or_else(|| "it runs".to_owned())).await;
        self.process().take();
        status
    }

    /// The exit status of a host that ended, by itself or not.
    pub fn exited(&self) -> Option<ExitStatus> {
        let mut process = self.process();
        process.as_mut()?.exited().unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The process id, for reading the kernel's figures.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process().as_ref().map(Process::id)
    }

    /// Resident memory in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.process_id().map_or(0, |process| usage::status_bytes(process, "VmRSS:"))
    }

    /// The whole log.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log, SHOWN)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- host {} ({}) logged last:\n{}\n---", self.node(), self.log.display(), self.log_tail());
        }
    }
}

/// A binding of the scripted guest to one topic.
#[must_use]
pub fn scripted_binding(group: &str, topic: &str, policy: &str) -> String {
    format!("group = \"{group}\"\ntopics = [\"{topic}\"]\nplugin = \"scripted\"\n{policy}")
}

/// A message for the scripted guest: entry n of `script` is attempt n.
#[must_use]
pub fn scripted(topic: &str, key: &str, script: &[&str]) -> Value {
    json!({ "topic": topic, "type": "Scripted", "key": key, "source": "tests", "body": { "do": script } })
}
