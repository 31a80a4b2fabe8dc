//! Apache Kafka's own broker: one process in KRaft mode with two listeners.
//!
//! One listener is PLAINTEXT, the other has TLS and SCRAM-SHA-256 with a certificate
//! and a user made for the run. Ports and data directory stay the same over
//! [`Kafka::stop`] and [`Kafka::start_again`], so that clients see an outage.

use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::process::{Frozen, Process, free_port, run_directory};
use super::setup::{self, output_of};

/// The list of jars; part of the repository so that a version changes in one place.
const POM: &str = include_str!("kafka/pom.xml");
/// The bound of a start. A broker on a busy machine needs 3 s.
const START_LIMIT: Duration = Duration::from_secs(90);
/// The bound of a controlled shutdown, which takes a second or two.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// What the broker prints when it accepts clients.
const STARTED: &str = "Kafka Server started";
const KEYSTORE_PASSWORD: &str = "only-for-tests";

/// What a client needs to use the listener with TLS and SCRAM.
#[derive(Clone, Debug)]
pub struct Sasl {
    /// `host:port` of that listener.
    pub bootstrap: String,
    /// The certificate to trust, as a PEM file.
    pub ca_file: PathBuf,
    /// The SCRAM-SHA-256 user.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// A Kafka broker: one that was started here, or the one that
/// `COURIER_TEST_KAFKA` names.
#[derive(Debug)]
pub struct Kafka {
    bootstrap: String,
    own: Option<Own>,
}

/// The state of a broker that this process started.
#[derive(Debug)]
struct Own {
    directory: PathBuf,
    jars: PathBuf,
    sasl: Sasl,
    /// `None` while it is stopped.
    broker: Mutex<Option<Process>>,
}

impl Kafka {
    /// The broker named by `COURIER_TEST_KAFKA`, else one of our own.
    pub fn obtain(name: &str) -> Result<Self> {
        match std::env::var("COURIER_TEST_KAFKA") {
            Ok(bootstrap) if !bootstrap.is_empty() => Ok(Self { bootstrap, own: None }),
            _ => Self::start(name),
        }
    }

    /// Starts a broker of our own; `name` tells its directory from others'.
    pub fn start(name: &str) -> Result<Self> {
        let jars = fetch_jars()?;
        let directory = run_directory()?.join(format!("kafka-{name}"));
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let (plain, secure, controller) = (free_port()?, free_port()?, free_port()?);
        let sasl = Sasl {
            bootstrap: format!("127.0.0.1:{secure}"),
            ca_file: directory.join("ca.pem"),
            user: "courier".to_owned(),
            password: "scram-password-of-the-tests".to_owned(),
        };
        make_certificate(&directory, &sasl.ca_file)?;
        let properties = server_properties(&directory, plain, secure, controller);
        std::fs::write(directory.join("server.properties"), properties).context("cannot write server.properties")?;
        format_storage(&jars, &directory, &sasl)?;
        let kafka = Self {
            bootstrap: format!("127.0.0.1:{plain}"),
            own: Some(Own { directory, jars, sasl, broker: Mutex::new(None) }),
        };
        kafka.start_again()?;
        Ok(kafka)
    }

    /// `host:port` of the listener without TLS.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The listener with TLS and SCRAM; a broker that was given has none.
    #[must_use]
    pub fn sasl(&self) -> Option<&Sasl> {
        self.own.as_ref().map(|own| &own.sasl)
    }

    /// The broker's log file.
    #[must_use]
    pub fn log_file(&self) -> Option<PathBuf> {
        self.own.as_ref().map(Own::log_file)
    }

    /// The process id of a broker that was started here, for asking the kernel
    /// what it used.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.own.as_ref()?.broker().as_ref().map(Process::id)
    }

    /// Stops the broker with SIGTERM, as an operator would.
    pub fn stop(&self) -> Result<()> {
        if let Some(mut broker) = self.own()?.broker().take() {
            broker.stop(libc::SIGTERM, STOP_PATIENCE)?;
        }
        Ok(())
    }

    /// Kills the broker with SIGKILL.
    pub fn kill9(&self) -> Result<()> {
        if let Some(mut broker) = self.own()?.broker().take() {
            broker.stop(libc::SIGKILL, STOP_PATIENCE)?;
        }
        Ok(())
    }

    /// Freezes the broker until the result is dropped: connections stay open, and
    /// nothing comes over them.
    pub fn freeze(&self) -> Result<Frozen> {
        let own = self.own()?;
        let broker = own.broker();
        Ok(Frozen::with_children(broker.as_ref().context("the broker does not run")?))
    }

    /// Starts a stopped broker on the same ports with the same data, and returns when it
    /// accepts clients. Does nothing for a running one.
    pub fn start_again(&self) -> Result<()> {
        let own = self.own()?;
        let mut running = own.broker();
        if running.is_some() {
            return Ok(());
        }
        let log = own.log_file();
        let already_logged = std::fs::metadata(&log).map_or(0, |file| file.len());
        let mut java = java(&own.jars);
        java.args(["-Xms256m", "-Xmx768m", "-XX:TieredStopAtLevel=1", "kafka.Kafka"]);
        java.arg(own.directory.join("server.properties"));
        let mut broker = Process::start("Kafka", java, &log, libc::SIGKILL)?;
        broker.wait_ready(START_LIMIT, || {
            let text = std::fs::read(&log).unwrap_or_default();
            let since = usize::try_from(already_logged).unwrap_or(0).min(text.len());
            String::from_utf8_lossy(&text[since..]).contains(STARTED)
        })?;
        *running = Some(broker);
        Ok(())
    }

    /// Fails when the broker has ended by itself, with the end of its log.
    pub fn check(&self) -> Result<()> {
        let Some(own) = &self.own else { return Ok(()) };
        if let Some(broker) = own.broker().as_mut()
            && let Some(status) = broker.exited()?
        {
            bail!("Kafka ended by itself ({}):\n{}", super::process::describe(status), broker.log_tail(40));
        }
        Ok(())
    }

    fn own(&self) -> Result<&Own> {
        self.own.as_ref().context("COURIER_TEST_KAFKA names a broker that tests may not stop: unset it for this test")
    }
}

impl Own {
    fn log_file(&self) -> PathBuf {
        self.directory.join("broker.log")
    }

    fn broker(&self) -> MutexGuard<'_, Option<Process>> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches the broker's jars once for all runs on this machine.
pub fn fetch_jars() -> Result<PathBuf> {
    setup::require(setup::KAFKA)?;
    let home = setup::target_directory().join("tools/kafka");
    let (jars, done) = (home.join("lib"), home.join("fetched.pom.xml"));
    std::fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    let lock = File::create(home.join("lock")).context("cannot create a lock file")?;
    // SAFETY: the descriptor is open as long as `lock` lives; closing it at
    // the end of this function gives the lock back.
    unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) };
    if std::fs::read_to_string(&done).is_ok_and(|fetched| fetched == POM) {
        return Ok(jars);
    }
    println!("fetching Kafka's broker with Maven (43 MB) into {}", jars.display());
    std::fs::remove_dir_all(&jars).ok();
    let pom = home.join("pom.xml");
    std::fs::write(&pom, POM).context("cannot write pom.xml")?;
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "dependency:copy-dependencies"]).arg("-f").arg(&pom);
    maven.arg(format!("-DoutputDirectory={}", jars.display()));
    output_of("fetch Kafka's jars", &mut maven)?;
    std::fs::write(&done, POM).context("cannot note that the jars are there")?;
    Ok(jars)
}

fn java(jars: &Path) -> Command {
    let mut java = Command::new("java");
    java.arg("-cp").arg(jars.join("*"));
    java
}

/// A certificate that signs itself: its own authority, valid for 127.0.0.1.
fn make_certificate(directory: &Path, ca_file: &Path) -> Result<()> {
    let keystore = directory.join("broker.p12");
    let store = ["-storetype", "PKCS12", "-storepass", KEYSTORE_PASSWORD, "-alias", "broker", "-keystore"];
    let mut make = Command::new("keytool");
    make.arg("-genkeypair").args(store).arg(&keystore);
    make.args(["-keyalg", "RSA", "-keysize", "2048", "-validity", "3650", "-dname", "CN=localhost"]);
    make.args(["-ext", "san=ip:127.0.0.1,dns:localhost", "-ext", "bc:critical=ca:true"]);
    output_of("make the broker's certificate", &mut make)?;
    let mut export = Command::new("keytool");
    export.args(["-exportcert", "-rfc"]).args(store).arg(&keystore);
    let certificate = output_of("export the broker's certificate", &mut export)?;
    std::fs::write(ca_file, certificate).with_context(|| format!("cannot write {}", ca_file.display()))
}

fn format_storage(jars: &Path, directory: &Path, sasl: &Sasl) -> Result<()> {
    let mut format = java(jars);
    format.args(["-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format", "-t", &cluster_id(), "-c"]);
    format.arg(directory.join("server.properties")).arg("--add-scram");
    format.arg(format!("SCRAM-SHA-256=[name={},password={}]", sasl.user, sasl.password));
    output_of("format Kafka's storage", &mut format)?;
    Ok(())
}

/// A cluster id is 16 bytes as unpadded base64: 22 letters, here from the
/// process id, since nothing but this run ever compares it.
fn cluster_id() -> String {
    format!("Courier{:0>14}A", std::process::id())
}

fn server_properties(directory: &Path, plain: u16, secure: u16, controller: u16) -> String {
    let data = directory.join("data");
    let keystore = directory.join("broker.p12");
    let mut text = String::new();
    let mut set = |key: &str, value: &dyn std::fmt::Display| {
        writeln!(text, "{key}={value}").expect("a String takes any text");
    };
    set("process.roles", &"broker,controller");
    set("node.id", &1);
    set("controller.quorum.voters", &format!("1@127.0.0.1:{controller}"));
    let doors = format!("PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure}");
    set("listeners", &format!("{doors},CONTROLLER://127.0.0.1:{controller}"));
    set("advertised.listeners", &doors);
    set("listener.security.protocol.map", &"PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT");
    set("controller.listener.names", &"CONTROLLER");
    set("inter.broker.listener.name", &"PLAINTEXT");
    set("sasl.enabled.mechanisms", &"SCRAM-SHA-256");
    set(
        "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config",
        &"org.apache.kafka.common.security.scram.ScramLoginModule required;",
    );
    set("ssl.keystore.type", &"PKCS12");
    set("ssl.keystore.location", &keystore.display());
    set("ssl.keystore.password", &KEYSTORE_PASSWORD);
    set("log.dirs", &data.display());
    set("offsets.topic.replication.factor", &1);
    set("offsets.topic.num.partitions", &8);
    set("transaction.state.log.replication.factor", &1);
    set("transaction.state.log.min.isr", &1);
    set("transaction.state.log.num.partitions", &4);
    set("group.initial.rebalance.delay.ms", &0);
    // Short, since tests freeze hosts for longer than their session timeout.
    set("group.min.session.timeout.ms", &1_000);
    // A topic that nobody created is a mistake here, as it is in production.
    set("auto.create.topics.enable", &false);
    // Retention is tested in seconds.
    set("log.retention.check.interval.ms", &1_000);
    set("log.segment.delete.delay.ms", &1_000);
    text
}
