//! W1: from the broker to a durable status, with a handler that does nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use courier_tests::{Host, Store, guest, kafka, kafka_client, postgres, unique};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use crate::peers::batched;
use crate::progress::Progress;

/// How `journey` measures.
#[derive(clap::Args)]
pub struct Arguments {
    /// Messages in a run.
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
    /// Runs of each contestant.
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Bytes of a body.
    #[arg(long, default_values_t = [100, 1024])]
    size: Vec<usize>,
    /// `postgres` or `sqlite`.
    #[arg(long, default_values_t = ["postgres".to_owned(), "sqlite".to_owned()])]
    store: Vec<String>,
}

const PARTITIONS: i32 = 8;
const KEYS: u64 = 1_000;
/// A run that takes longer did not finish, and is published as such.
const LIMIT: Duration = Duration::from_secs(180);
/// How often the host is asked how far it is.
const ASK: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, PartialEq)]
enum Contestant {
    Peer,
    Reused,
    Fresh,
}

const CONTESTANTS: [(Contestant, &str); 3] = [
    (Contestant::Peer, "plain consumer, native handler"),
    (Contestant::Reused, "courier, reused sandbox"),
    (Contestant::Fresh, "courier, fresh sandbox"),
];

/// Measures every size with every store.
///
/// # Errors
/// When a server or a contestant cannot be started.
pub async fn run(arguments: &Arguments) -> Result<()> {
    for size in &arguments.size {
        let topic = kafka_client::create_topic(kafka().bootstrap(), "bench", PARTITIONS).await;
        fill(&topic, arguments.messages, *size)?;
        for store in &arguments.store {
            compare(arguments, &topic, *size, store).await?;
        }
    }
    Ok(())
}

async fn compare(arguments: &Arguments, topic: &str, size: usize, store: &str) -> Result<()> {
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    for run in 1..=arguments.runs {
        for (at, (contestant, name)) in CONTESTANTS.into_iter().enumerate() {
            match measure(contestant, topic, store, arguments.messages).await {
                Ok(rate) => {
                    eprintln!("  run {run}: {name}: {rate:.0} a second");
                    rates[at].push(rate);
                }
                Err(error) => eprintln!("  run {run}: {name}: did not finish: {error:#}"),
            }
        }
    }
    println!("W1, {size} bytes, {store}, {} messages, {} runs", arguments.messages, arguments.runs);
    for (at, (_, name)) in CONTESTANTS.into_iter().enumerate() {
        let of_peer = rates[at].iter().zip(&rates[0]).map(|(rate, peer)| rate / peer).collect();
        println!(
            "  {name:<32} {} k messages a second; of the plain consumer {}",
            crate::spread(rates[at].iter().map(|rate| rate / 1_000.0).collect()),
            crate::spread(of_peer)
        );
    }
    Ok(())
}

async fn measure(contestant: Contestant, topic: &str, store: &str, total: u64) -> Result<f64> {
    let group = unique("bench");
    let store = if store == "postgres" { Store::Postgres } else { Store::Sqlite };
    let progress = if contestant == Contestant::Peer {
        let scratch = tempfile::tempdir()?;
        let url = match store {
            Store::Postgres => postgres().create_database()?,
            Store::Sqlite => format!("sqlite://{}", scratch.path().join("peer.db").display()),
        };
        tokio::time::timeout(LIMIT, batched::run(kafka().bootstrap(), topic, &url, &group, total)).await??
    } else {
        let isolation = if contestant == Contestant::Reused { "instance" } else { "message" };
        courier(topic, store, &group, isolation, total).await?
    };
    progress.rate().context("the run was too short to have a rate")
}

async fn courier(topic: &str, store: Store, group: &str, isolation: &str, total: u64) -> Result<Progress> {
    let host = Host::builder(group)
        .store(store)
        .binding(&format!(
            "group = \"{group}\"\ntopics = [\"{topic}\"]\nplugin = \"noop\"\nisolation = \"{isolation}\"\n"
        ))
        .start()
        .await;
    let version = host.upload("noop", guest("noop")).await;
    host.activate("noop", &version).await;
    let begun = Instant::now();
    let mut progress = Progress::default();
    loop {
        let handled = host.try_group(group).await.map_or(0, |group| group.handled);
        progress.note(handled);
        if handled >= total {
            return Ok(progress);
        }
        if begun.elapsed() > LIMIT {
            bail!("{handled} of {total} handled within {LIMIT:?}");
        }
        tokio::time::sleep(ASK).await;
    }
}

/// Fills the topic before anything is measured.
fn fill(topic: &str, messages: u64, size: usize) -> Result<()> {
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", kafka().bootstrap())
        .set("linger.ms", "20")
        .set("queue.buffering.max.messages", "1000000")
        .create()?;
    let body = vec![b'x'; size];
    for number in 0..messages {
        let key = format!("key-{}", number % KEYS);
        let mut record = BaseRecord::to(topic).key(&key).payload(&body);
        while let Err((error, back)) = producer.send(record) {
            let full = error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull);
            anyhow::ensure!(full, "cannot fill the topic: {error}");
            record = back;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(())
}
