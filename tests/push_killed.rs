//! A service without any library of Courier, under kills of the host and of the
//! service: nothing is lost, each key keeps its order, and a repeated message is
//! the same delivery. 100,000 messages over 1,000 keys and 20 kills with
//! `COURIER_TEST_SCALE=full`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use courier_tests::kafka_client::{config, create_topic, produce, producer};
use courier_tests::servers::process::{Process, free_port, run_directory};
use courier_tests::{Host, Store, kafka, scale, turn, unique, wait_until};
use futures::future::join_all;

/// The service, which Node runs.
const SERVICE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/support/ledger-service.mjs");

/// The service's line about one request.
struct Line {
    key: String,
    number: u32,
    delivery: String,
}

/// The lines of the ledger; text behind the last line end is still being written.
fn lines(ledger: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(ledger).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let line = |line: &str| {
        let [key, number, delivery] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line:?} is no entry") };
        Line { key: key.to_owned(), number: number.parse().expect("a number"), delivery: delivery.to_owned() }
    };
    whole.lines().map(line).collect()
}

/// The number of lines, which is polled often.
fn count(ledger: &Path) -> usize {
    let text = std::fs::read(ledger).unwrap_or_default();
    text.iter().filter(|byte| **byte == b'\n').count()
}

struct Service {
    port: u16,
    ledger: PathBuf,
    process: Process,
}

impl Service {
    fn start(port: u16, ledger: PathBuf) -> Self {
        let process = Self::run(port, &ledger);
        Self { port, ledger, process }
    }

    fn run(port: u16, ledger: &Path) -> Process {
        let mut command = Command::new("node");
        command.arg(SERVICE).arg(port.to_string()).arg(ledger);
        Process::start("the service", command, &ledger.with_extension("log"), libc::SIGKILL)
            .unwrap_or_else(|error| panic!("{error:#}: install Node 20"))
    }

    fn kill_and_start_again(&mut self) {
        self.process.stop(libc::SIGKILL, Duration::from_secs(10)).unwrap_or_else(|error| panic!("{error:#}"));
        self.process = Self::run(self.port, &self.ledger);
    }
}

/// What the ledger shows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    lost: usize,
    inversions: usize,
    /// Messages that came again as another delivery.
    doubled: usize,
}

/// Compares the ledger with the messages sent: `numbers` for each of `keys`.
fn examine(lines: &[Line], keys: u32, numbers: u32) -> (Found, usize) {
    let mut deliveries: HashMap<(&str, u32), &str> = HashMap::new();
    let mut last: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut found, mut again) = (Found::default(), 0);
    for Line { key, number, delivery } in lines {
        match deliveries.insert((key, *number), delivery) {
            Some(earlier) => {
                again += 1;
                found.doubled += usize::from(earlier != delivery);
            }
            None => {
                let before = last.insert(key, *number);
                found.inversions += usize::from(before.is_some_and(|before| before > *number));
            }
        }
    }
    found.lost = (keys * numbers) as usize - deliveries.len();
    (found, again)
}

#[test]
fn an_examination_finds_what_is_wrong() {
    let line = |key: &str, number, delivery: &str| Line { key: key.into(), number, delivery: delivery.into() };
    let right = [line("a", 0, "1"), line("b", 0, "2"), line("a", 1, "3"), line("a", 1, "3"), line("b", 1, "4")];
    assert_eq!(examine(&right, 2, 2), (Found::default(), 1));
    let wrong = [line("a", 1, "3"), line("a", 0, "1"), line("b", 0, "2"), line("b", 0, "9")];
    assert_eq!(examine(&wrong, 2, 2), (Found { lost: 1, inversions: 1, doubled: 1 }, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_library_loses_nothing_though_it_and_the_host_are_killed() {
    let _turn = turn::shared().await;
    let (keys, numbers, kills) = scale((100, 20, 2), (1_000, 100, 20));
    let limit = scale(Duration::from_secs(120), Duration::from_secs(900));
    let (topic, group) = (create_topic(kafka().bootstrap(), "killed", 8).await, unique("killed"));
    let ledger = run_directory().unwrap().join(unique("ledger"));
    let mut service = Service::start(free_port().unwrap(), ledger.clone());
    // Without [binding.retry]: the default suits a service that only restarts.
    let binding = format!(
        "group = \"{group}\"\ntopics = [\"{topic}\"]\nplugin = \"http-push\"\nisolation = \"instance\"\n\
         concurrency = 64\n[binding.config]\nurl = \"http://127.0.0.1:{}/\"\n",
        service.port
    );
    let host = Host::builder("host-1").store(Store::Postgres).binding(&binding).start().await;
    let sender = producer(&config(kafka().bootstrap()));
    let total = (keys * numbers) as usize;
    let send = async {
        for number in 0..numbers {
            let of_all_keys = (0..keys).map(async |key| {
                let (key, body) = (format!("k-{key}"), format!("{{\"key\":\"k-{key}\",\"number\":{number}}}"));
                let id = format!("{key}-{number}");
                let headers = [("ce_id", &*id), ("ce_type", "Entry"), ("content-type", "application/json")];
                produce(&sender, &topic, Some(key.as_bytes()), &headers, body.as_bytes()).await;
            });
            join_all(of_all_keys).await;
        }
    };
    let kill = async {
        for kill in 1..=kills {
            let enough = total * kill / (kills + 1);
            wait_until(&format!("{enough} entries are written"), limit, async || {
                let count = count(&ledger);
                if count >= enough { Ok(()) } else { Err(format!("{count} entries\n{}", host.log_tail())) }
            })
            .await;
            if kill % 2 == 0 {
                service.kill_and_start_again();
            } else {
                host.kill9();
                host.start_again().await;
            }
        }
    };
    tokio::join!(send, kill);
    let group = host.settled(&group, total, limit).await;
    let lines = lines(&ledger);
    let (found, again) = examine(&lines, keys, numbers);
    println!("{total} messages, {kills} kills: {found:?}, {again} came again as the same delivery");
    assert_eq!((found, group.handled, group.failed), (Found::default(), total as u64, 0));
}
