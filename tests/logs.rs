//! What happens in Kafka's logs: offsets without records, open transactions,
//! retention, and topics that are created anew.

use std::time::Duration;

use courier::store::LostRange;
use courier_core::status::State;
use courier_tests::kafka_client::{
    self, commit_records, create_named_topic, create_topic, delete_records, delete_topic, produce, producer,
    transactional,
};
use courier_tests::{Host, Store, kafka, scripted, turn, unique, wait_until};
use rdkafka::producer::{FutureProducer, Producer};
use reqwest::{Method, StatusCode};
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);
/// How soon a partition that is held back is reported.
const TOLD: Duration = Duration::from_secs(60);
const BODY: &[u8] = br#"{"do": ["ok"]}"#;

async fn no_lag(host: &Host, group: &str, position: i64) {
    wait_until("the lag is none", SOON, async || {
        let seen = host.group(group).await;
        let at = seen.partitions.iter().map(|partition| partition.position.unwrap_or(0)).sum::<i64>();
        if seen.lag() == 0 && at == position { Ok(()) } else { Err(format!("{:?}", seen.partitions)) }
    })
    .await;
}

async fn lost_ranges(host: &Host, group: &str) -> Vec<LostRange> {
    let store = courier::store::open(&host.store_url()).await.expect("the host's store can be opened beside it");
    let all = store.lost_ranges(&courier::store::LostRangeFilter::default(), 1_000).await.expect("the store answers");
    all.into_iter().filter(|range| range.group == group).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_of_transactions_at_the_end_are_no_lag() {
    let _turn = turn::shared().await;
    for store in [Store::Sqlite, Store::Postgres] {
        // Two topics with the same partition number: the client does not say which of
        // them has reached its end.
        let topics =
            [create_topic(kafka().bootstrap(), "marks", 1).await, create_topic(kafka().bootstrap(), "marks", 1).await];
        let group = unique("marks");
        let binding =
            format!("group = \"{group}\"\ntopics = [\"{}\", \"{}\"]\nplugin = \"scripted\"", topics[0], topics[1]);
        let host = Host::builder("host-1").store(store).binding(&binding).start().await;
        host.upload("scripted", courier_tests::guest("scripted")).await;
        let client = transactional(kafka().bootstrap(), Duration::from_secs(60));
        commit_records(&client, &topics[0], 2, BODY).await;
        host.settled(&group, 2, SOON).await;
        no_lag(&host, &group, 3).await;

        // Aborted records are never seen, and nothing waits for their offsets.
        client.begin_transaction().unwrap();
        produce(&client, &topics[0], Some(b"k"), &[], br#"{"do": ["reject"]}"#).await;
        tokio::task::block_in_place(|| client.abort_transaction(SOON)).unwrap();
        no_lag(&host, &group, 5).await;
        commit_records(&client, &topics[1], 1, BODY).await;
        no_lag(&host, &group, 7).await;
        assert_eq!((host.group(&group).await.handled, host.group(&group).await.failed), (3, 0));

        // The position is durable, and the next record is found behind it.
        assert!(host.sigterm(Duration::from_secs(15)).await.success());
        host.start_again().await;
        no_lag(&host, &group, 7).await;
        produce(&producer(&kafka_client::config(kafka().bootstrap())), &topics[0], Some(b"k"), &[], BODY).await;
        host.settled(&group, 4, SOON).await;
        no_lag(&host, &group, 8).await;
    }
}

async fn stalled(host: &Host, topic: &str) -> bool {
    let (status, body) = host.request(Method::GET, "/readyz", None).await;
    assert_eq!(status, StatusCode::OK, "a transaction of somebody else's is no reason to send nobody here: {body}");
    body["degraded"].as_array().is_some_and(|parts| parts.contains(&json!(format!("partition {topic}:0"))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_stays_open_is_told_and_its_end_lets_all_go_on() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "hung", 1).await;
    let group = unique("hung");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    host.finished(host.publish(scripted(&topic, "k", &["ok"])).await.id(), 1).await;
    let hung: FutureProducer = transactional(kafka().bootstrap(), Duration::from_secs(300));
    hung.begin_transaction().unwrap();
    produce(&hung, &topic, Some(b"k"), &[], BODY).await;
    // Other producers append records behind the open transaction.
    let behind = host.publish(scripted(&topic, "k", &["ok"])).await.id().to_owned();
    wait_until("/readyz names the partition", TOLD, async || {
        if stalled(&host, &topic).await { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    assert!(host.metric("courier_stalled_partitions", &[]).await > 0.5);
    assert!(host.log().contains("holds the partition back"), "the log says so too");
    assert_eq!(host.group(&group).await.handled, 1, "nothing passes an open transaction");

    tokio::task::block_in_place(|| hung.commit_transaction(SOON)).unwrap();
    host.settled(&group, 3, SOON).await;
    assert_eq!(host.message(&behind).await.deliveries[0].state, State::Handled);
    wait_until("/readyz names it no longer", SOON, async || {
        if stalled(&host, &topic).await { Err("it does".to_owned()) } else { Ok(()) }
    })
    .await;
    no_lag(&host, &group, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_from_a_paused_group_is_a_lost_range() {
    let _turn = turn::shared().await;
    for store in [Store::Sqlite, Store::Postgres] {
        let topic = create_topic(kafka().bootstrap(), "retention", 1).await;
        let group = unique("retention");
        let host = Host::scripted("host-1", store, &group, &topic, "").await;
        host.finished(host.publish(scripted(&topic, "k", &["ok"])).await.id(), 1).await;
        host.post(&format!("/v1/groups/{group}/pause"), json!({}), 200).await;
        let messages = (0..20).map(|number| scripted(&topic, &format!("k{number}"), &["ok"])).collect();
        host.publish_all(messages).await;
        // As retention does, without waiting for it.
        delete_records(kafka().bootstrap(), &topic, 0, 15).await;
        host.post(&format!("/v1/groups/{group}/resume"), json!({}), 200).await;
        let seen = wait_until("what is left is handled", SOON, async || {
            let seen = host.group(&group).await;
            let at = seen.partitions.first().and_then(|partition| partition.position);
            if at == Some(21) && seen.lag() == 0 { Ok(seen) } else { Err(format!("{seen:?}")) }
        })
        .await;
        let lost = lost_ranges(&host, &group).await;
        // Records that the client had fetched already are handled, not lost.
        let gone: i64 = lost.iter().map(|range| range.to.0 - range.from.0).sum();
        assert_eq!(seen.handled + u64::try_from(gone).unwrap(), 21, "each is handled or told lost: {lost:?}");
        assert!(lost.iter().all(|range| range.to.0 <= 15 && range.why.contains("retention")), "{lost:?}");

        // A group that was away, not paused: nothing is fetched ahead.
        assert!(host.sigterm(Duration::from_secs(15)).await.success());
        let client = producer(&kafka_client::config(kafka().bootstrap()));
        for _ in 0..10 {
            produce(&client, &topic, None, &[], BODY).await;
        }
        delete_records(kafka().bootstrap(), &topic, 0, 28).await;
        host.start_again().await;
        no_lag(&host, &group, 31).await;
        let lost = lost_ranges(&host, &group).await;
        assert!(lost.iter().any(|range| (range.from.0, range.to.0) == (21, 28)), "{lost:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_created_anew_begins_a_new_incarnation() {
    let _turn = turn::shared().await;
    for store in [Store::Sqlite, Store::Postgres] {
        let topic = create_topic(kafka().bootstrap(), "anew", 1).await;
        let group = unique("anew");
        let host = Host::scripted("host-1", store, &group, &topic, "").await;
        for _ in 0..5 {
            host.finished(host.publish(scripted(&topic, "k", &["ok"])).await.id(), 1).await;
        }
        delete_topic(kafka().bootstrap(), &topic).await;
        create_named_topic(kafka().bootstrap(), &topic, 1, &[]).await;
        let client = producer(&kafka_client::config(kafka().bootstrap()));
        // As many records as before: the offsets alone would not show the change.
        for _ in 0..5 {
            produce(&client, &topic, Some(b"k"), &[], BODY).await;
        }
        wait_until("the new topic's records are handled", SOON + SOON, async || {
            let seen = host.group(&group).await;
            if seen.handled == 10 { Ok(()) } else { Err(format!("{seen:?}\n{}", host.log_tail())) }
        })
        .await;
        no_lag(&host, &group, 5).await;
        assert_eq!(host.deliveries(&format!("group={group}")).await.len(), 10, "both incarnations are told apart");
        let lost = lost_ranges(&host, &group).await;
        assert!(lost.iter().any(|range| range.why.contains("anew")), "{lost:?}");
    }
}
