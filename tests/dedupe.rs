//! Duplicates of messages at a binding with `dedupe`.

use std::collections::HashMap;
use std::time::Duration;

use courier_core::status::State;
use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::{config, create_topic, produce, producer, read_topic};
use courier_tests::{Host, Store, guest, kafka, scale, scripted, turn, unique};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);

/// Many duplicates of each id, by a producer that does not know Courier, with
/// kills in between. Each message has its effects once: a message that a handler
/// publishes appears once for each id.
async fn doubles(store: Store, keyed: bool) {
    let _turn = turn::heavy().await;
    let topic = create_topic(kafka().bootstrap(), "double", 3).await;
    let out = create_topic(kafka().bootstrap(), "once", 1).await;
    let group = unique("double");
    let policy =
        format!("dedupe = \"10m\"\n[binding.retry]\ninitial = \"100ms\"\n[binding.grant]\npublish = [\"{out}\"]");
    let host = Host::builder("host-1").store(store).binding(&scripted_binding(&group, &topic, &policy)).start().await;
    host.upload("scripted", guest("scripted")).await;
    let (ids, times, kills) = (scale(60, 2_000), 5, scale(3, 20));
    let scripts = [
        json!({ "do": [format!("publish:{out}+ok")] }),
        json!({ "do": [format!("sleep:20ms+publish:{out}+ok")] }),
        // The first attempt fails, and the duplicates wait behind it.
        json!({ "do": [format!("publish:{out}+error"), format!("publish:{out}+ok")] }),
    ];
    let mut chance = StdRng::seed_from_u64(11);
    let mut order: Vec<usize> = (0..ids * times).map(|number| number % ids).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, chance.random_range(0..=at));
    }
    let foreign = producer(&config(kafka().bootstrap()));
    for part in order.chunks(order.len().div_ceil(kills + 1)) {
        for number in part {
            let (id, key) = (format!("id-{number}"), format!("k{number}"));
            let body = scripts[number % scripts.len()].to_string();
            // Without a key, the producer must choose the partition itself.
            let headers = [("ce_id", id.as_str()), ("ce_type", "T")];
            let key = keyed.then_some(key.as_bytes());
            if keyed {
                produce(&foreign, &topic, key, &headers, body.as_bytes()).await;
            } else {
                courier_tests::kafka_client::produce_to(&foreign, &topic, 0, &headers, body.as_bytes()).await;
            }
        }
        host.kill9();
        host.start_again().await;
    }
    let count = ids * times;
    let seen = host.settled(&group, count, SOON).await;
    assert_eq!((seen.handled, seen.failed), (count as u64, 0));
    let mut verdicts: HashMap<String, Vec<String>> = HashMap::new();
    for delivery in host.deliveries(&format!("group={group}")).await {
        assert_eq!(delivery.state, State::Handled, "{}", delivery.brief());
        let verdict = delivery.verdict.clone().unwrap_or_default();
        assert_eq!(delivery.attempts.is_empty(), verdict == "duplicate", "{delivery:?}");
        verdicts.entry(delivery.message_id).or_default().push(verdict);
    }
    assert_eq!(verdicts.len(), ids);
    for (id, verdicts) in &verdicts {
        let successes = verdicts.iter().filter(|verdict| *verdict == "success").count();
        assert_eq!((successes, verdicts.len()), (1, times), "{id} was handled once: {verdicts:?}");
    }
    courier_tests::wait_until("every emission is on Kafka", SOON, async || {
        let found = read_topic(kafka().bootstrap(), &out).await.len();
        if found >= ids { Ok(()) } else { Err(format!("{found} of {ids}")) }
    })
    .await;
    let records = read_topic(kafka().bootstrap(), &out).await;
    // A crash of the relay may produce a record twice, under one id.
    let distinct: std::collections::HashSet<_> = records.iter().map(|record| record.header("ce_id")).collect();
    assert_eq!(distinct.len(), ids, "one emission for each id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_double_has_no_effect_whatever_is_killed_with_sqlite() {
    doubles(Store::Sqlite, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_double_has_no_effect_whatever_is_killed_with_postgres() {
    doubles(Store::Postgres, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_double_without_a_key_has_no_effect_either() {
    doubles(Store::Sqlite, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_asks_for_runs_although_it_was_handled() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "again", 1).await;
    let group = unique("again");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "dedupe = \"10m\"").await;
    let sent = host.publish(scripted(&topic, "k", &["ok"])).await;
    let message = host.finished(sent.id(), 1).await;
    host.post(&format!("/v1/deliveries/{}/retry", message.deliveries[0].id), json!(null), 202).await;
    let twice = courier_tests::wait_until("it has run again", SOON, async || {
        let message = host.message(sent.id()).await;
        let [delivery] = message.deliveries.as_slice() else { return Err(format!("{message:?}")) };
        if delivery.attempts.len() == 2 && delivery.is_final() { Ok(message) } else { Err(format!("{message:?}")) }
    })
    .await;
    assert_eq!(twice.deliveries[0].verdict.as_deref(), Some("success"));
    assert!((host.metric("courier_duplicates_total", &[("group", &group)]).await).abs() < 0.1);
}

/// Issue 16: of records with `ce_id=1` of sources /eu and /us the second was
/// dropped, and so was the second of one id on two topics of a group.
#[tokio::test(flavor = "multi_thread")]
async fn one_id_of_another_source_or_topic_is_no_double() {
    let _turn = turn::shared().await;
    for store in [Store::Sqlite, Store::Postgres] {
        let order = create_topic(kafka().bootstrap(), "order", 1).await;
        let stock = create_topic(kafka().bootstrap(), "stock", 1).await;
        let group = unique("sources");
        let binding = scripted_binding(&group, &order, "dedupe = \"10m\"")
            .replace(&format!("[\"{order}\"]"), &format!("[\"{order}\", \"{stock}\"]"));
        let host = Host::builder("host-1").store(store).binding(&binding).start().await;
        host.upload("scripted", guest("scripted")).await;
        let foreign = producer(&config(kafka().bootstrap()));
        let body = json!({ "do": ["ok"] }).to_string();
        for (topic, source) in [(&order, "/eu"), (&order, "/us"), (&stock, "/eu"), (&order, "/eu")] {
            let headers = [("ce_id", "1"), ("ce_type", "T"), ("ce_source", source)];
            produce(&foreign, topic, Some(b"k"), &headers, body.as_bytes()).await;
        }
        host.settled(&group, 4, SOON).await;
        let mut verdicts: Vec<_> = host
            .deliveries(&format!("group={group}"))
            .await
            .into_iter()
            .map(|delivery| (delivery.topic == order, delivery.offset, delivery.verdict.unwrap_or_default()))
            .collect();
        verdicts.sort();
        let told: Vec<_> = verdicts.iter().map(|(of_order, at, verdict)| (*of_order, *at, verdict.as_str())).collect();
        assert_eq!(told, [(false, 0, "success"), (true, 0, "success"), (true, 1, "success"), (true, 2, "duplicate")]);
        // Each has its topic and source, and its own deliveries.
        let shown = async |query: String| host.get::<serde_json::Value>(&format!("/v1/messages/1{query}")).await;
        let stocked = shown(format!("?topic={stock}")).await;
        assert_eq!((&stocked["source"], stocked["deliveries"].as_array().map(Vec::len)), (&json!("/eu"), Some(1)));
        assert_eq!(stocked["also"], serde_json::Value::Null);
        let us = shown(format!("?topic={order}&source=/us")).await;
        assert_eq!((&us["offset"], us["deliveries"].as_array().map(Vec::len)), (&json!(1), Some(1)), "{us}");
    }
}
