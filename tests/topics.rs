//! Topics that change under their groups (created anew, grown, denied), and other
//! members that take a group's place.

use std::collections::BTreeMap;
use std::time::Duration;

use courier::store::LostRange;
use courier_core::status::State;
use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::{
    config, create_named_topic, create_partitions, create_topic, delete_topic, produce, produce_to, producer,
};
use courier_tests::{Delivery, Host, Store, guest, kafka, turn, unique, wait_until};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::types::RDKafkaRespErr;
use reqwest::Method;
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);
/// Failures wait so long that no test sees the retry.
const PARKS: &str = "[binding.retry]\nmax_attempts = 5\ninitial = \"1h\"";

fn script(words: &str) -> Vec<u8> {
    json!({ "do": [words, "ok"] }).to_string().into_bytes()
}

/// Produces `count` records, one after another, with ids that begin with `prefix`.
async fn fill(topic: &str, partition: i32, prefix: &str, count: usize) {
    let client = producer(&config(kafka().bootstrap()));
    for number in 0..count {
        let id = format!("{prefix}-{number}");
        produce_to(&client, topic, partition, &[("ce_id", &id), ("ce_type", "T")], &script("ok")).await;
    }
}

async fn anew(topic: &str, partitions: i32) {
    delete_topic(kafka().bootstrap(), topic).await;
    create_named_topic(kafka().bootstrap(), topic, partitions, &[]).await;
}

/// How often messages whose ids begin with `prefix` were handled, by id.
async fn handled(host: &Host, group: &str, prefix: &str) -> BTreeMap<String, usize> {
    let deliveries = host.deliveries(&format!("group={group}")).await;
    let mut times = BTreeMap::new();
    for one in deliveries.iter().filter(|one| one.state == State::Handled && one.message_id.starts_with(prefix)) {
        *times.entry(one.message_id.clone()).or_default() += one.attempts.len().max(1);
    }
    times
}

async fn wait_handled(host: &Host, group: &str, prefix: &str, count: usize) -> BTreeMap<String, usize> {
    wait_until(&format!("{count} of {prefix} are handled"), SOON, async || {
        let seen = handled(host, group, prefix).await;
        if seen.len() == count { Ok(seen) } else { Err(format!("{seen:?}\n{}", host.log_tail())) }
    })
    .await
}

async fn lost_ranges(host: &Host, group: &str) -> Vec<LostRange> {
    let store = courier::store::open(&host.store_url()).await.expect("the host's store can be opened beside it");
    let all = store.lost_ranges(&courier::store::LostRangeFilter::default(), 1_000).await.expect("the store answers");
    all.into_iter().filter(|range| range.group == group).collect()
}

/// Deliveries of one partition.
async fn of_partition(host: &Host, group: &str, partition: i32) -> Vec<Delivery> {
    let mut all = host.deliveries(&format!("group={group}")).await;
    all.retain(|one| one.partition == partition);
    all
}

/// A topic of 3 partitions with parked rows is made anew with 1.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_partitions_that_a_new_topic_lacks_are_closed() {
    let _turn = turn::shared().await;
    for store in [Store::Sqlite, Store::Postgres] {
        let topic = create_topic(kafka().bootstrap(), "fewer", 3).await;
        let group = unique("fewer");
        let host = Host::scripted("host-1", store, &group, &topic, PARKS).await;
        let client = producer(&config(kafka().bootstrap()));
        for partition in 0..3 {
            let id = format!("parked-{partition}");
            produce_to(&client, &topic, partition, &[("ce_id", &id), ("ce_type", "T")], &script("retry")).await;
            fill(&topic, partition, &format!("old-{partition}"), 4).await;
        }
        wait_handled(&host, &group, "old-", 12).await;
        wait_until("three are parked", SOON, async || {
            let open = host.group(&group).await.open;
            if open.retrying == 3 { Ok(()) } else { Err(format!("{open:?}")) }
        })
        .await;
        anew(&topic, 1).await;
        // Exactly as many as the old position.
        fill(&topic, 0, "new", 5).await;
        let seen = wait_handled(&host, &group, "new", 5).await;
        assert!(seen.values().all(|times| *times == 1), "each runs once: {seen:?}");
        wait_until("nothing is open", SOON, async || {
            let group = host.group(&group).await;
            if group.open.total() == 0 { Ok(()) } else { Err(format!("{group:?}")) }
        })
        .await;
        for partition in 0..3 {
            let all = of_partition(&host, &group, partition).await;
            let parked = all.iter().find(|one| one.message_id.starts_with("parked")).expect("it is not forgotten");
            assert_eq!((parked.state, parked.next_attempt_at), (State::HandleFail, None), "{}", parked.brief());
            assert!(parked.reason.as_deref().is_some_and(|why| why.contains("created anew")), "{}", parked.brief());
            let path = format!("/v1/deliveries/{}/retry", parked.id);
            let (status, problem) = host.request(Method::POST, &path, None).await;
            assert_eq!(status.as_u16(), 409, "{problem}");
            assert!(problem["detail"].as_str().is_some_and(|why| why.contains("created anew")), "{problem}");
        }
        let partitions = host.group(&group).await.partitions;
        assert_eq!(partitions.iter().map(|one| one.partition).collect::<Vec<_>>(), [0], "{partitions:?}");
        // As long as a dozen repetitions of the log line would take.
        tokio::time::sleep(Duration::from_secs(12)).await;
        let log = host.log();
        let complaints = log.lines().filter(|line| line.contains("WARN") && line.contains(&*topic)).count();
        assert!(complaints < 30, "the log is flooded: {complaints}\n{}", host.log_tail());
    }
}

/// The client notices nothing: it was frozen while the topic was made anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_while_the_host_is_frozen_runs_whole() {
    let _turn = turn::shared().await;
    for store in [Store::Sqlite, Store::Postgres] {
        let topic = create_topic(kafka().bootstrap(), "frozen", 1).await;
        let group = unique("frozen");
        let host = Host::scripted("host-1", store, &group, &topic, "").await;
        fill(&topic, 0, "old", 10).await;
        wait_handled(&host, &group, "old", 10).await;
        host.sigstop();
        anew(&topic, 1).await;
        // Some lie where the old log ended, and could be taken for its records.
        fill(&topic, 0, "new", 15).await;
        host.sigcont();
        let seen = wait_handled(&host, &group, "new", 15).await;
        wait_until("the lag is none", SOON, async || {
            let seen = host.group(&group).await;
            let at = seen.partitions.first().and_then(|one| one.position);
            if at == Some(15) && seen.lag() == 0 { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
        let lost = lost_ranges(&host, &group).await;
        assert!(lost.iter().any(|range| range.why.contains("created anew")), "{lost:?}");
        // A message that ran twice ran between two answers, and is listed.
        let twice = seen.values().filter(|times| **times > 1).count();
        let listed: i64 = lost.iter().map(|range| range.to.0 - range.from.0).sum();
        assert!(i64::try_from(twice).unwrap() <= listed, "{seen:?} {lost:?}");
        assert!(seen.values().all(|times| *times <= 2), "{seen:?}");
    }
}

/// As many new records as the old position, several times over, at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_at_once_runs_without_a_restart() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "anew-at-once", 2).await;
    let group = unique("anew-at-once");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    for round in 0..4 {
        if round > 0 {
            anew(&topic, 2).await;
        }
        for partition in 0..2 {
            fill(&topic, partition, &format!("round-{round}-{partition}"), 5).await;
        }
        wait_handled(&host, &group, &format!("round-{round}-"), 10).await;
    }
}

/// `start = "latest"` while Describe is denied at the first start.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_at_latest_waits_until_kafka_tells_where_that_is() {
    let _turn = turn::shared().await;
    let cluster = MockCluster::new(1).expect("librdkafka makes a cluster");
    let topic = unique("denied");
    cluster.create_topic(&topic, 1, 1).unwrap();
    let bootstrap = cluster.bootstrap_servers();
    let client = producer(&config(&bootstrap));
    for number in 0..20 {
        produce(&client, &topic, None, &[("ce_id", &format!("old-{number}"))], &script("ok")).await;
    }
    cluster.topic_error(&topic, RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let group = unique("denied");
    let binding = scripted_binding(&group, &topic, "start = \"latest\"");
    let host = Host::builder("denied").kafka(&bootstrap).binding(&binding).start().await;
    host.upload("scripted", guest("scripted")).await;
    wait_until("the host says why it waits", SOON, async || {
        let log = host.log();
        if log.contains("latest") && log.contains("not known") { Ok(()) } else { Err(host.log_tail()) }
    })
    .await;
    assert!(host.group(&group).await.partitions.is_empty(), "it begins nowhere");
    cluster.topic_error(&topic, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    wait_until("it has begun", SOON, async || {
        let seen = host.group(&group).await;
        let at = seen.partitions.first().and_then(|one| one.position);
        if at == Some(20) { Ok(()) } else { Err(format!("{seen:?}\n{}", host.log_tail())) }
    })
    .await;
    produce(&client, &topic, None, &[("ce_id", "new-0")], &script("ok")).await;
    wait_handled(&host, &group, "new", 1).await;
    assert!(handled(&host, &group, "old").await.is_empty(), "what was there before does not run");
}

/// `start`, and a seek, to a time before 1970 are the beginning.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_before_1970_is_the_beginning() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "long-ago", 1).await;
    let group = unique("long-ago");
    fill(&topic, 0, "old", 3).await;
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "start = \"1960-01-01T00:00:00Z\"").await;
    wait_handled(&host, &group, "old", 3).await;
    let seek = json!({ "topic": topic, "to": "1931-05-01T00:00:00Z", "confirm": group });
    let sought = host.post(&format!("/v1/groups/{group}/seek"), seek, 200).await;
    wait_until("they run again", SOON, async || {
        let seen = handled(&host, &group, "old").await;
        if seen.values().all(|times| *times == 2) { Ok(()) } else { Err(format!("{seen:?} {sought}")) }
    })
    .await;
}

/// Partitions are added while a key is parked: a record of that key in a new
/// partition waits, and every other key goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_parked_key_is_not_overtaken_in_a_partition_that_was_added() {
    let _turn = turn::shared().await;
    for store in [Store::Sqlite, Store::Postgres] {
        let topic = create_topic(kafka().bootstrap(), "grows", 1).await;
        let group = unique("grows");
        let host = Host::scripted("host-1", store, &group, &topic, PARKS).await;
        let client = producer(&config(kafka().bootstrap()));
        let headers = |id: &'static str| [("ce_id", id), ("ce_type", "T")];
        produce(&client, &topic, Some(b"sick"), &headers("first"), &script("retry")).await;
        produce(&client, &topic, Some(b"well"), &headers("well-1"), &script("ok")).await;
        wait_handled(&host, &group, "well", 1).await;
        create_partitions(kafka().bootstrap(), &topic, 4).await;
        // As a producer that sees the new partitions would: into another one.
        let fresh = producer(&config(kafka().bootstrap()));
        for (key, id) in [("sick", "second"), ("well", "well-2"), ("sick", "third")] {
            let record = rdkafka::producer::FutureRecord::<[u8], [u8]>::to(&topic).partition(3).key(key.as_bytes());
            let header = rdkafka::message::Header { key: "ce_id", value: Some(id) };
            let body = script("ok");
            let record = record.payload(&body).headers(rdkafka::message::OwnedHeaders::new().insert(header));
            fresh.send(record, SOON).await.unwrap_or_else(|(error, _)| panic!("{error}"));
        }
        wait_handled(&host, &group, "well", 2).await;
        wait_until("the key is parked in both", SOON, async || {
            let seen = host.deliveries(&format!("group={group}&key=sick")).await;
            if seen.len() == 3 { Ok(()) } else { Err(format!("{seen:?}\n{}", host.log_tail())) }
        })
        .await;
        // Nor after a restart.
        host.kill9();
        host.start_again().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let seen = host.deliveries(&format!("group={group}&key=sick")).await;
        assert!(seen.iter().all(|one| one.state != State::Handled), "{seen:?}");
        let first = seen.iter().find(|one| one.message_id == "first").expect("it is open");
        host.post(&format!("/v1/deliveries/{}/retry", first.id), json!(null), 202).await;
        host.settled(&group, 5, SOON).await;
        let mut seen = host.deliveries(&format!("group={group}&key=sick")).await;
        seen.sort_by_key(|one| one.settled_at);
        let order: Vec<&str> = seen.iter().map(|one| one.message_id.as_str()).collect();
        assert_eq!(order, ["first", "second", "third"]);
    }
}

/// Two installations with one node name on one cluster.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_installations_with_the_same_node_name_stands_back() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "namesakes", 2).await;
    let group = unique("namesakes");
    let one = Host::scripted("same", Store::Sqlite, &group, &topic, "").await;
    let two = Host::scripted("same", Store::Sqlite, &group, &topic, "").await;
    let says = "a [server] node of its own";
    let back = wait_until("one of them stands back", SOON, async || {
        match (one.log().contains(says), two.log().contains(says)) {
            (true, false) => Ok(1),
            (false, true) => Ok(2),
            (true, true) => Err("both say so".to_owned()),
            (false, false) => Err(format!("{}\n{}", one.log_tail(), two.log_tail())),
        }
    })
    .await;
    let (back, other) = if back == 1 { (&one, &two) } else { (&two, &one) };
    fill(&topic, 0, "message", 20).await;
    wait_handled(other, &group, "message", 20).await;
    assert!(handled(back, &group, "message").await.is_empty(), "only one of them runs anything");
    let taken = |log: &str| log.matches("the consumer was fenced").count();
    assert!(taken(&back.log()) <= 4 && taken(&other.log()) <= 4, "they fight no more");
    // The other one leaves, and the name is free.
    assert!(other.sigterm(Duration::from_secs(20)).await.success());
    wait_handled(back, &group, "message", 20).await;
}

/// A client in a group that is no host, until it is stopped.
struct Stranger {
    stop: std::sync::mpsc::Sender<()>,
    polling: std::thread::JoinHandle<()>,
}

impl Stranger {
    fn join(group: &str, topic: &str, assignor: &str) -> Self {
        let mut config = config(kafka().bootstrap());
        config.set("group.id", group).set("client.id", "stranger").set("session.timeout.ms", "6000");
        config.set("partition.assignment.strategy", assignor);
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&[topic]).unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let polling = std::thread::spawn(move || {
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let _ = consumer.poll(Duration::from_millis(100));
            }
            consumer.unsubscribe();
        });
        Self { stop, polling }
    }

    fn leave(self) {
        self.stop.send(()).unwrap();
        self.polling.join().unwrap();
    }
}

/// A client with another assignor holds the group.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_assignor_that_holds_the_group_is_named() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "foreign", 1).await;
    let group = unique("foreign");
    let stranger = Stranger::join(&group, &topic, "range");
    let log = courier_tests::kafka_client::producer(&config(kafka().bootstrap()));
    produce(&log, &topic, None, &[("ce_id", "message-0")], &script("ok")).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    wait_until("the host says who holds the group", SOON, async || {
        if host.log().contains("assignor range") { Ok(()) } else { Err(host.log_tail()) }
    })
    .await;
    stranger.leave();
    wait_handled(&host, &group, "message", 1).await;
}

/// Issue 16: a partition whose last owner lives, and which Kafka has given to a client
/// that is no host, had a lag and no cause.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_was_given_a_partition_is_named() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "stranger", 2).await;
    let group = unique("stranger");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    for partition in 0..2 {
        fill(&topic, partition, &format!("first-{partition}"), 1).await;
    }
    wait_handled(&host, &group, "first", 2).await;
    let stranger = Stranger::join(&group, &topic, "cooperative-sticky");
    let cause = async || {
        let (_, overview) = host.request(Method::GET, "/v1/overview", None).await;
        let mut items = overview["attention"].as_array().cloned().unwrap_or_default().into_iter();
        items.find(|item| item["cause"]["code"] == "no_owner")
    };
    let told =
        wait_until("attention names the stranger", SOON, async || cause().await.ok_or_else(|| host.log_tail())).await;
    let why = told.to_string();
    assert!(why.contains("1 partition is owned by no live node: stranger-"), "{why}");
    stranger.leave();
    for partition in 0..2 {
        fill(&topic, partition, &format!("second-{partition}"), 1).await;
    }
    wait_handled(&host, &group, "second", 2).await;
    wait_until("the cause is gone", SOON, async || cause().await.map_or(Ok(()), |item| Err(item.to_string()))).await;
}

/// A replay over types that the binding passes over.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_skips_the_types_that_the_binding_passes_over() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "types", 1).await;
    let group = unique("types");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "types = [\"Wanted\"]").await;
    let client = producer(&config(kafka().bootstrap()));
    for (id, kind) in [("a", "Wanted"), ("b", "Other"), ("c", "Wanted")] {
        produce_to(&client, &topic, 0, &[("ce_id", id), ("ce_type", kind)], &script("ok")).await;
    }
    wait_until("the wanted ones are handled", SOON, async || {
        let seen = host.group(&group).await;
        let at = seen.partitions.first().and_then(|one| one.position);
        if seen.handled == 2 && at == Some(3) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    let filter = json!({ "group": group, "topic": topic, "replay": true, "from_offset": 0, "to_offset": 3 });
    let planned = host.post("/v1/redrives", json!({ "filter": filter }), 201).await;
    let id = planned["id"].as_str().expect("an id").to_owned();
    host.post(&format!("/v1/redrives/{id}/run"), json!({}), 200).await;
    let done = wait_until("the replay is done", SOON, async || {
        let seen: serde_json::Value = host.get(&format!("/v1/redrives/{id}")).await;
        if seen["state"] == "DONE" && seen["running"] == 0 { Ok(seen) } else { Err(seen.to_string()) }
    })
    .await;
    assert_eq!((done["handled"].as_u64(), done["skipped"].as_u64()), (Some(2), Some(1)), "{done}");
    let items: serde_json::Value = host.get(&format!("/v1/redrives/{id}/items")).await;
    let skipped = &items["items"][1];
    assert_eq!(skipped["state"], "SKIPPED", "{items}");
    assert!(skipped["reason"].as_str().is_some_and(|why| why.contains("`types` pass over")), "{items}");
}
