//! A group that behaves badly costs the others no more than their share.

use std::time::Duration;

use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::create_topic;
use courier_tests::{Delivery, Host, guest, kafka, scale, scripted, turn, unique};
use serde_json::Value;

/// Beside the ratio: what a busy test machine adds by itself.
const NOISE_MS: i64 = 15;

fn p99_ms(deliveries: &[Delivery]) -> i64 {
    let mut times: Vec<i64> = deliveries
        .iter()
        .map(|delivery| {
            let (from, to) = (delivery.received_at.unwrap(), delivery.settled_at.unwrap());
            i64::try_from(to.duration_since(from).as_millis()).unwrap()
        })
        .collect();
    times.sort_unstable();
    assert!(!times.is_empty(), "nothing was measured");
    times[times.len() * 99 / 100]
}

/// Publishes at a steady pace and returns what became of the messages.
async fn steady(host: &Host, group: &str, topic: &str, label: &str, seconds: u64) -> Vec<Delivery> {
    let before = host.deliveries(&format!("group={group}")).await.len();
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    let beats = seconds * 20;
    for beat in 0..beats {
        pace.tick().await;
        let batch: Vec<Value> =
            (0..5).map(|number| scripted(topic, &format!("{label}-{beat}-{number}"), &["ok"])).collect();
        host.publish_all(batch).await;
    }
    let all = before + usize::try_from(beats).unwrap() * 5;
    host.settled(group, all, Duration::from_secs(60)).await;
    let deliveries = host.deliveries(&format!("group={group}")).await;
    deliveries.into_iter().filter(|one| one.key.as_deref().is_some_and(|key| key.starts_with(label))).collect()
}

/// One group at a moderate load beside one that spins, bombs and floods.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_group_does_not_slow_another_down() {
    let _turn = turn::alone().await;
    let good_topic = create_topic(kafka().bootstrap(), "good", 4).await;
    let bad_topic = create_topic(kafka().bootstrap(), "bad", 4).await;
    let (good, bad) = (unique("good"), unique("bad"));
    let host = Host::builder("host-1")
        .binding(&scripted_binding(&good, &good_topic, ""))
        .binding(&scripted_binding(&bad, &bad_topic, "cpu = \"500ms\"\nmemory = \"16MiB\""))
        .start()
        .await;
    host.upload("scripted", guest("scripted")).await;
    let seconds = scale(8, 60);
    steady(&host, &good, &good_topic, "warm", 2).await;
    let alone = p99_ms(&steady(&host, &good, &good_topic, "alone", seconds).await);
    let hostile: Vec<Value> = (0..2_000)
        .map(|number| {
            let word = ["spin", "alloc", "stack", "log:1MiB", "trap"][number % 5];
            scripted(&bad_topic, &format!("k{number}"), &[word])
        })
        .collect();
    for batch in hostile.chunks(500) {
        host.publish_all(batch.to_vec()).await;
    }
    let beside = p99_ms(&steady(&host, &good, &good_topic, "beside", seconds).await);
    println!("p99 alone {alone} ms, beside a hostile group {beside} ms");
    assert!(beside <= alone * 3 / 2 + NOISE_MS, "p99 went from {alone} ms to {beside} ms");
    assert!(host.exited().is_none(), "a guest ended the host");
}

/// Two groups that both want all of the machine get about half of it each.
#[tokio::test(flavor = "multi_thread")]
async fn saturated_groups_get_equal_shares() {
    let _turn = turn::alone().await;
    let mut host = Host::builder("host-1");
    let mut groups = Vec::new();
    // The same work in units of different size: a share is one of processor
    // time, not of messages.
    for (name, cpu_ms) in [("small", 10_u64), ("large", 100)] {
        let topic = create_topic(kafka().bootstrap(), name, 4).await;
        let group = unique(name);
        host = host.binding(&scripted_binding(&group, &topic, &format!("concurrency = 16\ncpu = \"{cpu_ms}ms\"")));
        groups.push((group, topic, cpu_ms));
    }
    let host = host.start().await;
    let seconds = scale(10_u64, 60);
    for (_, topic, cpu_ms) in &groups {
        // More than all processors could do in the time.
        let count = usize::try_from(seconds * 1_000 * 8 / cpu_ms).unwrap();
        let messages: Vec<Value> = (0..count).map(|number| scripted(topic, &format!("k{number}"), &["spin"])).collect();
        for batch in messages.chunks(500) {
            host.publish_all(batch.to_vec()).await;
        }
    }
    // Both begin at once.
    host.upload("scripted", guest("scripted")).await;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let mut used = Vec::new();
    for (group, _, cpu_ms) in &groups {
        used.push(host.group(group).await.failed * cpu_ms);
    }
    println!("processor time in ms: {used:?}");
    let share = used.iter().sum::<u64>() as f64 / used.len() as f64;
    for (used, (group, ..)) in used.iter().zip(&groups) {
        assert!(*used as f64 >= 0.8 * share, "{group} got {used} ms of an equal share of {share:.0} ms");
    }
}
