//! Parked records that Kafka's retention is about to remove.

use std::time::Duration;

use courier_core::status::State;
use courier_tests::kafka_client::{
    config, create_named_topic, delete_records, produce, produce_at, producer, read_topic,
};
use courier_tests::{Host, Store, kafka, scripted_binding, turn, unique, wait_until};
use rdkafka::producer::FutureProducer;
use reqwest::Method;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(90);
/// The head waits so long that only a person lets its lane go on.
const PARKS: &str = "[binding.retry]\nmax_attempts = 5\ninitial = \"1h\"";
/// Large records behind the head. A partition keeps 64 MiB of parked records, and
/// these and some small ones fill it; of later ones only coordinates are stored.
const LARGE: usize = 74;
const LARGE_BYTES: usize = 900_000;
const SMALL: usize = 150;
const SMALL_BYTES: usize = 20_000;
/// The least number of small records with only coordinates.
const BARE: i64 = 110;
/// All parked records, including the head.
const PARKED: usize = 1 + LARGE + SMALL;

fn body(script: &[&str], padding: usize) -> Vec<u8> {
    json!({ "do": script, "pad": "x".repeat(padding) }).to_string().into_bytes()
}

/// Fills a topic of one partition and one lane: a head that waits, large records,
/// and then small ones of this age.
async fn fill(client: &FutureProducer, topic: &str, retention_ms: i64, age: Duration) {
    create_named_topic(kafka().bootstrap(), topic, 1, &[("retention.ms", &retention_ms.to_string())]).await;
    produce(client, topic, Some(b"sick"), &[], &body(&["retry", "ok"], 0)).await;
    for _ in 0..LARGE {
        produce(client, topic, Some(b"sick"), &[], &body(&["ok"], LARGE_BYTES)).await;
    }
    let recorded = jiff::Timestamp::now().as_millisecond() - i64::try_from(age.as_millis()).unwrap();
    for _ in 0..SMALL {
        produce_at(client, topic, b"sick", recorded, &body(&["ok"], SMALL_BYTES)).await;
    }
}

async fn parked(host: &Host, group: &str) {
    wait_until("the lane is parked", SOON, async || {
        let open = host.group(group).await.open;
        if open.retrying == 1 && open.waiting == (LARGE + SMALL) as u64 { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
}

fn number(fields: &Value, name: &str) -> i64 {
    fields[name].as_str().and_then(|text| text.parse().ok()).unwrap_or(-1)
}

/// The item of attention about a group with this code.
async fn told(host: &Host, group: &str, code: &str, is_right: impl Fn(&Value) -> bool) -> Value {
    wait_until(&format!("attention tells of {code}"), SOON, async || {
        let (_, overview) = host.request(Method::GET, "/v1/overview", None).await;
        let items = overview["attention"].as_array().cloned().unwrap_or_default();
        let found = items.iter().find(|item| {
            item["subject"].as_str().is_some_and(|subject| subject.starts_with(group)) && item["cause"]["code"] == code
        });
        found.filter(|item| is_right(&item["cause"]["fields"])).cloned().ok_or_else(|| format!("{items:?}"))
    })
    .await
}

/// Requests a rerun of the head.
async fn retry_head(host: &Host, group: &str) {
    let heads = host.deliveries(&format!("group={group}&state=HANDLE_FAIL")).await;
    let head = heads.iter().find(|delivery| delivery.next_attempt_at.is_some()).expect("the head waits");
    host.post(&format!("/v1/deliveries/{}/retry", head.id), json!({}), 202).await;
}

/// "retention passes 27 of 110 parked records -> known only per delivery
/// afterwards -> told before".
#[tokio::test(flavor = "multi_thread")]
async fn parked_records_are_copied_before_retention_removes_them() {
    let _turn = turn::shared().await;
    let (group, topic) = (unique("copied"), unique("copied"));
    // Of ten minutes the last tenth has begun. Kafka removes nothing yet, since the
    // segment also has younger records.
    let client = producer(&config(kafka().bootstrap()));
    fill(&client, &topic, 600_000, Duration::from_secs(560)).await;
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, PARKS).await;
    parked(&host, &group).await;
    let warning = told(&host, &group, "retention_near", |fields| number(fields, "count") >= BARE).await;
    assert_eq!(warning["kind"], "retention_near", "{warning}");
    let left = read_topic(kafka().bootstrap(), &topic).await;
    assert_eq!(left.len(), PARKED, "they are told of before anything is lost");
    let seen = host.group(&group).await;
    assert_eq!((seen.state.as_deref(), seen.paused), (Some("running"), false));
    assert_eq!(seen.cause.expect("the group's list says so too")["code"], "retention_near");
    assert!(host.log().contains("a loss was foreseen"), "{}", host.log_tail());

    delete_records(kafka().bootstrap(), &topic, 0, PARKED as i64).await;
    assert!(read_topic(kafka().bootstrap(), &topic).await.is_empty(), "the log has lost them all");
    retry_head(&host, &group).await;
    let seen = host.settled(&group, PARKED, SOON).await;
    assert_eq!((seen.handled, seen.failed), (PARKED as u64, 0));
    wait_until("nothing is foreseen any more", SOON, async || {
        let cause = host.group(&group).await.cause;
        if cause.is_none() { Ok(()) } else { Err(format!("{cause:?}")) }
    })
    .await;
}

/// The same where only the start of the log is a sign, and more records are near
/// it than may be copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_cannot_copy_more_pauses_and_lists_what_will_be_lost() {
    let _turn = turn::shared().await;
    let (group, topic) = (unique("doomed"), unique("doomed"));
    let client = producer(&config(kafka().bootstrap()));
    fill(&client, &topic, -1, Duration::ZERO).await;
    let policy = |bound: &str| format!("max_copied_bytes = \"{bound}\"\n{PARKS}");
    let host = Host::scripted("host-1", Store::Postgres, &group, &topic, &policy("100KiB")).await;
    parked(&host, &group).await;
    // The log's start comes near the first record that only Kafka has.
    const START: i64 = 95;
    delete_records(kafka().bootstrap(), &topic, 0, START).await;
    let stopped = told(&host, &group, "copied_full", |_| true).await;
    assert_eq!(stopped["kind"], "stopped", "{stopped}");
    let fields = &stopped["cause"]["fields"];
    let (from, to) = (number(fields, "first_offset"), number(fields, "last_offset"));
    assert_eq!(number(fields, "count"), to - from + 1, "{stopped}");
    assert!(START < from && from < to && to < PARKED as i64, "some are copied, and some are not near: {stopped}");
    let (_, ready) = host.request(Method::GET, "/readyz", None).await;
    assert!(ready["degraded"].to_string().contains(&topic), "{ready}");

    // Kafka removes them, and the next ones are near.
    delete_records(kafka().bootstrap(), &topic, 0, to + 1).await;
    told(&host, &group, "copied_full", |fields| number(fields, "first_offset") == to + 1).await;
    produce(&client, &topic, Some(b"healthy"), &[], &body(&["ok"], 0)).await;
    // A person raises the bound: the rest is copied, and the partition goes on.
    host.write_config(&host.toml().replace("\"100KiB\"", "\"64MiB\""));
    wait_until("the partition goes on", SOON, async || {
        let seen = host.group(&group).await;
        if seen.handled == 1 { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    let lost = u64::try_from(to - from + 1).unwrap();
    retry_head(&host, &group).await;
    let seen = host.settled(&group, PARKED + 1, SOON).await;
    assert_eq!((seen.handled, seen.failed), (PARKED as u64 + 1 - lost, lost));
    for delivery in host.deliveries(&format!("group={group}&state=HANDLE_FAIL")).await {
        assert!(delivery.state == State::HandleFail && (from..=to).contains(&delivery.offset), "{}", delivery.brief());
    }
}

/// `courier check` explains the bound to a person who wrote a wrong one.
#[tokio::test(flavor = "multi_thread")]
async fn check_explains_the_bound_of_copies() {
    let binding = |bound: &str| scripted_binding("g", "t", &format!("max_copied_bytes = \"{bound}\""));
    let host = Host::builder("host-1").binding(&binding("1GiB")).prepare();
    let check = |host: &Host| host.cli(&["check", "--config", &host.config().display().to_string()]);
    let (status, printed, _) = check(&host);
    assert!(status.success() && printed.contains("copies up to 1GiB of parked records"), "{printed}");
    let host = Host::builder("host-1").binding(&binding("1MB")).prepare();
    let (status, _, errors) = check(&host);
    assert!(!status.success() && errors.contains("max_copied_bytes") && errors.contains("1MiB"), "{errors}");
}
