//! The hosts and databases that the clients' scenarios run against, and the
//! file that describes them: `COURIER_TEST_HOSTS`.
//!
//! One host has an embedded broker and relays two outboxes; the broker of the other
//! one is never reachable.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::servers::Postgres;
use crate::servers::process::{Process, describe, free_port, run_directory};
use crate::servers::setup::{self, output_of};
use crate::steps::HostBuild;
use crate::{guests, http, steps};

/// How long a host may take to start, on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(20);
const SHOP_TOKEN: &str = "token-of-the-shop";
const ADMIN_TOKEN: &str = "token-of-the-admin";
/// A handler that does nothing, successfully.
const PLUGIN: &str = "noop";
/// Python program that creates an outbox in a file of SQLite, from statements on
/// standard input.
const CREATE_SQLITE: &str = "import sqlite3, sys
shop = sqlite3.connect(sys.argv[1])
shop.execute('PRAGMA journal_mode = WAL')
shop.executescript(sys.stdin.read())";

/// Running hosts and databases, which stop when this is dropped.
pub struct Hosts {
    file: PathBuf,
    hosts: Vec<Process>,
    postgres: Postgres,
    database: String,
}

impl Hosts {
    /// Builds what is missing, and starts the hosts and databases.
    pub fn start(root: &Path) -> Result<Self> {
        setup::require(setup::HOST_BUILD)?;
        steps::say("build the handlers");
        guests::run(root)?;
        HostBuild::Quick.build(root)?;
        let directory = run_directory()?.join("clients");
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;

        let postgres = Postgres::obtain("clients")?;
        let shop_postgres = postgres.create_database()?;
        let database = shop_postgres.split('?').next().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
        postgres.psql(database, &outbox_schema("postgres")?)?;
        let shop_sqlite = directory.join("shop.db");
        create_sqlite(&shop_sqlite, &outbox_schema("sqlite")?)?;

        let (main, away) = (free_port()?, free_port()?);
        let toml = main_toml(main, &shop_postgres, &shop_sqlite);
        let mut hosts = vec![start(&directory, "dev", "main", main, &toml)?];
        push_plugin(main)?;
        hosts.push(start(&directory, "serve", "away", away, &away_toml(away, &directory))?);

        let file = directory.join("hosts.json");
        let description = json!({
            "main": { "url": url(main) },
            "away": { "url": url(away) },
            "tokens": { "shop": SHOP_TOKEN, "wrong": "token-of-nobody" },
            "postgres": shop_postgres,
            "sqlite": shop_sqlite,
        });
        std::fs::write(&file, description.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { file, hosts, postgres, database: shop_postgres })
    }

    /// The file that describes the hosts.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Stops the hosts; fails if one has ended by itself.
    pub fn end(mut self) -> Result<()> {
        for host in &mut self.hosts {
            if let Some(status) = host.exited()? {
                bail!("a host ended by itself ({}):\n{}", describe(status), host.log_tail(40));
            }
            host.stop(libc::SIGTERM, STOP_PATIENCE)?;
        }
        self.postgres.drop_database(&self.database)
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn courier() -> Command {
    Command::new(HostBuild::Quick.program())
}

fn outbox_schema(dialect: &str) -> Result<String> {
    output_of("print the outbox's table", courier().args(["outbox", "schema", "--for", dialect]))
}

fn create_sqlite(file: &Path, schema: &str) -> Result<()> {
    let mut python = Command::new("python3");
    python.args(["-c", CREATE_SQLITE]).arg(file).stdin(Stdio::piped());
    let mut child = python.spawn().context("python3 does not run")?;
    let mut input = child.stdin.take().context("the pipe was asked for above")?;
    input.write_all(schema.as_bytes()).context("cannot hand the schema over")?;
    drop(input);
    let status = child.wait().context("cannot wait for python3")?;
    if !status.success() {
        bail!("cannot create the outbox in {}: python3 ended with {status}", file.display());
    }
    Ok(())
}

fn main_toml(port: u16, postgres: &str, sqlite: &Path) -> String {
    format!(
        r#"[server]
listen = "127.0.0.1:{port}"
node = "clients-main"

[auth]
tokens = [
    {{ name = "shop", role = "publisher", env = "SHOP_TOKEN", topics = ["order", "price", "unread"] }},
    {{ name = "admin", role = "admin", env = "ADMIN_TOKEN" }},
]

[[outbox]]
name = "shop-postgres"
url = "{postgres}"
table = "courier_outbox"

[[outbox]]
name = "shop-sqlite"
url = "sqlite://{}"
table = "courier_outbox"

[[binding]]
group = "stock"
topics = ["order"]
plugin = "{PLUGIN}"

[[binding]]
group = "prices"
topics = ["price"]
plugin = "{PLUGIN}"
"#,
        sqlite.display()
    )
}

/// The configuration of a host without Kafka: nothing listens on port 1.
fn away_toml(port: u16, directory: &Path) -> String {
    format!(
        r#"[server]
listen = "127.0.0.1:{port}"
node = "clients-away"

[kafka]
bootstrap_servers = ["127.0.0.1:1"]

[store]
url = "sqlite://{}"
"#,
        directory.join("away.db").display()
    )
}

/// Starts a host with a configuration of its own, and waits until it is ready.
fn start(directory: &Path, command: &str, name: &str, port: u16, toml: &str) -> Result<Process> {
    let config = directory.join(format!("{name}.toml"));
    std::fs::write(&config, toml).with_context(|| format!("cannot write {}", config.display()))?;
    let mut courier = courier();
    courier.current_dir(directory).arg(command).arg("--config").arg(&config);
    courier.env("SHOP_TOKEN", SHOP_TOKEN).env("ADMIN_TOKEN", ADMIN_TOKEN);
    let log = directory.join(format!("{name}.log"));
    steps::say(&format!("start courier {command} (its log: {})", log.display()));
    let mut host = Process::start(&format!("the host {name}"), courier, &log, libc::SIGKILL)?;
    let address = format!("127.0.0.1:{port}");
    host.wait_ready(READY_LIMIT, || {
        matches!(http::request(&address, "GET", "/readyz", "text/plain", b""), Ok((200, _)))
    })?;
    Ok(host)
}

fn push_plugin(port: u16) -> Result<()> {
    let component = setup::target_directory().join(format!("guests/{PLUGIN}.wasm"));
    let mut push = courier();
    push.args(["plugin", "push", "--activate"]).arg(component);
    push.env("COURIER_SERVER", url(port)).env("COURIER_TOKEN", ADMIN_TOKEN);
    output_of("push the handler", &mut push).map(drop)
}
