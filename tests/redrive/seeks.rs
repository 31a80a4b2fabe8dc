//! Seeks of positions under load.

use std::collections::BTreeMap;
use std::time::Duration;

use courier_core::status::State;
use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::create_topic;
use courier_tests::{Delivery, Host, Store, guest, kafka, postgres, scripted, turn, unique, wait_until};
use reqwest::Method;
use serde_json::{Value, json};

use super::SOON;

/// Each delivery of a group, by its offset in partition 0.
pub(super) async fn by_offset(host: &Host, group: &str) -> BTreeMap<i64, Delivery> {
    let all = host.deliveries(&format!("group={group}")).await;
    all.into_iter().filter(|one| one.partition == 0).map(|one| (one.offset, one)).collect()
}

/// Positions move both ways while messages come, on any host.
async fn seeks(hosts: &[Host], group: &str, topic: &str) {
    let host = &hosts[0];
    let messages =
        |count: usize| (0..count).map(|number| scripted(topic, &format!("k{}", number % 7), &["ok"])).collect();
    host.publish_all(messages(200)).await;
    host.settled(group, 200, SOON).await;
    let seek = format!("/v1/groups/{group}/seek");
    let to = |to: Value| json!({ "topic": topic, "partition": 0, "to": to, "confirm": group });
    let (status, refused) = host.request(Method::POST, &seek, Some(to(json!(100_000)))).await;
    assert!(status == 422 && refused["detail"].as_str().is_some_and(|why| why.contains("it may be")), "{refused}");
    let unsure = json!({ "topic": topic, "partition": 0, "to": 3, "confirm": "yes" });
    assert_eq!(host.request(Method::POST, &seek, Some(unsure)).await.0, 400);

    let before = by_offset(host, group).await;
    let end = *before.keys().last().expect("partition 0 has records") + 1;
    let load = async {
        for _ in 0..20 {
            host.publish_all(messages(10)).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let backward = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let moved = host.post(&seek, to(json!(5)), 200).await;
        assert_eq!(moved["partitions"][0]["to"], 5, "{moved}");
        assert!(moved["partitions"][0]["from"].as_i64() >= Some(end), "{moved}");
    };
    tokio::join!(load, backward);
    host.settled(group, 400, SOON).await;
    let seen = wait_until("what lies between ran again", SOON, async || {
        let seen = by_offset(host, group).await;
        let again = |one: &Delivery| {
            one.state == State::Handled && (one.offset < 5 || one.offset >= end || one.attempts.len() >= 2)
        };
        match seen.values().find(|one| !again(one)) {
            None => Ok(seen),
            Some(one) => Err(format!("offset {}: {}", one.offset, one.brief())),
        }
    })
    .await;
    for delivery in seen.values() {
        let numbers: Vec<u32> = delivery.attempts.iter().map(|attempt| attempt.number).collect();
        let expected: Vec<u32> = (1..=numbers.len() as u32).collect();
        assert_eq!(numbers, expected, "attempts are appended: {}", delivery.brief());
        assert!(delivery.offset >= 5 || numbers.len() == 1, "what lies before is left alone: {}", delivery.brief());
    }

    // Forward: records that the paused group did not receive are skipped and reported.
    host.post(&format!("/v1/groups/{group}/pause"), json!({}), 200).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    host.publish_all(messages(300)).await;
    let all = json!({ "topic": topic, "to": "latest", "confirm": group });
    let moved = host.post(&seek, all, 200).await;
    let skipped: i64 = moved["partitions"]
        .as_array()
        .expect("the positions")
        .iter()
        .map(|one| one["to"].as_i64().unwrap_or(0) - one["from"].as_i64().unwrap_or(0))
        .sum();
    assert!(skipped > 0, "{moved}");
    host.post(&format!("/v1/groups/{group}/resume"), json!({}), 200).await;
    let mark = host.publish(scripted(topic, "mark", &["ok"])).await.id().to_owned();
    assert_eq!(host.finished(&mark, 1).await.deliveries[0].state, State::Handled);
    wait_until("the group stands at the end", SOON, async || {
        let seen = host.group(group).await;
        if seen.lag() == 0 && seen.open.total() == 0 { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_move_both_ways_under_load_with_sqlite() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "seek", 2).await;
    let group = unique("seek");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    seeks(&[host], &group, &topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_move_both_ways_under_load_with_two_hosts() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "seek", 2).await;
    let group = unique("seek");
    let url = postgres().create_database().expect("a database");
    let binding = scripted_binding(&group, &topic, "");
    let one = Host::builder("host-1").store_url(&url).binding(&binding).start().await;
    let two = Host::builder("host-2").store_url(&url).binding(&binding).start().await;
    one.upload("scripted", guest("scripted")).await;
    wait_until("both hosts own partitions", SOON, async || {
        let seen = one.group(&group).await;
        if seen.nodes() == ["host-1", "host-2"] { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Requested of either host, whoever owns the partition.
    seeks(&[two, one], &group, &topic).await;
}
