//! An existing service as handler: rate, requests in flight and memory with
//! `http-push`, beside `wrk` on the same service.
//!
//! The service is a process of its own and answers each request after a wait, so
//! that the ideal rate is `concurrency / wait`. It counts the requests that it has
//! at a time, since the host's word about that would be no measurement. Host,
//! broker, database and service share all processors.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use courier_tests::servers::process::{Process, free_port, run_directory};
use courier_tests::{Host, unique, usage, wait_until};

use crate::StoreName;
use crate::load::{KEYS, topic_of_orders};
use crate::progress::{Progress, Seen, Used, now};
use crate::stored::Stored;
use crate::table::{Table, machine};

/// Options of `push`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Milliseconds after which the service answers.
    #[arg(long, default_value_t = 100)]
    wait_ms: u64,
    /// The binding's concurrency, and wrk's connections.
    #[arg(long, default_value_t = 500)]
    concurrency: u32,
    /// Messages of each run.
    #[arg(long, default_value_t = 60_000)]
    messages: u64,
    /// Runs of both, in turn.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seconds that wrk runs; 0 leaves it out.
    #[arg(long, default_value_t = 10)]
    wrk_seconds: u64,
    /// The store.
    #[arg(long, value_enum, default_value_t = StoreName::Postgres)]
    store: StoreName,
}

/// Options of the service.
#[derive(clap::Args)]
pub struct ServiceArguments {
    /// The port of 127.0.0.1 that it listens on.
    port: u16,
    /// Milliseconds after which it answers.
    wait_ms: u64,
}

/// Size in bytes of a message's body.
const BODY_BYTES: usize = 100;
/// Interval between two reads of the positions.
const LOOK: Duration = Duration::from_millis(20);
/// Time limit of one run.
const LIMIT: Duration = Duration::from_secs(300);

/// Requests that the service has at this moment, and the most so far.
#[derive(Default)]
struct InFlight {
    present: AtomicU64,
    most: AtomicU64,
}

/// Counts one request until it is answered, or its client has gone.
struct RequestInFlight<'a>(&'a InFlight);

impl<'a> RequestInFlight<'a> {
    fn begin(in_flight: &'a InFlight) -> Self {
        let present = in_flight.present.fetch_add(1, Ordering::Relaxed) + 1;
        in_flight.most.fetch_max(present, Ordering::Relaxed);
        Self(in_flight)
    }
}

impl Drop for RequestInFlight<'_> {
    fn drop(&mut self) {
        self.0.present.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves until the process is ended.
///
/// # Errors
/// When the port is taken.
pub async fn serve(arguments: &ServiceArguments) -> Result<()> {
    let wait = Duration::from_millis(arguments.wait_ms);
    let answer = move |State(in_flight): State<Arc<InFlight>>| async move {
        let _request = RequestInFlight::begin(&in_flight);
        tokio::time::sleep(wait).await;
        StatusCode::NO_CONTENT
    };
    let most =
        |State(in_flight): State<Arc<InFlight>>| async move { in_flight.most.swap(0, Ordering::Relaxed).to_string() };
    let service = Router::new().route("/", post(answer).get(answer)).route("/most", get(most));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", arguments.port)).await?;
    Ok(axum::serve(listener, service.with_state(Arc::default())).await?)
}

/// One run of the host.
struct Run {
    rate: f64,
    most_in_flight: f64,
    peak_mib: f64,
    /// Microseconds of processor time for each message.
    host_us: f64,
    service_us: f64,
    database_us: f64,
    broker_us: f64,
}

/// Measures the host and wrk in turn.
///
/// # Errors
/// When a server, the host or the service cannot be started.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let &Arguments { wait_ms, concurrency, messages, .. } = arguments;
    if matches!(arguments.store, StoreName::Postgres) {
        let _ = courier_tests::postgres();
    }
    let service = Service::start(wait_ms).await?;
    let (mut runs, mut of_wrk, mut wrk_us) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=arguments.runs {
        let run = measure(&service, arguments).await?;
        eprintln!("run {number}: {:.0} a second, {:.0} in flight at most", run.rate, run.most_in_flight);
        runs.push(run);
        if arguments.wrk_seconds > 0 {
            let (rate, service_us) = service.wrk(concurrency, arguments.wrk_seconds)?;
            of_wrk.push(rate);
            wrk_us.push(service_us);
        }
    }
    let ideal = f64::from(concurrency) * 1_000.0 / wait_ms as f64;
    println!("{}", machine());
    println!(
        "http-push: {messages} messages of {BODY_BYTES} B to a service that answers after {wait_ms} ms, concurrency \
         {concurrency}, {:?}; at most {ideal:.0} a second; all on all processors",
        arguments.store.store()
    );
    let of = |what: fn(&Run) -> f64| runs.iter().map(what).collect::<Vec<_>>();
    let part = |rates: &[f64]| rates.iter().map(|rate| rate / ideal).collect::<Vec<_>>();
    let mut table = Table::new(["Courier", "wrk"]);
    table.row("requests a second", 0, [of(|run| run.rate), of_wrk.clone()]);
    table.row("part of what the wait allows", 2, [part(&of(|run| run.rate)), part(&of_wrk)]);
    table.row("most requests in flight", 0, [of(|run| run.most_in_flight), vec![]]);
    table.row("peak memory of the host, MiB", 0, [of(|run| run.peak_mib), vec![]]);
    table.row("processor time a message, us: host", 1, [of(|run| run.host_us), vec![]]);
    table.row("  service", 1, [of(|run| run.service_us), wrk_us]);
    table.row("  database", 1, [of(|run| run.database_us), vec![]]);
    table.row("  broker", 1, [of(|run| run.broker_us), vec![]]);
    println!("{table}");
    Ok(())
}

/// Runs a fresh host over a full topic.
async fn measure(service: &Service, arguments: &Arguments) -> Result<Run> {
    let store = arguments.store.store();
    let topic = topic_of_orders("push", BODY_BYTES, arguments.messages).await?;
    let group = unique("push");
    // No more requests than keys are in flight otherwise.
    let ordering = if u64::from(arguments.concurrency) < KEYS { "key" } else { "none" };
    let binding = format!(
        "group = \"{group}\"\ntopics = [\"{topic}\"]\nplugin = \"http-push\"\nisolation = \"instance\"\n\
         ordering = \"{ordering}\"\nconcurrency = {}\n[binding.config]\nurl = \"{}\"\n",
        arguments.concurrency,
        service.url()
    );
    let host = Host::builder("host-1").store(store).binding(&binding).start().await;
    let process = host.process_id().context("the host does not run")?;
    let stored = Stored::open(&host.store_url()).await?;
    let (begun, before, service_before) = (Instant::now(), Used::now(process, store), usage::cpu(service.process.id()));
    service.most_in_flight().await?;
    let mut progress = Progress::default();
    loop {
        ensure!(host.exited().is_none(), "the host ended:\n{}", host.log_tail());
        let seen = Seen { next: stored.positions(&group, &topic).await?, at: now() };
        progress.note(seen.at, seen.done());
        if seen.done() >= arguments.messages {
            break;
        }
        ensure!(begun.elapsed() < LIMIT, "only {} messages within {LIMIT:?}:\n{}", seen.done(), host.log_tail());
        tokio::time::sleep(LOOK).await;
    }
    let used = Used::now(process, store) - before;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / arguments.messages as f64;
    let run = Run {
        rate: progress.rate().context("the topic was empty too soon: use more --messages")?,
        most_in_flight: service.most_in_flight().await? as f64,
        peak_mib: usage::peak_memory(process) as f64 / f64::from(1 << 20),
        host_us: each(used.contender),
        service_us: each(usage::cpu(service.process.id()).saturating_sub(service_before)),
        database_us: each(used.database),
        broker_us: each(used.broker),
    };
    stored.close().await;
    host.sigterm(LIMIT).await;
    Ok(run)
}

/// The service under load.
struct Service {
    port: u16,
    process: Process,
}

impl Service {
    async fn start(wait_ms: u64) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["service", &port.to_string(), &wait_ms.to_string()]);
        let log = run_directory()?.join(unique("service.log"));
        let service = Self { port, process: Process::start("the service", command, &log, libc::SIGKILL)? };
        wait_until("the service answers", LIMIT, async || {
            service.most_in_flight().await.map(drop).map_err(|error| format!("{error:#}"))
        })
        .await;
        Ok(service)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// The most requests that the service had at a time since the last call.
    async fn most_in_flight(&self) -> Result<u64> {
        let client = courier::http_client::builder().build()?;
        let answer = client.get(format!("{}most", self.url())).send().await?.error_for_status()?;
        Ok(answer.text().await?.parse()?)
    }

    /// Requests a second by `wrk` with as many connections, and the service's
    /// processor time for each in microseconds.
    fn wrk(&self, connections: u32, seconds: u64) -> Result<(f64, f64)> {
        let before = usage::cpu(self.process.id());
        let (connections, lasting) = (connections.to_string(), format!("{seconds}s"));
        let output = Command::new("wrk")
            .args(["--threads", "1", "--connections", &connections, "--duration", &lasting, &self.url()])
            .output()
            .context("cannot run wrk: install it, or leave it out with --wrk-seconds 0")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        let rate: f64 = rate.with_context(|| format!("wrk told no rate: {text}"))?.trim().parse()?;
        let used = usage::cpu(self.process.id()).saturating_sub(before).as_secs_f64();
        Ok((rate, used * 1e6 / (rate * seconds as f64)))
    }
}
