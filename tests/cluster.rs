//! Several hosts on one PostgreSQL: they join, leave, freeze and thaw.

use std::sync::Arc;
use std::time::Duration;

use courier_core::status::State;
use courier_tests::kafka_client::create_topic;
use courier_tests::ledger::{Ledger, Mixture};
use courier_tests::servers::postgres::WAITING_FOR_LOCKS;
use courier_tests::{Host, guest, kafka, postgres, scale, scripted, turn, unique, wait_until};
use sqlx::{Connection, PgConnection};

const SOON: Duration = Duration::from_secs(60);
/// Longer than the Kafka session that `Host::builder` configures.
const PAST_THE_SESSION: Duration = Duration::from_secs(12);

/// Hosts of one cluster: they share a store and a binding and differ in name.
struct Cluster {
    store: String,
    binding: String,
}

impl Cluster {
    fn new(binding: String) -> Self {
        Self { store: postgres().create_database().expect("a database for the cluster"), binding }
    }

    async fn join(&self, node: &str) -> Host {
        Host::builder(node).store_url(&self.store).binding(&self.binding).start().await
    }
}

/// Waits until exactly these nodes own all partitions of the group.
async fn owned_by(host: &Host, group: &str, nodes: &[&str]) {
    wait_until(&format!("{group} is owned by {nodes:?}"), SOON, async || {
        let seen = host.try_group(group).await.map_err(|error| format!("{error:#}"))?;
        let owned = seen.partitions.iter().all(|partition| partition.node.is_some());
        if owned && seen.nodes() == nodes { Ok(()) } else { Err(format!("{:?}", seen.partitions)) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_share_the_partitions_and_a_plugin_is_active_on_all() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "shared", 6).await;
    let group = unique("shared");
    let cluster = Cluster::new(courier_tests::host::scripted_binding(&group, &topic, ""));
    let (one, two) = (cluster.join("host-1").await, cluster.join("host-2").await);
    owned_by(&one, &group, &["host-1", "host-2"]).await;
    // Uploaded to one, it runs on both within two seconds of its activation.
    let version = one.upload("scripted", guest("scripted")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let messages = (0..60).map(|number| scripted(&topic, &format!("k{number}"), &["ok"])).collect();
    two.publish_all(messages).await;
    two.settled(&group, 60, SOON).await;
    let deliveries = one.deliveries(&format!("group={group}")).await;
    let mut nodes: Vec<&str> = deliveries.iter().filter_map(|delivery| delivery.node.as_deref()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    assert_eq!(nodes, ["host-1", "host-2"]);
    for delivery in &deliveries {
        assert_eq!(delivery.state, State::Handled, "{}", delivery.brief());
        assert_eq!(delivery.attempts[0].version.as_deref(), Some(version.as_str()));
    }
}

/// Hosts come and go while a load runs.
#[tokio::test(flavor = "multi_thread")]
async fn joining_and_leaving_under_load_loses_and_reorders_nothing() {
    let _turn = turn::heavy().await;
    let (count, rate, rounds) = (scale(6_000, 200_000), scale(400, 2_000), scale(1, 10));
    let ledger = Arc::new(Ledger::open(kafka().bootstrap(), 6, 200, Mixture::USUAL, 21).await);
    let group = unique("storm");
    let cluster = Cluster::new(ledger.binding(&group, "concurrency = 32"));
    let one = cluster.join("host-1").await;
    one.upload("scripted", guest("scripted")).await;
    let load = tokio::spawn({
        let ledger = Arc::clone(&ledger);
        async move { ledger.produce(count, Some(rate)).await }
    });
    for _ in 0..rounds {
        let two = cluster.join("host-2").await;
        owned_by(&one, &group, &["host-1", "host-2"]).await;
        let three = cluster.join("host-3").await;
        owned_by(&one, &group, &["host-1", "host-2", "host-3"]).await;
        assert!(two.sigterm(Duration::from_secs(20)).await.success());
        owned_by(&one, &group, &["host-1", "host-3"]).await;
        three.kill9();
        owned_by(&one, &group, &["host-1"]).await;
    }
    load.await.expect("the load is produced");
    ledger.settled(&one, &group, scale(Duration::from_secs(120), Duration::from_secs(1_200))).await;
    ledger.reconcile(&one, &group).await;
}

/// A host freezes for longer than Kafka waits for it. The others settle
/// everything; the store refuses what it writes after the thaw.
async fn frozen(others: usize) {
    let _turn = turn::heavy().await;
    let ledger = Arc::new(Ledger::open(kafka().bootstrap(), 6, 100, Mixture::PLAIN, 31).await);
    let group = unique("frozen");
    let cluster = Cluster::new(ledger.binding(&group, "concurrency = 16"));
    let sleeper = cluster.join("host-1").await;
    sleeper.upload("scripted", guest("scripted")).await;
    let mut awake = Vec::new();
    let mut names = vec!["host-1".to_owned()];
    for number in 0..others {
        let name = format!("host-{}", number + 2);
        awake.push(cluster.join(&name).await);
        names.push(name);
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    owned_by(&sleeper, &group, &all).await;
    let count = scale(3_000, 20_000);
    let load = tokio::spawn({
        let ledger = Arc::clone(&ledger);
        async move { ledger.produce(count, Some(1_000)).await }
    });
    let rounds = scale(1, 5);
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(700)).await;
        sleeper.sigstop();
        tokio::time::sleep(PAST_THE_SESSION).await;
        owned_by(&awake[0], &group, &all[1..]).await;
        sleeper.sigcont();
        owned_by(&awake[0], &group, &all).await;
    }
    load.await.expect("the load is produced");
    ledger.settled(&awake[0], &group, Duration::from_secs(180)).await;
    ledger.reconcile(&awake[0], &group).await;
    let stale = sleeper.metric("courier_stale_writes_total", &[]).await;
    println!("{stale} stale writes were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_hosts_freezes_and_thaws() {
    frozen(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_hosts_freezes_and_thaws() {
    frozen(2).await;
}

/// A host is frozen while it writes outcomes. The others claim its partition and
/// settle everything; its repeated write after the thaw is refused and counted.
#[tokio::test(flavor = "multi_thread")]
async fn outcomes_of_a_thawed_host_are_refused_and_counted() {
    let _turn = turn::heavy().await;
    let topic = create_topic(kafka().bootstrap(), "stale", 1).await;
    let group = unique("stale");
    let cluster = Cluster::new(courier_tests::host::scripted_binding(&group, &topic, ""));
    let sleeper = cluster.join("host-1").await;
    sleeper.upload("scripted", guest("scripted")).await;
    owned_by(&sleeper, &group, &["host-1"]).await;
    // Outcomes cannot be settled, so the host freezes while it settles.
    let mut barrier = PgConnection::connect(&cluster.store).await.expect("the store is there");
    sqlx::raw_sql("BEGIN; SELECT id FROM position FOR UPDATE").execute(&mut barrier).await.unwrap();
    let messages = (0..8).map(|number| scripted(&topic, &format!("k{number}"), &["ok"])).collect();
    sleeper.publish_all(messages).await;
    let mut watch = PgConnection::connect(&cluster.store).await.expect("the store is there");
    wait_until("it waits for its position", SOON, async || {
        let waiting = sqlx::query_scalar(WAITING_FOR_LOCKS).fetch_one(&mut watch).await;
        let waiting: i64 = waiting.map_err(|error| error.to_string())?;
        if waiting > 0 { Ok(()) } else { Err("nobody waits".to_owned()) }
    })
    .await;
    sleeper.sigstop();
    // The frozen host holds the lock now, until the server ends its session.
    sqlx::raw_sql("ROLLBACK").execute(&mut barrier).await.unwrap();
    let other = cluster.join("host-2").await;
    other.settled(&group, 8, SOON).await;
    sleeper.sigcont();
    wait_until("what it writes after the thaw is refused", SOON, async || {
        let stale = sleeper.metric("courier_stale_writes_total", &[]).await;
        if stale > 0.0 { Ok(()) } else { Err("no stale write is counted".to_owned()) }
    })
    .await;
    assert_eq!(other.group(&group).await.handled, 8);
    for delivery in other.deliveries(&format!("group={group}")).await {
        assert_eq!(delivery.node.as_deref(), Some("host-2"), "{}", delivery.brief());
        assert_eq!(delivery.attempts.len(), 1, "{}", delivery.brief());
    }
}

/// Invariant 4: a host freezes between getting partitions and claiming them. After
/// the thaw it claims late, although another host owns them: in the end the
/// rightful owner must work, whatever the late claim did.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_claim_ends_with_the_rightful_owner_working() {
    let _turn = turn::heavy().await;
    for delay_ms in scale(vec![100, 400, 900], vec![50, 100, 200, 300, 400, 600, 900, 1_200, 1_600, 2_000]) {
        let topic = create_topic(kafka().bootstrap(), "late", 4).await;
        let group = unique("late");
        let cluster = Cluster::new(courier_tests::host::scripted_binding(&group, &topic, ""));
        let owner = cluster.join("host-1").await;
        owner.upload("scripted", guest("scripted")).await;
        owned_by(&owner, &group, &["host-1"]).await;
        let late = Host::builder("host-2").store_url(&cluster.store).binding(&cluster.binding).prepare();
        late.spawn();
        // Somewhere between start and claim; the delays cover the whole time.
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        late.sigstop();
        tokio::time::sleep(PAST_THE_SESSION).await;
        late.sigcont();
        let messages = (0..100).map(|number| scripted(&topic, &format!("k{number}"), &["ok"])).collect();
        owner.publish_all(messages).await;
        owner.settled(&group, 100, SOON).await;
        owned_by(&owner, &group, &["host-1", "host-2"]).await;
        let more = (0..100).map(|number| scripted(&topic, &format!("k{number}"), &["ok"])).collect();
        owner.publish_all(more).await;
        let seen = owner.settled(&group, 200, SOON).await;
        assert_eq!((seen.handled, seen.failed), (200, 0), "frozen after {delay_ms} ms");
    }
}
