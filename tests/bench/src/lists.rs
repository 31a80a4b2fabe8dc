//! `lists`: how long the API's lists take over millions of deliveries.
//!
//! A host without bindings answers each list many times over HTTP, in rounds;
//! the best round counts, since whatever else the machine does only adds to it.
//! Then each is requested once more with `auto_explain` in the server, which logs
//! the rows that the host's own statements read, and the index used.
//!
//! [`filling`] describes the rows, [`plans`] reads the server's log.

mod filling;
mod plans;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use courier_tests::{Host, postgres};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

use self::plans::Plans;

/// Bound on the p95 of a list and of the overview.
const LIST_BOUND: Duration = Duration::from_millis(100);
const OVERVIEW_BOUND: Duration = Duration::from_millis(300);
/// Requests at the beginning of a round that do not count: they plan, connect
/// and read cold pages.
const WARM_UP: usize = 3;

#[derive(Args)]
pub struct Arguments {
    /// Deliveries.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Requests for each list in a round.
    #[arg(long, default_value_t = 60)]
    requests: usize,
    /// Rounds, of which the best is shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Show the whole plan of each statement.
    #[arg(long)]
    plans: bool,
}

/// A list: the path of its nth request.
type Path = fn(usize) -> String;

fn group(n: usize) -> &'static str {
    if n.is_multiple_of(2) { "stock" } else { "mail" }
}

/// The lists that people and the console request.
const LISTS: &[(&str, Path)] = &[
    ("/v1/overview", |_| "/v1/overview".to_owned()),
    ("/v1/messages", |_| "/v1/messages".to_owned()),
    ("/v1/messages?topic=", |_| "/v1/messages?topic=order".to_owned()),
    ("/v1/messages?key=", |n| format!("/v1/messages?key=key-{}", n * 911)),
    ("/v1/messages?state=SEND_FAIL", |_| "/v1/messages?state=SEND_FAIL".to_owned()),
    ("/v1/messages?type= (none)", |_| "/v1/messages?type=Rare".to_owned()),
    ("/v1/messages?source= (none)", |_| "/v1/messages?source=nobody".to_owned()),
    ("/v1/deliveries", |_| "/v1/deliveries".to_owned()),
    ("/v1/deliveries?limit=1000", |_| "/v1/deliveries?limit=1000".to_owned()),
    ("/v1/deliveries?group=", |n| format!("/v1/deliveries?group={}", group(n))),
    ("/v1/deliveries?group=&state=HANDLE_FAIL", |n| format!("/v1/deliveries?group={}&state=HANDLE_FAIL", group(n))),
    ("/v1/deliveries?group=&fingerprint=", |n| {
        format!("/v1/deliveries?group={}&fingerprint=print-{}", group(n), n % 50)
    }),
    ("/v1/deliveries?state=HANDLED", |_| "/v1/deliveries?state=HANDLED".to_owned()),
    ("/v1/deliveries?state=HANDLE_FAIL", |_| "/v1/deliveries?state=HANDLE_FAIL".to_owned()),
    ("/v1/deliveries?state=COMMITTED", |_| "/v1/deliveries?state=COMMITTED".to_owned()),
    ("/v1/deliveries?key=", |n| format!("/v1/deliveries?key=key-{}", n * 911)),
    ("/v1/deliveries?message_id=", |n| format!("/v1/deliveries?message_id=message-{}", n * 4_001)),
    ("/v1/deliveries?topic=", |_| "/v1/deliveries?topic=order".to_owned()),
    ("/v1/deliveries?topic= (none)", |_| "/v1/deliveries?topic=other".to_owned()),
    ("/v1/deliveries?type= (rare)", |_| "/v1/deliveries?type=Rare".to_owned()),
    ("/v1/deliveries?group=&state=HANDLE_FAIL&type= (rare)", |n| {
        format!("/v1/deliveries?group={}&state=HANDLE_FAIL&type=Rare", group(n))
    }),
    ("/v1/failures", |_| "/v1/failures".to_owned()),
    ("/v1/failures?group=", |n| format!("/v1/failures?group={}", group(n))),
    ("/v1/groups", |_| "/v1/groups".to_owned()),
    ("/v1/groups/{group}/parked", |n| format!("/v1/groups/{}/parked", group(n))),
    ("/v1/dead-letters", |_| "/v1/dead-letters".to_owned()),
    ("/v1/audit", |_| "/v1/audit".to_owned()),
];

/// A list's times, and the size of its answer.
struct Measured {
    p50: Duration,
    p95: Duration,
    rows: Option<usize>,
    truncated: Option<bool>,
}

pub async fn run(arguments: &Arguments) -> Result<()> {
    let url = tokio::task::spawn_blocking(|| postgres().create_database()).await??;
    // The host makes the tables; then rows are inserted by plain SQL.
    let host = Host::builder("lists").store_url(&url).start().await;
    let mut database = PgConnection::connect(&url).await?;
    filling::fill(&mut database, arguments.rows).await?;
    let mut measured = Vec::with_capacity(LISTS.len());
    for (name, path) in LISTS {
        let mut best: Option<Measured> = None;
        for _ in 0..arguments.rounds {
            let round =
                measure(&host, *path, arguments.requests).await.with_context(|| format!("{name} is asked for"))?;
            best = best.filter(|best| best.p95 <= round.p95).or(Some(round));
        }
        measured.push(best.context("a bench needs a round at least")?);
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let plans = Plans::begin(&mut database, postgres()).await?;
    host.sigterm(Duration::from_secs(20)).await;
    host.start_again().await;
    println!("\n{:<56} {:>8} {:>8} {:>5}  truncated", "request", "p50", "p95", "rows");
    let mut slow = Vec::new();
    for ((name, path), measured) in LISTS.iter().zip(&measured) {
        let bound = if *name == "/v1/overview" { OVERVIEW_BOUND } else { LIST_BOUND };
        let over = measured.p95 > bound;
        println!(
            "{name:<56} {:>6.1}ms {:>6.1}ms {:>5}  {}{}",
            millis(measured.p50),
            millis(measured.p95),
            measured.rows.map_or_else(String::new, |rows| rows.to_string()),
            measured.truncated.map_or_else(String::new, |truncated| truncated.to_string()),
            if over { "  OVER ITS BOUND" } else { "" }
        );
        if over {
            slow.push(*name);
        }
        let mark = plans.mark()?;
        ask(&host, &path(1)).await?;
        for plan in plans.since(mark)? {
            println!("    {}", plan.summary());
            if arguments.plans {
                println!("{}", plan.tree());
            }
        }
    }
    println!("\n{} deliveries, load {}; over their bounds: {slow:?}", arguments.rows, load.trim());
    Ok(())
}

/// Runs one round.
async fn measure(host: &Host, path: Path, requests: usize) -> Result<Measured> {
    let mut took = Vec::with_capacity(requests);
    let mut last = Value::Null;
    for request in 0..requests + WARM_UP {
        let begun = Instant::now();
        last = ask(host, &path(request)).await?;
        if request >= WARM_UP {
            took.push(begun.elapsed());
        }
    }
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len() * percent / 100).copied().context("a round needs a request at least");
    Ok(Measured {
        p50: at(50)?,
        p95: at(95)?,
        rows: last["items"].as_array().map(Vec::len),
        truncated: last["truncated"].as_bool(),
    })
}

async fn ask(host: &Host, path: &str) -> Result<Value> {
    let (status, answer) = host.request(reqwest::Method::GET, path, None).await;
    ensure!(status.is_success(), "{path} was answered {status}: {answer}");
    Ok(answer)
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1_000.0
}
