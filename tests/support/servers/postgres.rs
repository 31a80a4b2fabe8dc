//! Debian's PostgreSQL, run for the tests only: its own data directory, port
//! and user, with fsync on as in production.
//!
//! The server refuses to run as root, so as root it runs as `postgres`. Port
//! and data stay the same over [`Postgres::stop`] and
//! [`Postgres::start_again`].

use std::ffi::CString;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::process::{Frozen, Process, free_port, run_directory};
use super::setup::{self, output_of};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// Asks a database how many connections of hosts to it wait for a lock.
pub const WAITING_FOR_LOCKS: &str = "SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'courier' AND wait_event_type = 'Lock'";
/// The user to become when this process is root.
const SERVER_USER: &str = "postgres";

/// A PostgreSQL server: one that was started here, or the one that
/// `COURIER_TEST_POSTGRES` names by the URL of a user who may create databases.
#[derive(Debug)]
pub struct Postgres {
    /// URL up to and without the database's name.
    base: String,
    /// What follows the database's name in the given URL, `?` included.
    parameters: String,
    /// The database to connect to for creating others.
    first_database: String,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    programs: PathBuf,
    directory: PathBuf,
    port: u16,
    server: Mutex<Option<Process>>,
}

impl Postgres {
    /// The server named by `COURIER_TEST_POSTGRES`, else one of our own.
    pub fn obtain(name: &str) -> Result<Self> {
        match std::env::var("COURIER_TEST_POSTGRES") {
            Ok(url) if !url.is_empty() => Self::given(&url),
            _ => Self::start(name),
        }
    }

    fn given(url: &str) -> Result<Self> {
        let wrong =
            || format!("COURIER_TEST_POSTGRES must be like postgres://user:password@host:port/postgres, not {url}");
        let (front, parameters) =
            url.split_once('?').map_or((url, String::new()), |(front, rest)| (front, format!("?{rest}")));
        let (_, authority_and_path) = front.split_once("://").with_context(wrong)?;
        let (authority, database) = authority_and_path.split_once('/').with_context(wrong)?;
        Ok(Self {
            base: format!("postgres://{authority}"),
            parameters,
            first_database: if database.is_empty() { "postgres".to_owned() } else { database.to_owned() },
            own: None,
        })
    }

    /// Starts a server of our own; `name` tells its directory from others'.
    pub fn start(name: &str) -> Result<Self> {
        let own = Own::create(name)?;
        let mut initdb = own.command("initdb")?;
        initdb.arg("-D").arg(own.data()).args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"]);
        output_of("create a PostgreSQL cluster", &mut initdb)?;
        Self::started(own)
    }

    /// Starts a server that follows this one, and from which clients can only
    /// read until it is promoted.
    pub fn start_standby(&self, name: &str) -> Result<Self> {
        let primary = self.own()?;
        let own = Own::create(name)?;
        let mut copy = own.command("pg_basebackup")?;
        copy.args(["-h", "127.0.0.1", "-p", &primary.port.to_string(), "-U", SERVER_USER, "-c", "fast", "-R", "-D"]);
        output_of("copy a PostgreSQL cluster", copy.arg(own.data()))?;
        Self::started(own)
    }

    fn started(own: Own) -> Result<Self> {
        let postgres = Self {
            base: format!("postgres://{SERVER_USER}@127.0.0.1:{}", own.port),
            parameters: String::new(),
            first_database: "postgres".to_owned(),
            own: Some(own),
        };
        postgres.start_again()?;
        Ok(postgres)
    }

    /// The port of a server that was started here.
    pub fn port(&self) -> Result<u16> {
        Ok(self.own()?.port)
    }

    /// Creates an empty database and returns its URL.
    pub fn create_database(&self) -> Result<String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("courier_{}_{number}", std::process::id());
        self.psql(&self.first_database, &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// Runs one statement on a database through `psql` and returns its output.
    pub fn psql(&self, database: &str, statement: &str) -> Result<String> {
        let psql = self.own.as_ref().map_or_else(|| PathBuf::from("psql"), |own| own.programs.join("psql"));
        let mut command = Command::new(psql);
        command.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement, "-d", &self.url(database)]);
        output_of("run a statement on PostgreSQL", &mut command)
    }

    fn url(&self, database: &str) -> String {
        format!("{}/{database}{}", self.base, self.parameters)
    }

    /// Removes a database that [`Postgres::create_database`] made, and ends its
    /// sessions.
    pub fn drop_database(&self, url: &str) -> Result<()> {
        let path = url.split('?').next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        self.psql(&self.first_database, &format!("DROP DATABASE {name} WITH (FORCE)")).map(|_| ())
    }

    /// The process id of a server that was started here, for reading the usage of
    /// it and its sessions.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.own.as_ref()?.server().as_ref().map(Process::id)
    }

    /// The path of the server's log.
    pub fn log(&self) -> Result<PathBuf> {
        Ok(self.own()?.log())
    }

    /// Stops the server as `systemctl stop` would: connections are cut.
    pub fn stop(&self) -> Result<()> {
        if let Some(mut server) = self.own()?.server().take() {
            server.stop(libc::SIGINT, STOP_PATIENCE)?;
        }
        Ok(())
    }

    /// Stops the server without a checkpoint, as a crash would: it recovers
    /// from its log at the next start.
    pub fn crash(&self) -> Result<()> {
        if let Some(mut server) = self.own()?.server().take() {
            server.stop(libc::SIGQUIT, STOP_PATIENCE)?;
        }
        Ok(())
    }

    /// Freezes the server with all its sessions until the returned value is
    /// dropped: connections stay open, and nothing comes over them.
    pub fn freeze(&self) -> Result<Frozen> {
        let own = self.own()?;
        let server = own.server();
        Ok(Frozen::with_children(server.as_ref().context("the server does not run")?))
    }

    /// Starts a stopped server on the same port with the same data, and
    /// returns once it accepts clients. A running one is left alone.
    pub fn start_again(&self) -> Result<()> {
        let own = self.own()?;
        let mut running = own.server();
        if running.is_some() {
            return Ok(());
        }
        let mut postgres = own.command("postgres")?;
        postgres.arg("-D").arg(own.data()).args(["-p", &own.port.to_string()]).arg("-k").arg(&own.directory);
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]);
        // SIGQUIT ends the server and its sessions at once and leaves no
        // shared memory behind, which SIGKILL would.
        let mut server = Process::start("PostgreSQL", postgres, &own.log(), libc::SIGQUIT)?;
        let mut probe = Command::new(own.programs.join("pg_isready"));
        probe.args(["-q", "-h", "127.0.0.1", "-p", &own.port.to_string()]);
        server.wait_ready(START_LIMIT, || probe.status().is_ok_and(|status| status.success()))?;
        *running = Some(server);
        Ok(())
    }

    fn own(&self) -> Result<&Own> {
        self.own.as_ref().context("COURIER_TEST_POSTGRES names a server that is not the tests' own: unset it for this")
    }
}

impl Own {
    /// A directory and a port of its own.
    fn create(name: &str) -> Result<Self> {
        let programs = find_programs()?;
        let directory = run_directory()?.join(format!("postgres-{name}"));
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        if let Some((user, group)) = server_user()? {
            chown(&directory, Some(user), Some(group))
                .with_context(|| format!("cannot give {} to {SERVER_USER}", directory.display()))?;
        }
        Ok(Self { programs, directory, port: free_port()?, server: Mutex::new(None) })
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    fn server(&self) -> MutexGuard<'_, Option<Process>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of PostgreSQL's programs, as the user it runs as.
    fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.directory);
        if let Some((user, group)) = server_user()? {
            command.uid(user).gid(group);
        }
        Ok(command)
    }
}

/// The folder of PostgreSQL's programs; installs them where that is allowed.
pub fn find_programs() -> Result<PathBuf> {
    let newest = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        let mut folders: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
        folders.retain(|folder| folder.join("initdb").is_file());
        folders.sort();
        folders.pop()
    };
    let elsewhere = || setup::find("initdb").and_then(|initdb| initdb.parent().map(Path::to_owned));
    if let Some(folder) = newest().or_else(elsewhere) {
        return Ok(folder);
    }
    setup::install(&["postgresql"]).context("PostgreSQL is needed to test the store of several hosts")?;
    newest().context("postgresql was installed, but /usr/lib/postgresql/*/bin/initdb is not there")
}

/// The user and group to run the server as; `None` when this is not root.
pub(super) fn server_user() -> Result<Option<(u32, u32)>> {
    // SAFETY: system calls without arguments, and a look-up whose result is
    // copied out before anybody could call it again.
    unsafe {
        if libc::geteuid() != 0 {
            return Ok(None);
        }
        let name = CString::new(SERVER_USER).expect("the name has no NUL");
        let entry = libc::getpwnam(name.as_ptr());
        if entry.is_null() {
            bail!("PostgreSQL refuses to run as root and there is no user {SERVER_USER}: install Debian's postgresql");
        }
        Ok(Some(((*entry).pw_uid, (*entry).pw_gid)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_url_is_split_at_its_database() {
        let given = Postgres::given("postgres://me:secret@db.example:5433/main?sslmode=require").unwrap();
        assert_eq!(given.url("other"), "postgres://me:secret@db.example:5433/other?sslmode=require");
        assert_eq!(given.first_database, "main");
        assert!(Postgres::given("localhost").unwrap_err().to_string().contains("postgres://user"));
    }
}
