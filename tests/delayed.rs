//! Delayed messages on real Kafka: never early, soon after they are due, and once
//! each, whatever happens to the hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use courier_core::status::State;
use courier_tests::kafka_client::{Record, create_topic, read_topic};
use courier_tests::shapes::Page;
use courier_tests::{
    Host, Message, Store, encode, guest, kafka, postgres, scale, scripted_binding, turn, unique, wait_until,
};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

fn message(topic: &str, id: &str, due: (&str, Value)) -> Value {
    json!({ "topic": topic, "type": "Scripted", "id": id, "key": id, "body": { "do": ["ok"] }, due.0: due.1 })
}

/// Waits until these messages are on Kafka, and returns the first record of each,
/// by id.
async fn on_kafka(topic: &str, ids: &BTreeSet<String>, limit: Duration) -> BTreeMap<String, Record> {
    wait_until(&format!("{} messages are on {topic}", ids.len()), limit, async || {
        let mut found = BTreeMap::new();
        for record in read_topic(kafka().bootstrap(), topic).await {
            found.entry(record.header("ce_id").unwrap_or_default()).or_insert(record);
        }
        if ids.iter().all(|id| found.contains_key(id)) { Ok(found) } else { Err(format!("{}", found.len())) }
    })
    .await
}

/// How late a record is; negative when it is early.
fn lateness_ms(record: &Record, due: Timestamp) -> f64 {
    record.time_ms as f64 - due.as_microsecond() as f64 / 1_000.0
}

async fn delayed(host: &Host, query: &str) -> Page<Value> {
    host.get(&format!("/v1/delayed?{query}")).await
}

async fn cancel(host: &Host, id: &str) -> (StatusCode, Value) {
    host.request(Method::DELETE, &format!("/v1/messages/{}", encode(id)), None).await
}

async fn waits_and_goes(store: Store) {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "delayed", 3).await;
    let group = unique("delayed");
    let host = Host::scripted("host-1", store, &group, &topic, "").await;
    let begin = Timestamp::now();
    let at = Timestamp::from_microsecond(begin.as_microsecond() + 10_000_000).unwrap();
    let accepted = host
        .publish_all(vec![
            message(&topic, "after", ("delay", json!("12s"))),
            message(&topic, "at", ("deliver_at", json!(at.to_string()))),
            message(&topic, "weeks", ("delay", json!("21d"))),
            message(&topic, "now", ("deliver_at", json!("2020-01-31T08:00:00Z"))),
        ])
        .await;
    assert!(accepted.iter().all(|one| one.state == State::Committed && one.retrying != Some(true)), "{accepted:?}");
    let seen: Message = host.message("after").await;
    assert_eq!((seen.state, seen.partition, seen.reason), (State::Committed, None, None));
    assert_eq!(seen.body, Some(json!({ "do": ["ok"] })), "its body can be read while it waits");
    let due = seen.deliver_at.unwrap();
    assert!(due >= begin + SignedDuration::from_secs(12), "{due}");
    assert_eq!(host.message("at").await.deliver_at, Some(at));
    assert!(delayed(&host, &format!("topic={topic}&limit=1")).await.next.is_some());
    let waiting = delayed(&host, &format!("topic={topic}")).await.items;
    // The message that was due at once may be gone by now.
    let waiting: Vec<&Value> = waiting.iter().filter(|one| one["id"] != "now").collect();
    assert_eq!(waiting.iter().map(|one| &one["id"]).collect::<Vec<_>>(), ["at", "after", "weeks"]);
    assert_eq!((&waiting[0]["partition"], &waiting[0]["state"]), (&Value::Null, &json!("COMMITTED")));

    let ids = ["after", "at", "now"].map(str::to_owned).into();
    let records = on_kafka(&topic, &ids, SOON).await;
    for (id, due) in [("after", due), ("at", at)] {
        let late = lateness_ms(&records[id], due);
        assert!(late >= 0.0, "{id} was {late} ms early");
    }
    let handled = host.finished("after", 1).await;
    assert_eq!(handled.deliveries[0].state, State::Handled);
    assert!(handled.partition.is_some() && handled.deliver_at == Some(due));
    let waiting = delayed(&host, &format!("topic={topic}")).await;
    assert_eq!(waiting.items.len(), 1, "only what is due in three weeks waits");
    // The same message again gets the first answer, before and after it went out.
    for id in ["after", "weeks"] {
        let delay = if id == "after" { "12s" } else { "21d" };
        assert_eq!(host.publish(message(&topic, id, ("delay", json!(delay)))).await.state, State::Committed);
        let (status, _) =
            host.request(Method::POST, "/v1/messages", Some(message(&topic, id, ("delay", json!("3s"))))).await;
        assert_eq!(status, StatusCode::CONFLICT);
    }

    let (status, cancelled) = cancel(&host, "weeks").await;
    assert_eq!(
        (status, &cancelled["state"], &cancelled["reason"]),
        (StatusCode::OK, &json!("SEND_FAIL"), &json!("cancelled"))
    );
    assert_eq!(cancel(&host, "weeks").await.0, StatusCode::OK, "again, it answers the same");
    let (status, went) = cancel(&host, "after").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(went["detail"].as_str().unwrap().contains("went out"), "{went}");
    assert_eq!(cancel(&host, "unknown").await.0, StatusCode::NOT_FOUND);
    assert_eq!(read_topic(kafka().bootstrap(), &topic).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_message_waits_and_goes() {
    waits_and_goes(Store::of_this_pass()).await;
}

/// CloudEvents have the delay in attributes, which are not part of the record.
#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_event_can_be_delayed() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "delayed", 1).await;
    let host = Host::builder("host-1").start().await;
    let event = |id: &str, more: Value| {
        let mut event =
            json!({ "specversion": "1.0", "id": id, "source": "/shop", "type": "T", "topic": topic, "data": 1 });
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let at = Timestamp::now() + SignedDuration::from_secs(4);
    let batch = json!([event("e-1", json!({ "delay": "5s" })), event("e-2", json!({ "deliverat": at.to_string() }))]);
    let content_type = [("content-type", "application/cloudevents-batch+json")];
    let (status, answer) = host.send(Method::POST, "/v1/messages", &content_type, batch.to_string().into_bytes()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "e-3"),
        ("ce-source", "/shop"),
        ("ce-type", "T"),
        ("ce-topic", topic.as_str()),
        ("ce-delay", "6s"),
        ("content-type", "text/plain"),
    ];
    let (status, answer) = host.send(Method::POST, "/v1/messages", &headers, b"x".to_vec()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    assert_eq!(delayed(&host, &format!("topic={topic}")).await.items.len(), 3);
    let records = on_kafka(&topic, &["e-1", "e-2", "e-3"].map(str::to_owned).into(), SOON).await;
    for record in records.values() {
        assert!(record.header("ce_delay").is_none() && record.header("ce_deliverat").is_none(), "{record:?}");
    }
    let wrong = event("e-4", json!({ "delay": "soon" })).to_string().into_bytes();
    let (status, answer) =
        host.send(Method::POST, "/v1/messages", &[("content-type", "application/cloudevents+json")], wrong).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["detail"].as_str().unwrap().contains("`delay`"), "{answer}");
}

/// A message that would be refused without a delay is refused at once with one,
/// and not only when it is due.
#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_message_is_validated_when_it_is_taken() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "delayed", 1).await;
    let host = Host::builder("host-1").start().await;
    let large = "x".repeat(1_100_000);
    for (what, body, expected) in [
        (
            "a topic that is not there",
            json!({ "topic": unique("nowhere"), "type": "T", "body": 1, "delay": "1h" }),
            422,
        ),
        ("a bad topic", json!({ "topic": "a b", "type": "T", "body": 1, "delay": "1h" }), 400),
        ("a large body", json!({ "topic": topic, "type": "T", "body": large, "delay": "1h" }), 413),
        ("no duration", json!({ "topic": topic, "type": "T", "body": 1, "delay": "1" }), 400),
        ("a time without offset", json!({ "topic": topic, "type": "T", "body": 1, "deliver_at": "2031-01-31" }), 400),
        ("a thousand years", json!({ "topic": topic, "type": "T", "body": 1, "delay": "365000d" }), 400),
        (
            "both",
            json!({ "topic": topic, "type": "T", "body": 1, "delay": "1h", "deliver_at": "2031-01-31T08:00:00Z" }),
            400,
        ),
    ] {
        let (status, answer) = host.request(Method::POST, "/v1/messages", Some(body)).await;
        assert_eq!(status.as_u16(), expected, "{what}: {answer}");
    }
    assert!(delayed(&host, "").await.items.is_empty());
}

/// A cancellation at the time when a message is due takes it back or reports that
/// it went out; Kafka and the answer never disagree.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_at_the_last_moment_tells_the_truth() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "delayed", 2).await;
    let url = postgres().create_database().unwrap();
    let (one, two) =
        (Host::builder("host-1").store_url(&url).start().await, Host::builder("host-2").store_url(&url).start().await);
    let count = scale(60, 600);
    let mut chance = StdRng::seed_from_u64(5);
    let at = Timestamp::now() + SignedDuration::from_millis(1_500);
    let ids: Vec<String> = (0..count).map(|number| format!("m-{number}")).collect();
    one.publish_all(ids.iter().map(|id| message(&topic, id, ("deliver_at", json!(at.to_string())))).collect()).await;
    let lead = at.duration_since(Timestamp::now()) - SignedDuration::from_millis(40);
    tokio::time::sleep(Duration::try_from(lead).unwrap_or_default()).await;
    let mut shuffled = ids.clone();
    shuffled.shuffle(&mut chance);
    let (mut cancelled, mut went) = (BTreeSet::new(), BTreeSet::new());
    for id in shuffled {
        let host = if chance.random_bool(0.5) { &one } else { &two };
        match cancel(host, &id).await {
            (StatusCode::OK, _) => cancelled.insert(id),
            (StatusCode::CONFLICT, _) => went.insert(id),
            (status, answer) => panic!("{id}: {status} {answer}"),
        };
    }
    println!("{} cancelled, {} went", cancelled.len(), went.len());
    let records = on_kafka(&topic, &went, SOON).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(records.len(), went.len());
    assert!(cancelled.iter().all(|id| !records.contains_key(id)), "what was cancelled is on Kafka");
    for id in &cancelled {
        assert_eq!(one.message(id).await.state, State::SendFail);
    }
}

/// Messages of one key go out in the order of their due times, and not in that of
/// their arrival.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_key_leave_in_the_order_they_are_due() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "delayed", 2).await;
    let host = Host::builder("host-1").start().await;
    let begin = Timestamp::now() + SignedDuration::from_secs(4);
    let mut messages: Vec<Value> = (0..60)
        .map(|number| {
            let at = begin + SignedDuration::from_millis(number * 5);
            json!({ "topic": topic, "type": "T", "key": "k", "id": format!("m-{number:02}"), "body": number,
                "deliver_at": at.to_string() })
        })
        .collect();
    messages.shuffle(&mut StdRng::seed_from_u64(3));
    host.publish_all(messages).await;
    on_kafka(&topic, &(0..60).map(|number| format!("m-{number:02}")).collect(), SOON).await;
    let records = read_topic(kafka().bootstrap(), &topic).await;
    let order: Vec<i64> = records.iter().map(|record| record.json().as_i64().unwrap()).collect();
    assert_eq!(order, (0..60).collect::<Vec<_>>());
}

/// Two hosts, killed and restarted while messages fall due: none is early, none is
/// missing, and only those in flight at a kill may be doubled.
async fn through_kills(two_hosts: bool) {
    let _turn = turn::heavy().await;
    let topic = create_topic(kafka().bootstrap(), "delayed", 4).await;
    let group = unique("delayed");
    let url = if two_hosts { postgres().create_database().unwrap() } else { String::new() };
    let binding = scripted_binding(&group, &topic, "dedupe = \"1h\"");
    let host = |name: &str| Host::builder(name).store_url(&url).binding(&binding);
    let mut hosts = vec![host("host-1").start().await];
    if two_hosts {
        hosts.push(host("host-2").start().await);
    }
    hosts[0].upload("scripted", guest("scripted")).await;
    // At full scale long enough for a hundred thousand messages and for several
    // lives of each host.
    let (count, span_ms, kills) = (scale(400, 100_000), scale(5_000, 300_000), scale(2, 8));
    let mut chance = StdRng::seed_from_u64(17);
    let begin = Timestamp::now() + SignedDuration::from_millis(scale(1_500, 60_000));
    let due: BTreeMap<String, Timestamp> = (0..count)
        .map(|number| (format!("m-{number}"), begin + SignedDuration::from_millis(chance.random_range(0..span_ms))))
        .collect();
    let all: Vec<(&String, &Timestamp)> = due.iter().collect();
    for (number, part) in all.chunks(2_000).enumerate() {
        let part = part.iter().map(|(id, at)| message(&topic, id, ("deliver_at", json!(at.to_string())))).collect();
        hosts[number % hosts.len()].publish_all(part).await;
    }
    let mut windows = Vec::new();
    for number in 0..kills {
        let pause = chance.random_range(span_ms / kills / 3..span_ms / kills);
        tokio::time::sleep(Duration::from_millis(pause.unsigned_abs())).await;
        let host = &hosts[usize::try_from(number).unwrap() % hosts.len()];
        let killed = Timestamp::now();
        host.kill9();
        host.start_again().await;
        // A message due just before was in flight when the host died.
        let (before, after) = (SignedDuration::from_millis(100), SignedDuration::from_millis(500));
        windows.push((killed - before, Timestamp::now() + after));
    }
    // Not read before, since reading costs the machine time.
    let rest = (begin + SignedDuration::from_millis(span_ms)).duration_since(Timestamp::now());
    tokio::time::sleep(Duration::try_from(rest).unwrap_or_default()).await;
    let limit = scale(SOON + SOON, SOON * 10);
    let records = on_kafka(&topic, &due.keys().cloned().collect(), limit).await;
    let (mut usual, mut takeover) = (Vec::new(), Vec::new());
    for (id, at) in &due {
        let late = lateness_ms(&records[id], *at);
        assert!(late >= 0.0, "{id} was {late} ms early");
        let within = windows.iter().any(|(from, to)| from <= at && at <= to);
        if within { takeover.push(late) } else { usual.push(late) }
    }
    let twice = read_topic(kafka().bootstrap(), &topic).await.len() - due.len();
    println!(
        "{count} messages, {kills} kills: 0 early, 0 missed, {twice} twice on Kafka; lateness {}; in windows of takeover {}",
        quantiles(&mut usual),
        quantiles(&mut takeover)
    );
    assert!(twice <= usize::try_from(kills).unwrap() * 1_000, "{twice} are there twice, more than were in flight");
    let late = usual[(usual.len() - 1) * 99 / 100];
    // Other tests run beside this one at the small scale, and nothing is promised.
    assert!(late <= scale(f64::INFINITY, 50.0), "p99 of the lateness is {late} ms");
    hosts[0].settled(&group, due.len() + twice, limit).await;
    let effects = hosts[0].effects(&group).await;
    assert!(effects.len() == due.len() && effects.keys().all(|id| due.contains_key(id)), "each was handled");
    assert!(effects.values().all(|times| *times == 1), "and once, where doubles are dropped");
}

fn quantiles(late: &mut [f64]) -> String {
    late.sort_by(f64::total_cmp);
    let at = |part: f64| late.get(((late.len() as f64 - 1.0) * part).round() as usize).copied().unwrap_or(0.0);
    format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms of {}", at(0.5), at(0.99), at(1.0), late.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_messages_survive_kill_9_with_sqlite() {
    through_kills(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_messages_survive_kill_9_with_two_hosts_on_postgresql() {
    through_kills(true).await;
}
