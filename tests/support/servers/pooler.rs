//! PgBouncer, before a PostgreSQL of the tests.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::postgres::{Postgres, server_user};
use super::process::{Process, free_port, run_directory};
use super::setup::{self, Need};

const START_LIMIT: Duration = Duration::from_secs(20);
const NEEDS: &[Need] = &[Need { program: "pgbouncer", package: "pgbouncer", purpose: "stand before PostgreSQL" }];

/// A pooler that gives sessions of a server to its clients.
#[derive(Debug)]
pub struct Pooler {
    port: u16,
    _process: Process,
}

impl Pooler {
    /// Starts one before a server that was started here; `pool_mode` is
    /// `session` or `transaction`.
    pub fn start(server: &Postgres, pool_mode: &str) -> Result<Self> {
        setup::require(NEEDS)?;
        let port = free_port()?;
        let directory = run_directory()?.join(format!("pgbouncer-{port}"));
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let settings = directory.join("pgbouncer.ini");
        // Only the required settings: users leave the others at their defaults.
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {pool_mode}\n",
            server.port()?
        );
        std::fs::write(&settings, text).with_context(|| format!("cannot write {}", settings.display()))?;
        let mut command = Command::new("pgbouncer");
        command.arg(&settings).current_dir(&directory);
        if let Some((user, group)) = server_user()? {
            chown(&directory, Some(user), Some(group)).context("cannot give a directory to the pooler's user")?;
            command.uid(user).gid(group);
        }
        let mut process = Process::start("PgBouncer", command, &directory.join("pgbouncer.log"), libc::SIGKILL)?;
        process.wait_ready(START_LIMIT, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Self { port, _process: process })
    }

    /// The URL of a database of its server, by way of the pooler.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}
