//! Kafka or PostgreSQL is away for a while; the hosts go on by themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use courier_core::status::State;
use courier_tests::kafka_client::{self, create_topic, produce, producer, read_topic};
use courier_tests::ledger::{Ledger, Mixture};
use courier_tests::servers::{Kafka, Postgres};
use courier_tests::{Accepted, Host, Store, guest, scale, scripted, scripted_binding, turn, unique, wait_until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};

const SOON: Duration = Duration::from_secs(60);

/// How long a server stays away.
fn away() -> Duration {
    scale(Duration::from_secs(8), Duration::from_secs(30))
}

/// How many bytes a host's memory may grow while a server is away.
const MEMORY_GROWTH: u64 = 256 << 20;

async fn ready(host: &Host) -> (StatusCode, Value) {
    host.request(Method::GET, "/readyz", None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_stops_and_starts() {
    let _turn = turn::heavy().await;
    // Its own broker, since the shared one has other users.
    let kafka = Kafka::start("outage").unwrap();
    let ledger = Ledger::open(kafka.bootstrap(), 4, 100, Mixture::USUAL, 41).await;
    let group = unique("outage");
    let host = Host::builder("host-1").kafka(kafka.bootstrap()).binding(&ledger.binding(&group, "")).start().await;
    host.upload("scripted", guest("scripted")).await;
    let part = scale(1_000, 20_000);
    ledger.produce(part, None).await;
    // While messages are being handled.
    wait_until("some are handled", SOON, async || {
        let handled = host.group(&group).await.handled;
        if handled > 50 { Ok(()) } else { Err(format!("{handled}")) }
    })
    .await;
    let memory = host.memory();
    kafka.stop().unwrap();
    let begin = Instant::now();
    wait_until("/readyz says that Kafka is away and stays 200", SOON, async || {
        let (status, body) = ready(&host).await;
        let told = body["degraded"].as_array().is_some_and(|parts| parts.contains(&json!("kafka")));
        if status == StatusCode::OK && told { Ok(()) } else { Err(format!("{status}: {body}")) }
    })
    .await;
    // A message sent meanwhile is durable, and answered while Kafka is still away.
    let message = |number: u32| json!({ "topic": ledger.topic(), "type": "Scripted", "key": "meanwhile", "id": format!("meanwhile-{number}"), "body": {} });
    let accepted = host.publish(message(0)).await;
    assert_eq!((accepted.state, accepted.retrying), (State::SendFail, Some(true)));
    for number in 1..20 {
        assert_eq!(host.publish(message(number)).await.retrying, Some(true));
    }
    tokio::time::sleep(away().saturating_sub(begin.elapsed())).await;
    let grown = host.memory().saturating_sub(memory);
    assert!(grown < MEMORY_GROWTH, "memory grew by {grown} bytes while Kafka was away");
    kafka.start_again().unwrap();
    wait_until("/readyz no longer names Kafka", SOON, async || {
        let (status, body) = ready(&host).await;
        let degraded = body["degraded"].as_array().is_some_and(|parts| !parts.is_empty());
        if status == StatusCode::OK && !degraded { Ok(()) } else { Err(format!("{status}: {body}")) }
    })
    .await;
    host.settled(&group, part + 20, SOON + SOON).await;
    for number in 0..20 {
        assert_eq!(host.finished(&format!("meanwhile-{number}"), 1).await.state, State::Committed);
    }
    let mut own = host.deliveries(&format!("group={group}&key=meanwhile")).await;
    own.sort_by_key(|delivery| delivery.offset);
    let order: Vec<String> = own.iter().map(|delivery| delivery.message_id.clone()).collect();
    let sent: Vec<String> = (0..20).map(|number| format!("meanwhile-{number}")).collect();
    assert_eq!(order, sent, "what waited for the broker kept the order of its key");
    assert!(host.exited().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_stops_and_starts() {
    let _turn = turn::heavy().await;
    for crash in [false, true] {
        let server = Postgres::start(if crash { "crashes" } else { "stops-for-hosts" }).unwrap();
        let ledger = Arc::new(
            Ledger::open(courier_tests::kafka().bootstrap(), 4, 100, Mixture::USUAL, 51 + u64::from(crash)).await,
        );
        let group = unique("outage");
        let url = server.create_database().unwrap();
        let host = Host::builder("host-1").store_url(&url).binding(&ledger.binding(&group, "")).start().await;
        host.upload("scripted", guest("scripted")).await;
        let count = scale(4_000, 100_000);
        let load = tokio::spawn({
            let ledger = Arc::clone(&ledger);
            async move { ledger.produce(count, Some(scale(400, 2_000))).await }
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        let memory = host.memory();
        if crash {
            server.crash().unwrap()
        } else {
            server.stop().unwrap()
        }
        let begin = Instant::now();
        wait_until("/readyz says 503", SOON, async || {
            let (status, body) = ready(&host).await;
            if status == StatusCode::SERVICE_UNAVAILABLE { Ok(()) } else { Err(format!("{status}: {body}")) }
        })
        .await;
        let (status, _) = host.request(Method::GET, "/healthz", None).await;
        assert_eq!(status, StatusCode::OK, "a host that waits for its store is alive");
        tokio::time::sleep(away().saturating_sub(begin.elapsed())).await;
        let grown = host.memory().saturating_sub(memory);
        assert!(grown < MEMORY_GROWTH, "memory grew by {grown} bytes while the store was away");
        server.start_again().unwrap();
        wait_until("/readyz says 200 again", Duration::from_secs(30), async || {
            let (status, body) = ready(&host).await;
            if status == StatusCode::OK { Ok(()) } else { Err(format!("{status}: {body}")) }
        })
        .await;
        load.await.expect("the load is produced");
        ledger.settled(&host, &group, scale(Duration::from_secs(120), Duration::from_secs(600))).await;
        ledger.reconcile(&host, &group).await;
    }
}

/// A server that hangs neither answers nor breaks connections. The host must not
/// take silence for health.
#[tokio::test(flavor = "multi_thread")]
async fn postgresql_hangs_and_goes_on() {
    let _turn = turn::heavy().await;
    let server = Postgres::start("hangs").unwrap();
    let bootstrap = courier_tests::kafka().bootstrap();
    let ledger = Arc::new(Ledger::open(bootstrap, 4, 100, Mixture::USUAL, 71).await);
    let (loaded, quiet) = (unique("loaded"), unique("quiet"));
    let topic = create_topic(bootstrap, "quiet", 1).await;
    let host = Host::builder("host-1")
        .store_url(&server.create_database().unwrap())
        .binding(&ledger.binding(&loaded, ""))
        .binding(&scripted_binding(&quiet, &topic, ""))
        .start()
        .await;
    host.upload("scripted", guest("scripted")).await;
    let load = tokio::spawn({
        let ledger = Arc::clone(&ledger);
        async move { ledger.produce(scale(4_000, 60_000), Some(scale(300, 1_500))).await }
    });
    host.finished(host.publish(scripted(&topic, "k", &["ok"])).await.id(), 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let frozen = server.freeze().unwrap();
    let begin = Instant::now();
    wait_until("/readyz says 503", Duration::from_secs(20), async || {
        let (status, body) = ready(&host).await;
        if status == StatusCode::SERVICE_UNAVAILABLE { Ok(()) } else { Err(format!("{status}: {body}")) }
    })
    .await;
    wait_until("the host stops its handlers", Duration::from_secs(20), async || {
        let told = host.log().contains("the store does not take outcomes");
        if told { Ok(()) } else { Err(format!("after {:?}", begin.elapsed())) }
    })
    .await;
    let noticed = jiff::Timestamp::now();
    let (status, _) = host.request(Method::GET, "/healthz", None).await;
    assert_eq!(status, StatusCode::OK, "a host that waits for its store is alive");
    let client = producer(&kafka_client::config(bootstrap));
    for number in 0..100 {
        produce(&client, &topic, Some(format!("k{number}").as_bytes()), &[], br#"{"do": ["ok"]}"#).await;
    }
    tokio::time::sleep(scale(Duration::from_secs(15), Duration::from_secs(40)).saturating_sub(begin.elapsed())).await;
    let thawed = jiff::Timestamp::now();
    drop(frozen);
    wait_until("/readyz says 200 again", SOON, async || {
        let (status, body) = ready(&host).await;
        if status == StatusCode::OK { Ok(()) } else { Err(format!("{status}: {body}")) }
    })
    .await;
    load.await.expect("the load is produced");
    host.settled(&quiet, 101, SOON).await;
    for delivery in host.deliveries(&format!("group={quiet}")).await {
        let [attempt] = delivery.attempts.as_slice() else { panic!("{}", delivery.brief()) };
        let started = attempt.started_at;
        assert!(started < noticed || started >= thawed, "a handler started at {started}, in the silence");
    }
    ledger.settled(&host, &loaded, scale(Duration::from_secs(120), Duration::from_secs(600))).await;
    ledger.reconcile(&host, &loaded).await;
    assert!(host.exited().is_none());
}

/// A broker that freezes can leave a client without any known broker for ever
/// (librdkafka#5301): consumers, relays and requests must all come back.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_freezes_and_thaws() {
    let _turn = turn::heavy().await;
    let kafka = Kafka::start("freezes").unwrap();
    let ledger = Ledger::open(kafka.bootstrap(), 4, 50, Mixture::USUAL, 81).await;
    let group = unique("freeze");
    let host = Host::builder("host-1").kafka(kafka.bootstrap()).binding(&ledger.binding(&group, "")).start().await;
    host.upload("scripted", guest("scripted")).await;
    for _ in 0..scale(2, 10) {
        ledger.produce(300, None).await;
        // Longer than the session of the group, and than the client's time-outs.
        let frozen = kafka.freeze().unwrap();
        wait_until("/readyz says that Kafka is away", SOON, async || {
            let (status, body) = ready(&host).await;
            let told = body["degraded"].as_array().is_some_and(|parts| parts.contains(&json!("kafka")));
            if status == StatusCode::OK && told { Ok(()) } else { Err(format!("{status}: {body}")) }
        })
        .await;
        tokio::time::sleep(scale(Duration::from_secs(10), Duration::from_secs(20))).await;
        drop(frozen);
        ledger.settled(&host, &group, SOON + SOON).await;
        let (status, body) = ready(&host).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    ledger.reconcile(&host, &group).await;
    assert!(host.exited().is_none());
}

/// A host whose servers are not up yet waits for them and does not end.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_starts_before_its_kafka_waits_for_it() {
    let _turn = turn::heavy().await;
    let kafka = Kafka::start("later").unwrap();
    let ledger = Ledger::open(kafka.bootstrap(), 2, 10, Mixture::PLAIN, 61).await;
    kafka.stop().unwrap();
    let group = unique("later");
    let host = Host::builder("host-1").kafka(kafka.bootstrap()).binding(&ledger.binding(&group, "")).start().await;
    host.upload("scripted", guest("scripted")).await;
    let (status, body) = ready(&host).await;
    assert_eq!((status, &body["degraded"]), (StatusCode::OK, &json!(["kafka"])));
    kafka.start_again().unwrap();
    ledger.produce(100, None).await;
    ledger.settled(&host, &group, SOON).await;
    ledger.reconcile(&host, &group).await;
}

/// Sends one message of each key, at once and each by itself.
async fn send_each(host: &Host, topic: &str, keys: usize, sequence: usize) -> Vec<Accepted> {
    let send = |key: usize| {
        let (id, key) = (format!("k{key}-{sequence}"), format!("k{key}"));
        host.publish(
            json!({ "id": id, "topic": topic, "type": "Sent", "key": key, "source": "tests", "body": sequence }),
        )
    };
    futures::future::join_all((0..keys).map(send)).await
}

/// "Kafka stalled; seq 1 of a key sent to host A and answered (202, retrying),
/// then seq 2 sent to host B and answered; Kafka goes on -> 2 of 8 keys lie as
/// [2, 1]".
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_two_hosts_took_while_kafka_was_stalled_lie_in_order() {
    const KEYS: usize = 8;
    let _turn = turn::heavy().await;
    let kafka = Kafka::start("two-hosts").unwrap();
    let topic = create_topic(kafka.bootstrap(), "two-hosts", 4).await;
    let builder = |node: &str| Host::builder(node).kafka(kafka.bootstrap());
    let one = builder("host-1").store(Store::Postgres).start().await;
    let two = builder("host-2").store_url(&one.store_url()).start().await;
    let rounds = scale(3, 10);
    for round in 0..rounds {
        let first = round * 3;
        // Both know the topic, and send directly while Kafka answers.
        for (host, sequence) in [(&one, first), (&two, first + 1)] {
            let sent = send_each(host, &topic, KEYS, sequence).await;
            assert!(sent.iter().all(Accepted::is_taken), "{sent:?}");
        }
        let frozen = kafka.freeze().unwrap();
        let stalled = send_each(&one, &topic, KEYS, first + 1_000).await;
        assert!(stalled.iter().all(|one| one.state == State::SendFail && one.retrying == Some(true)), "{stalled:?}");
        let behind = send_each(&two, &topic, KEYS, first + 1_001).await;
        assert!(behind.iter().all(|one| one.state == State::SendFail && one.retrying == Some(true)), "{behind:?}");
        drop(frozen);
        for accepted in stalled.iter().chain(&behind) {
            wait_until(&format!("{} is on Kafka", accepted.id()), SOON, async || {
                let message = two.message(accepted.id()).await;
                if message.state == State::Committed { Ok(()) } else { Err(format!("{message:?}")) }
            })
            .await;
        }
    }
    let records = read_topic(kafka.bootstrap(), &topic).await;
    for key in (0..KEYS).map(|key| format!("k{key}")) {
        let of_key = records.iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
        let mut ids: Vec<String> = of_key.filter_map(|record| record.header("ce_id")).collect();
        // A message that a host could not confirm may be there twice in a row.
        ids.dedup();
        let sent = (0..rounds).flat_map(|round| [0, 1, 1_000, 1_001].map(|part| round * 3 + part));
        assert_eq!(ids, sent.map(|sequence| format!("{key}-{sequence}")).collect::<Vec<_>>(), "key {key}");
    }
    assert!(one.exited().is_none() && two.exited().is_none());
}

/// "the log says it once and then with back-off (found: 0.5 to 15 lines a second
/// without end in seven situations)": a store that refuses the relay's leases
/// until a person mends it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_refuses_for_long_is_told_and_logged_once() {
    let _turn = turn::shared().await;
    let host = Host::builder("host-1").start().await;
    let rename = async |from: &str, to: &str| {
        let mut store = SqliteConnection::connect(&host.store_url()).await.expect("the file is there");
        let statement = format!("ALTER TABLE {from} RENAME TO {to}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut store).await.expect("the statement is right");
    };
    let told = async || {
        let (_, overview) = host.request(Method::GET, "/v1/overview", None).await;
        let items = overview["attention"].as_array().cloned().unwrap_or_default();
        items.into_iter().find(|item| item["cause"]["code"] == "relay_not_leased")
    };
    rename("relay_shard", "relay_shard_elsewhere").await;
    // It is shown after 10 s, and is tried every 2 s.
    let item = wait_until("attention tells of it", SOON, async || told().await.ok_or_else(|| host.log_tail())).await;
    assert!(item["detail"].as_str().is_some_and(|why| why.contains("sends nothing that waits")), "{item}");
    let lines = || host.log().lines().filter(|line| line.contains("relay_not_leased")).count();
    wait_until("the log tells of it", SOON, async || if lines() > 0 { Ok(()) } else { Err(host.log_tail()) }).await;
    assert_eq!(lines(), 1, "{}", host.log_tail());
    let (_, ready) = ready(&host).await;
    assert!(ready["degraded"].to_string().contains("relay"), "{ready}");
    rename("relay_shard_elsewhere", "relay_shard").await;
    wait_until("it is over", SOON, async || if told().await.is_none() { Ok(()) } else { Err(host.log_tail()) }).await;
    assert!(host.log().contains("progress resumed"), "{}", host.log_tail());
}
