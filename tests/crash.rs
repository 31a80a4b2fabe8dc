//! kill -9 at random times, again and again, under load.

use std::sync::Arc;
use std::time::Duration;

use courier::supervise::Task;
use courier_tests::kafka_client::create_topic;
use courier_tests::ledger::{Ledger, Mixture};
use courier_tests::{Host, Store, guest, kafka, postgres, scale, scripted_binding, turn, unique, wait_until};
use futures::stream::{StreamExt, iter};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Attempts that run at once and whose outcome no batch has written: at most this
/// many run a second time after a kill.
const CONCURRENCY: u64 = 32;
/// Outcomes that are decided and not yet committed, by the design's bound.
const BATCH: u64 = 1_000;
/// How soon a killed host must work again.
const READY: Duration = Duration::from_secs(5);

async fn kills(store: Store) {
    let _turn = turn::alone().await;
    let (kills, count, rate) = (scale(4, 50), scale(4_000, 200_000), scale(400, 2_000));
    let seed = 7;
    let ledger = Arc::new(Ledger::open(kafka().bootstrap(), 4, 200, Mixture::USUAL, seed).await);
    let group = unique("killed");
    let policy = format!("concurrency = {CONCURRENCY}");
    let host = Host::builder("host-1").store(store).binding(&ledger.binding(&group, &policy)).start().await;
    host.upload("scripted", guest("scripted")).await;

    let load = tokio::spawn({
        let ledger = Arc::clone(&ledger);
        async move { ledger.produce(count, Some(rate)).await }
    });
    let mut chance = StdRng::seed_from_u64(seed);
    let (mut invoked, mut slowest) = (0.0, Duration::ZERO);
    for number in 1..=kills {
        // Some kills come while it starts, claims and catches up.
        tokio::time::sleep(Duration::from_millis(chance.random_range(50..2_000))).await;
        invoked += host.metric("courier_attempt_seconds_count", &[("group", &group)]).await;
        host.kill9();
        let took = host.start_again().await;
        slowest = slowest.max(took);
        assert!(took < READY, "after kill {number} the host needed {took:?} to be ready");
    }
    load.await.expect("the load is produced");
    ledger.settled(&host, &group, scale(Duration::from_secs(120), Duration::from_secs(1_200))).await;
    ledger.reconcile(&host, &group).await;

    invoked += host.metric("courier_attempt_seconds_count", &[("group", &group)]).await;
    let recorded: usize =
        host.deliveries(&format!("group={group}")).await.iter().map(|delivery| delivery.attempts.len()).sum();
    let again = invoked - recorded as f64;
    let bound = kills as u64 * (CONCURRENCY + BATCH);
    println!("{kills} kills: ready after {slowest:?} at most, about {again} attempts ran again");
    assert!(again <= bound as f64, "{again} attempts ran again in {kills} kills, more than were in flight ({bound})");
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_loses_and_doubles_nothing_with_sqlite() {
    kills(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_loses_and_doubles_nothing_with_postgresql() {
    kills(Store::Postgres).await;
}

/// A message answered with 202 is sent, whatever happens to the host.
async fn accepted_is_kept(store: Store) {
    let _turn = turn::heavy().await;
    let (kills, count) = (scale(2, 20), scale(4_000, 50_000));
    let ledger = Ledger::open(kafka().bootstrap(), 4, 50, Mixture::PLAIN, 11).await;
    let group = unique("accepted");
    let host = Host::builder("host-1").store(store).binding(&ledger.binding(&group, "")).start().await;
    host.upload("scripted", guest("scripted")).await;
    let killing = async {
        let mut chance = StdRng::seed_from_u64(11);
        for _ in 0..kills {
            tokio::time::sleep(Duration::from_millis(chance.random_range(100..1_000))).await;
            host.kill9();
            host.start_again().await;
        }
    };
    tokio::join!(ledger.publish(&host, count), killing);
    // A message that reached Kafka twice was handled twice under one id: only a
    // binding with `dedupe` promises more. None may be missing.
    let all = ledger.sent();
    wait_until("every accepted message is handled", Duration::from_secs(120), async || {
        let deliveries = host.try_deliveries(&format!("group={group}")).await.map_err(|error| format!("{error:#}"))?;
        let ids: std::collections::BTreeSet<&str> =
            deliveries.iter().filter(|one| one.is_final()).map(|one| one.message_id.as_str()).collect();
        if ids.len() == all { Ok(()) } else { Err(format!("{} of {all}", ids.len())) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_message_survives_kill_9_with_sqlite() {
    accepted_is_kept(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_message_survives_kill_9_with_postgresql() {
    accepted_is_kept(Store::Postgres).await;
}

/// A second process of the same node name ends and leaves the first alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_name_is_held_by_one_process() {
    let _turn = turn::shared().await;
    let url = courier_tests::postgres().create_database().unwrap();
    let host = Host::builder("host-1").store_url(&url).start().await;
    let second = Host::builder("host-1").store_url(&url).prepare();
    second.spawn();
    let status = wait_until("the second process has ended", Duration::from_secs(60), async || {
        second.exited().ok_or_else(|| second.log_tail())
    })
    .await;
    assert!(!status.success());
    assert!(second.log().contains("host-1"), "it does not say which name is taken:\n{}", second.log());
    assert!(host.exited().is_none());
}

/// Hosts that run at the same time.
const AT_ONCE: usize = 3;

/// A host in which one task panics half a second after its start, with everything
/// that the task needs to run.
async fn host_that_panics_in(task: Task, topic: &str, outbox: &str) -> Host {
    let binding = scripted_binding(&unique("panics"), topic, "dedupe = \"10m\"\nconcurrency = 1");
    let push = format!(
        "group = \"{}\"\ntopics = [\"{topic}\"]\nplugin = \"http-push\"\neach = true\nconcurrency = 1\n\
         [binding.config]\nurl = \"http://localhost:9/\"\n",
        unique("pushes")
    );
    let host = Host::builder("host-1").create_topics().binding(&binding).binding(&push);
    let host = host.table(outbox).env("COURIER_TEST_PANIC_IN", task.as_str()).prepare();
    host.spawn();
    host
}

/// A panic in a necessary task ends the host with an error that names the task:
/// otherwise the host would keep its leases for ever and do nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_panics_ends_its_host() {
    let _turn = turn::heavy().await;
    let topic = create_topic(kafka().bootstrap(), "panics", 1).await;
    let url = postgres().create_database().unwrap();
    let tool = Host::builder("tool").prepare();
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let table = tool.outbox_schema(&["postgres"]);
    sqlx::raw_sql(sqlx::AssertSqlSafe(table)).execute(&mut connection).await.unwrap();
    let outbox = format!("[[outbox]]\nname = \"shop\"\nurl = \"{url}\"\n");
    let ended = iter(Task::ALL).map(async |task| {
        let host = host_that_panics_in(task, &topic, &outbox).await;
        let name = task.as_str();
        let status = wait_until(&format!("the host has ended for {name:?}"), Duration::from_secs(90), async || {
            host.exited().ok_or_else(|| host.log_tail())
        })
        .await;
        assert!(!status.success(), "{name}: {status}");
        let log = host.log();
        let told = log.lines().any(|line| line.contains("a task that the host needs has ended") && line.contains(name));
        assert!(told, "the log does not name {name:?}:\n{log}");
    });
    ended.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}
