//! The cost of a host that has nothing to do: ten bindings, each on a topic of its own.

use std::time::Duration;

use anyhow::Result;
use courier_tests::{Host, Store, guest, unique, usage, wait_until};

use crate::load::{PARTITIONS, topic};
use crate::progress::Used;
use crate::table::machine;

/// Bindings of the host, each with a group and a topic.
const BINDINGS: usize = 10;
/// Time limit for all groups to get their partitions.
const JOIN_LIMIT: Duration = Duration::from_secs(120);
/// How long the host settles down before it is measured.
const SETTLE_TIME: Duration = Duration::from_secs(10);

/// Options of `idle`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Seconds that are measured.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

/// Measures a host with PostgreSQL.
///
/// # Errors
/// When a server cannot be started.
pub async fn run(arguments: &Arguments) -> Result<()> {
    println!("{}", machine());
    let mut groups = Vec::new();
    let mut builder = Host::builder(&unique("idle")).store(Store::Postgres);
    for _ in 0..BINDINGS {
        let (group, topic) = (unique("idle"), topic("idle").await);
        builder = builder.binding(&format!("group = \"{group}\"\ntopics = [\"{topic}\"]\nplugin = \"noop\""));
        groups.push(group);
    }
    let host = builder.start().await;
    host.upload("noop", guest("noop")).await;
    wait_until("the groups have their partitions", JOIN_LIMIT, async || {
        let mut owned = 0;
        for group in &groups {
            let seen = host.try_group(group).await.map_err(|error| format!("{error:#}"))?;
            owned += seen.partitions.iter().filter(|partition| partition.node.is_some()).count();
        }
        if owned == BINDINGS * PARTITIONS as usize { Ok(()) } else { Err(format!("{owned} partitions")) }
    })
    .await;
    tokio::time::sleep(SETTLE_TIME).await;
    let process = host.process_id().unwrap_or_default();
    let before = Used::now(process, Store::Postgres);
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let used = Used::now(process, Store::Postgres) - before;
    let share = |used: Duration| used.as_secs_f64() / arguments.seconds as f64 * 100.0;
    println!(
        "{BINDINGS} bindings, {} partitions, {} s without a message",
        BINDINGS * PARTITIONS as usize,
        arguments.seconds
    );
    println!("host        {:5.1} % of a processor", share(used.contender));
    println!("PostgreSQL  {:5.1} %", share(used.database));
    println!("broker      {:5.1} %", share(used.broker));
    println!("threads     {:5}", usage::threads(process));
    println!("memory      {:5} MiB", usage::status_bytes(process, "VmRSS:") >> 20);
    Ok(())
}
