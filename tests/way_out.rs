//! What the host owes Kafka arrives, or is kept where people see it, whatever
//! becomes of the topics.

use std::time::Duration;

use courier_core::status::State;
use courier_tests::kafka_client::{create_named_topic, create_topic, delete_topic, read_topic};
use courier_tests::{Host, Store, guest, kafka, scale, scripted, scripted_binding, turn, unique, wait_until};
use reqwest::Method;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

async fn items(host: &Host, path: &str) -> Vec<Value> {
    let (status, page) = host.request(Method::GET, path, None).await;
    assert_eq!(status, 200, "{page}");
    page["items"].as_array().unwrap_or_else(|| panic!("{page}")).clone()
}

async fn undelivered(host: &Host, topic: &str) -> Vec<Value> {
    items(host, &format!("/v1/undelivered?topic={topic}")).await
}

/// The dead letters of a group, counted by their fate.
async fn fates(host: &Host, group: &str) -> (usize, usize, usize) {
    let letters = items(host, &format!("/v1/dead-letters?group={group}&limit=1000")).await;
    let count = |fate: &str| letters.iter().filter(|letter| letter["fate"] == fate).count();
    (count("sent"), count("waiting"), count("undelivered"))
}

async fn attention(host: &Host, kind: &str, subject: &str) -> Option<Value> {
    let (_, overview) = host.request(Method::GET, "/v1/overview", None).await;
    let mut found = overview["attention"].as_array().into_iter().flatten();
    found.find(|one| one["subject"] == subject && one["kind"] == kind).cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_for_a_topic_that_does_not_exist_yet_all_wait_and_arrive() {
    let _turn = turn::shared().await;
    let broker = kafka();
    let topic = create_topic(broker.bootstrap(), "letters", 2).await;
    let group = unique("letters");
    let host = Host::builder("host-1")
        .store(Store::Sqlite)
        .binding(&scripted_binding(&group, &topic, "dead_letter = true"))
        .start()
        .await;
    host.upload("scripted", guest("scripted")).await;
    let messages = (0..40).map(|number| scripted(&topic, &number.to_string(), &["reject"])).collect();
    host.publish_all(messages).await;
    host.settled(&group, 40, SOON).await;
    let letters = format!("dlq.{topic}.{group}");
    let told = wait_until("the missing topic is told", SOON, async || {
        attention(&host, "stopped", &letters).await.ok_or_else(|| "not yet".to_owned())
    })
    .await;
    assert_eq!(told["cause"]["code"], "topic_missing", "{told}");
    assert_eq!(fates(&host, &group).await, (0, 40, 0));
    create_named_topic(broker.bootstrap(), &letters, 3, &[]).await;
    wait_until("all letters are sent", SOON, async || match fates(&host, &group).await {
        (40, 0, 0) => Ok(()),
        fates => Err(format!("{fates:?}")),
    })
    .await;
    assert_eq!(read_topic(broker.bootstrap(), &letters).await.len(), 40);
    wait_until("the cause is gone", SOON, async || match attention(&host, "stopped", &letters).await {
        None => Ok(()),
        Some(told) => Err(told.to_string()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emission_that_is_too_large_for_its_topic_is_kept_and_sent_again_by_a_person() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "large", 1).await;
    let small = unique("small");
    create_named_topic(kafka().bootstrap(), &small, 1, &[("max.message.bytes", "2000")]).await;
    let group = unique("large");
    let grant = format!("[binding.grant]\npublish = [\"{small}\"]");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, &grant).await;
    let body = json!({ "do": [format!("publish:{small}+ok")], "filling": "x".repeat(5_000) });
    let large = json!({ "topic": topic, "type": "Scripted", "key": "k", "source": "tests", "body": body });
    host.publish(large).await;
    host.publish(scripted(&topic, "k", &[&format!("publish:{small}+ok")])).await;
    let kept = wait_until("the large one is undelivered", SOON, async || {
        undelivered(&host, &small).await.pop().ok_or_else(|| "nothing is".to_owned())
    })
    .await;
    assert_eq!((&kept["group"], &kept["key"]), (&json!(group), &json!("k")), "{kept}");
    // It holds back neither its key nor its topic.
    wait_until("the small one arrived", SOON, async || match read_topic(kafka().bootstrap(), &small).await.len() {
        1 => Ok(()),
        count => Err(format!("{count} records")),
    })
    .await;
    let id = kept["id"].as_str().unwrap();
    let (_, whole) = host.request(Method::GET, &format!("/v1/undelivered/{id}"), None).await;
    assert_eq!(whole["body"]["filling"].as_str().map(str::len), Some(5_000), "the whole content is kept");
    assert!(attention(&host, "undelivered", &small).await.is_some(), "attention names the topic");
    wait_until("the metric counts it", SOON, async || {
        match host.metric("courier_undelivered", &[("topic", &small)]).await {
            1.0 => Ok(()),
            count => Err(count.to_string()),
        }
    })
    .await;
    let repaired =
        host.post(&format!("/v1/undelivered/{id}/repair"), json!({ "body": { "filling": "short" } }), 202).await;
    assert_eq!(repaired["retrying"], true);
    wait_until("the repaired one arrived", SOON, async || {
        let records = read_topic(kafka().bootstrap(), &small).await;
        let found = records.iter().any(|record| record.json() == json!({ "filling": "short" }));
        if found { Ok(()) } else { Err(format!("{} records", records.len())) }
    })
    .await;
    assert!(undelivered(&host, &small).await.is_empty());
    let (_, audit) = host.request(Method::GET, "/v1/audit", None).await;
    assert!(audit.to_string().contains("repair undelivered"), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_for_a_topic_made_anew_with_fewer_partitions_choose_again() {
    let _turn = turn::shared().await;
    let broker = kafka();
    let source = create_topic(broker.bootstrap(), "source", 1).await;
    let (target, group) = (unique("target"), unique("anew"));
    create_named_topic(broker.bootstrap(), &target, 5, &[]).await;
    let host = Host::builder("host-1")
        .store(Store::Sqlite)
        .binding(&scripted_binding(&group, &source, &format!("[binding.grant]\npublish = [\"{target}\"]")))
        .start()
        .await;
    host.upload("scripted", guest("scripted")).await;
    let send = |from: usize| {
        let words = format!("publish:{target}+ok");
        (from..from + 10).map(|number| scripted(&source, &number.to_string(), &[&words])).collect()
    };
    host.publish_all(send(0)).await;
    wait_until("the first arrived", SOON, async || match read_topic(broker.bootstrap(), &target).await.len() {
        10 => Ok(()),
        count => Err(format!("{count} records")),
    })
    .await;
    delete_topic(broker.bootstrap(), &target).await;
    host.publish_all(send(10)).await;
    host.settled(&group, 20, SOON).await;
    create_named_topic(broker.bootstrap(), &target, 1, &[]).await;
    wait_until("the others arrived in the new topic", SOON, async || {
        match read_topic(broker.bootstrap(), &target).await.len() {
            count if count >= 10 => Ok(()),
            count => Err(format!("{count} records; undelivered {:?}", undelivered(&host, &target).await)),
        }
    })
    .await;
    assert!(undelivered(&host, &target).await.is_empty());
}

/// The first messages of a fresh topic were COMMITTED at offset -1001 and were
/// nowhere in the log.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_messages_of_fresh_topics_are_all_there_and_in_order() {
    let _turn = turn::shared().await;
    let host = Host::builder("host-1").store(Store::Sqlite).start().await;
    for round in 0..scale(15, 200) {
        let topic = create_topic(kafka().bootstrap(), "fresh", 3).await;
        // Half of the rounds name their ids: these have their rows first.
        let message = |number: usize| {
            let body = json!({ "number": number });
            let key = format!("k{}", number % 5);
            let mut message = json!({ "topic": topic, "type": "First", "key": key, "source": "tests", "body": body });
            if round % 2 == 1 {
                message["id"] = json!(format!("{topic}-{number}"));
            }
            message
        };
        let sent = host.publish_all((0..40).map(message).collect()).await;
        wait_until("all are on Kafka", SOON, async || {
            for one in &sent {
                let message = host.message(one.id()).await;
                if message.state != State::Committed {
                    return Err(format!("{message:?}"));
                }
                assert!(message.offset.is_some_and(|offset| offset >= 0), "{message:?}");
            }
            Ok(())
        })
        .await;
        let records = read_topic(kafka().bootstrap(), &topic).await;
        assert_eq!(records.len(), 40, "round {round} of {topic}");
        for key in 0..5 {
            let key = format!("k{key}");
            let of_key = records.iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
            let numbers: Vec<u64> = of_key.filter_map(|record| record.json()["number"].as_u64()).collect();
            assert!(numbers.is_sorted(), "round {round}: key {key} lies as {numbers:?}");
        }
    }
}
