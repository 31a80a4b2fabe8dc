//! One message from its sender to HANDLED, by every way of sending.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use courier_core::status::State;
use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::{self, create_topic, kcat, produce, producer, read_topic};
use courier_tests::ledger::{Ledger, Mixture};
use courier_tests::{Host, Store, encode, guest, kafka, scale, scripted, turn, unique, wait_until};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

async fn http_to_handled(store: Store) {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "journey", 3).await;
    let group = unique("stock");
    let host = Host::builder("host-1").store(store).binding(&scripted_binding(&group, &topic, "")).start().await;
    let version = host.upload("scripted", guest("scripted")).await;
    assert!(version.starts_with("sha256:") && version.len() == 71, "{version}");

    let before = Timestamp::now();
    let accepted = host.publish(scripted(&topic, "order-1", &["log:1KiB+sleep:20ms+ok"])).await;
    assert!(accepted.is_taken(), "{accepted:?}");
    let message = host.finished(accepted.id(), 1).await;
    assert_eq!((message.state, message.retrying.unwrap_or(false)), (State::Committed, false));
    assert_eq!((message.topic.as_str(), message.kind.as_str()), (topic.as_str(), "event"));
    assert_eq!(message.key.as_deref(), Some("order-1"));
    assert_eq!(message.source.as_deref(), Some("tests"));
    assert_eq!(message.kind_of_event.as_deref(), Some("Scripted"));
    assert_eq!(message.body, Some(json!({ "do": ["log:1KiB+sleep:20ms+ok"] })));
    assert!(message.partition.is_some() && message.offset.is_some(), "{message:?}");

    let [delivery] = message.deliveries.as_slice() else { panic!("one delivery: {message:?}") };
    assert_eq!((delivery.state, delivery.group.as_str()), (State::Handled, group.as_str()));
    assert_eq!((Some(delivery.partition), Some(delivery.offset)), (message.partition, message.offset));
    assert_eq!(delivery.key.as_deref(), Some("order-1"));
    assert_eq!(delivery.node.as_deref(), Some("host-1"));
    assert!(delivery.received_at.unwrap() >= before && delivery.settled_at.unwrap() >= delivery.received_at.unwrap());
    let [attempt] = delivery.attempts.as_slice() else { panic!("one attempt: {delivery:?}") };
    assert_eq!((attempt.number, attempt.counted, attempt.verdict.as_str()), (1, true, "success"));
    assert_eq!(attempt.version.as_deref(), Some(version.as_str()));
    assert_eq!(attempt.node.as_deref(), Some("host-1"));
    assert!(attempt.finished_at.duration_since(attempt.started_at).as_millis() >= 20, "{attempt:?}");

    let [listed] = &host.deliveries(&format!("group={group}")).await[..] else { panic!("one delivery is listed") };
    assert_eq!((listed.id.as_str(), listed.state), (delivery.id.as_str(), State::Handled));
    let of_key = host.deliveries(&format!("group={group}&key=order-1&state=HANDLED")).await;
    assert_eq!(of_key.len(), 1);
    assert!(host.deliveries(&format!("group={group}&state=HANDLE_FAIL")).await.is_empty());
    let seen = host.settled(&group, 1, SOON).await;
    assert_eq!((seen.handled, seen.failed, seen.paused), (1, 0, false));
    assert_eq!(seen.nodes(), ["host-1"]);
    assert!(
        (host.metric("courier_deliveries_total", &[("group", &group), ("state", "HANDLED")]).await - 1.0).abs() < 0.1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_sent_by_http_is_handled() {
    http_to_handled(Store::of_this_pass()).await;
}

/// Programs outside this project rely on these fields being present, null or not.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_shapes_have_every_field() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "shapes", 1).await;
    let group = unique("shapes");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    let id = host.publish(scripted(&topic, "k", &["error"])).await.id().to_owned();
    host.finished(&id, 1).await;
    let (_, message) = host.request(Method::GET, &format!("/v1/messages/{}", encode(&id)), None).await;
    let (_, list) = host.request(Method::GET, &format!("/v1/deliveries?group={group}"), None).await;
    let (_, groups) = host.request(Method::GET, "/v1/groups", None).await;
    let expect = |what: &str, value: &Value, names: &str| {
        for name in names.split(' ') {
            assert!(value.get(name).is_some(), "{what} has no `{name}`: {value}");
        }
    };
    expect("a list", &list, "items next truncated");
    expect(
        "a message",
        &message,
        "id key source topic type kind time state reason retrying partition offset headers body deliver_at deliveries",
    );
    let delivery = "id message_id group topic partition offset key type state verdict reason fingerprint node \
                    received_at settled_at next_attempt_at attempts";
    expect("a delivery of a message", &message["deliveries"][0], delivery);
    expect("a listed delivery", &list["items"][0], delivery);
    let attempt = "number counted version node started_at finished_at verdict reason fingerprint log";
    expect("an attempt", &message["deliveries"][0]["attempts"][0], attempt);
    expect("a group", &groups["items"][0], "group paused why bindings partitions open handled failed");
    expect("a partition", &groups["items"][0]["partitions"][0], "topic partition position end lag node");
    expect("open", &groups["items"][0]["open"], "waiting push_fail retrying held");
    let time = message["time"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.rsplit('.').next().is_some_and(|part| part.len() == 7), "microseconds: {time}");
    let (_, openapi) = host.request(Method::GET, "/openapi.json", None).await;
    assert!(openapi["paths"]["/v1/messages"].is_object(), "openapi.json does not describe /v1/messages");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_foreign_producers_are_handled() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "foreign", 1).await;
    let group = unique("foreign");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    kcat(kafka().bootstrap(), &topic, "by-kcat", r#"{"do": ["ok"]}"#);
    let client = producer(&kafka_client::config(kafka().bootstrap()));
    // Bytes that are no text anywhere, and no key: the record has its own lane.
    produce(&client, &topic, Some(b"\xff\x00"), &[("x", "y")], b"\xfe\x00 no json").await;
    produce(&client, &topic, None, &[], b"").await;
    let events = [("ce_specversion", "1.0"), ("ce_id", "event-7"), ("ce_type", "Made"), ("ce_source", "factory")];
    produce(&client, &topic, Some(b"k"), &events, br#"{"do": ["ok"]}"#).await;
    host.settled(&group, 4, SOON).await;

    let by_kcat = host.message(&format!("{topic}:0:0")).await;
    assert_eq!(by_kcat.deliveries[0].state, State::Handled);
    assert_eq!(by_kcat.key.as_deref(), Some("by-kcat"));
    let binary = host.message(&format!("{topic}:0:1")).await;
    assert_eq!(binary.body_base64.as_deref(), Some(BASE64.encode(b"\xfe\x00 no json").as_str()));
    assert_eq!(binary.deliveries[0].key_base64.as_deref(), Some(BASE64.encode(b"\xff\x00").as_str()));
    let event = host.message("event-7").await;
    assert_eq!((event.kind_of_event.as_deref(), event.source.as_deref()), (Some("Made"), Some("factory")));
    assert_eq!(event.deliveries[0].state, State::Handled);
}

#[tokio::test(flavor = "multi_thread")]
async fn cloudevents_are_taken_in_all_three_forms() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "events", 1).await;
    let group = unique("events");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    let event = |id: &str| {
        json!({ "specversion": "1.0", "id": id, "type": "Made", "source": "factory", "topic": topic,
                "partitionkey": "k", "datacontenttype": "application/json", "data": { "do": ["ok"] } })
    };
    let ids: Vec<String> = (0..4).map(|_| unique("event")).collect();
    let structured = ("content-type", "application/cloudevents+json");
    let (status, answer) =
        host.send(Method::POST, "/v1/messages", &[structured], event(&ids[0]).to_string().into_bytes()).await;
    assert_eq!(status, 202, "structured: {answer}");
    let batch = ("content-type", "application/cloudevents-batch+json");
    let both = json!([event(&ids[1]), event(&ids[2])]).to_string().into_bytes();
    let (status, answer) = host.send(Method::POST, "/v1/messages", &[batch], both).await;
    assert_eq!(status, 202, "batch: {answer}");
    let headers = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", &ids[3]),
        ("ce-type", "Made"),
        ("ce-source", "factory"),
        ("ce-partitionkey", "k"),
        ("ce-topic", &topic),
    ];
    let (status, answer) = host.send(Method::POST, "/v1/messages", &headers, br#"{"do": ["ok"]}"#.to_vec()).await;
    assert_eq!(status, 202, "binary: {answer}");
    for id in &ids {
        let message = host.finished(id, 1).await;
        assert_eq!(
            (message.kind_of_event.as_deref(), message.key.as_deref()),
            (Some("Made"), Some("k")),
            "{message:?}"
        );
        assert_eq!(message.deliveries[0].state, State::Handled);
    }
    // Any CloudEvents consumer reads the records that Courier writes.
    let records = read_topic(kafka().bootstrap(), &topic).await;
    assert!(records.iter().all(|record| record.header("ce_type").as_deref() == Some("Made")), "{records:?}");
    assert!(records.iter().all(|record| record.json() == json!({ "do": ["ok"] })), "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_refused_with_the_reason() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "refused", 1).await;
    let host = Host::scripted("host-1", Store::Sqlite, &unique("refused"), &topic, "").await;
    for (message, about) in [
        (json!({ "type": "T", "body": {} }), "topic"),
        (json!({ "topic": topic, "body": {} }), "type"),
        (json!({ "topic": "no such/topic", "type": "T", "body": {} }), "topic"),
        (json!({ "topic": topic, "type": "T", "body": {}, "body_base64": "AA==" }), "body"),
        (json!({ "topic": topic, "type": "T", "body_base64": "***" }), "body_base64"),
        (json!({ "topic": topic, "type": "T", "body": {}, "kind": "rumour" }), "kind"),
        (json!({ "topic": topic, "type": "T", "body": {}, "banana": 1 }), "banana"),
    ] {
        let (status, answer) = host.request(Method::POST, "/v1/messages", Some(message.clone())).await;
        assert!(status.is_client_error(), "{message} was answered {status}: {answer}");
        assert!(answer.to_string().contains(about), "the answer to {message} does not name {about}: {answer}");
        assert!(
            answer["title"].is_string() && answer["status"] == json!(status.as_u16()),
            "no problem details: {answer}"
        );
    }
    let long = json!({ "topic": topic, "type": "T", "body": "x".repeat(20 << 20) });
    let (status, answer) = host.request(Method::POST, "/v1/messages", Some(long)).await;
    assert!(status.is_client_error(), "20 MiB were answered {status}: {answer}");

    let some =
        vec![scripted(&topic, "k", &["ok"]), json!({ "topic": topic, "type": "T", "kind": "rumour", "body": 1 })];
    let items = host.publish_all(some).await;
    assert_eq!(items[1].state, State::SendFail);
    assert!(items[0].is_taken() && items[0].problem.is_none() && items[1].problem.is_some(), "{items:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_is_sent_once() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "same", 1).await;
    let host = Host::scripted("host-1", Store::Sqlite, &unique("same"), &topic, "").await;
    let mut message = scripted(&topic, "k", &["ok"]);
    message["id"] = json!(unique("order"));
    let (first, again) = (host.publish(message.clone()).await, host.publish(message.clone()).await);
    assert!(first.is_taken() && again.is_taken() && first.id() == again.id(), "{first:?} and {again:?}");
    host.finished(first.id(), 1).await;
    message["body"] = json!({ "do": ["reject"] });
    let (status, answer) = host.request(Method::POST, "/v1/messages", Some(message)).await;
    assert_eq!(status, 409, "{answer}");
    assert_eq!(read_topic(kafka().bootstrap(), &topic).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cli_sends_and_shows_the_same() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "cli", 1).await;
    let group = unique("cli");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    let run = |arguments: &[&str]| -> Value {
        let (status, output, errors) = host.cli(arguments);
        assert!(status.success(), "courier {arguments:?} ended with {status}: {errors}");
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("courier {arguments:?}: {error} in {output}"))
    };
    let url = ["--server", host.address(), "--output", "json"];
    let body = r#"{"do": ["log:1KiB+ok"]}"#;
    let publish = ["publish", &topic, "--type", "Scripted", "--key", "k", "--body", body];
    let sent = run(&[&publish[..], &url].concat());
    let id = sent["id"].as_str().unwrap_or_else(|| panic!("no id in {sent}")).to_owned();
    host.finished(&id, 1).await;
    let shown = run(&[&["messages", "show", &id][..], &url].concat());
    let (_, answered) = host.request(Method::GET, &format!("/v1/messages/{}", encode(&id)), None).await;
    assert_eq!(shown, answered);
    let listed = run(&[&["deliveries", "list", "--group", &group][..], &url].concat());
    let (_, answered) = host.request(Method::GET, &format!("/v1/deliveries?group={group}"), None).await;
    assert_eq!(listed["items"], answered["items"]);
    let groups = run(&[&["groups", "list"][..], &url].concat());
    assert_eq!(groups["items"][0]["group"], json!(group));
}

/// The samples that a user copies, bound as their manuals say.
#[tokio::test(flavor = "multi_thread")]
async fn the_sample_plugins_work_together() {
    let _turn = turn::shared().await;
    let order = create_topic(kafka().bootstrap(), "order", 2).await;
    // The sample publishes to the topic its event names.
    kafka_client::create_named_topic(kafka().bootstrap(), "stock", 1, &[]).await;
    let [noted, validated, reserved] = ["noted", "validated", "reserved"].map(unique);
    let bound = |group: &str, plugin: &str, more: &str| {
        format!(
            "group = \"{group}\"\ntopics = [\"{order}\"]\ntypes = [\"OrderCreated\"]\nplugin = \"{plugin}\"\n{more}"
        )
    };
    let host = Host::builder("host-1")
        .binding(&bound(&noted, "order-handler", ""))
        .binding(&bound(&validated, "order-validator", "[binding.config]\nmax_quantity = \"10\""))
        .binding(&bound(&reserved, "stock-reserver", "[binding.grant]\npublish = [\"stock\"]"))
        .start()
        .await;
    for plugin in ["order-handler", "order-validator", "stock-reserver"] {
        host.upload(plugin, guest(plugin)).await;
    }
    let place = |id: &str, quantity: u32| {
        let body = json!({ "order_id": id, "order_name": "tea", "quantity": quantity });
        json!({ "topic": order, "type": "OrderCreated", "key": id, "body": body })
    };
    let (good, large) = (unique("good"), unique("large"));
    let good_id = host.publish(place(&good, 2)).await.id().to_owned();
    let large_id = host.publish(place(&large, 11)).await.id().to_owned();
    let state_of = |message: &courier_tests::Message, group: &str| {
        let delivery = message.deliveries.iter().find(|delivery| delivery.group == group);
        delivery.unwrap_or_else(|| panic!("no delivery for {group}: {message:?}")).clone()
    };
    let message = host.finished(&good_id, 3).await;
    for group in [&noted, &validated, &reserved] {
        assert_eq!(state_of(&message, group).state, State::Handled);
    }
    let rejected = state_of(&host.finished(&large_id, 3).await, &validated);
    assert_eq!((rejected.state, rejected.verdict.as_deref()), (State::HandleFail, Some("reject")));
    assert_eq!(rejected.reason.as_deref(), Some("quantity is 11, must be at most 10"));
    let follow_up = wait_until("the stock is reserved on the topic", SOON, async || {
        let records = read_topic(kafka().bootstrap(), "stock").await;
        records
            .into_iter()
            .find(|record| record.json()["order_id"] == json!(good))
            .ok_or_else(|| "not there".to_owned())
    })
    .await;
    assert_eq!(follow_up.header("ce_type").as_deref(), Some("StockReserved"));
    assert_eq!(follow_up.key.as_deref(), Some(good.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_group_waits_and_resumes() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "paused", 1).await;
    let group = unique("paused");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "").await;
    host.finished(host.publish(scripted(&topic, "k", &["ok"])).await.id(), 1).await;
    let (status, answer) = host.request(Method::POST, &format!("/v1/groups/{group}/pause"), None).await;
    assert!(status.is_success(), "{answer}");
    wait_until("the group is paused", SOON, async || {
        let (_, seen) = host.request(Method::GET, &format!("/v1/groups/{group}"), None).await;
        if seen["bindings"][0]["blocked"] == "paused" { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
    let id = host.publish(scripted(&topic, "k", &["ok"])).await.id().to_owned();
    wait_until("the group says why its message waits", SOON, async || {
        let seen = host.group(&group).await;
        if seen.paused && seen.why.is_some() { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(host.group(&group).await.handled, 1);
    let (status, answer) = host.request(Method::POST, &format!("/v1/groups/{group}/resume"), None).await;
    assert!(status.is_success(), "{answer}");
    assert_eq!(host.finished(&id, 1).await.deliveries[0].state, State::Handled);
}

/// The whole journey over TLS with a password, which the host takes from its
/// environment.
#[tokio::test(flavor = "multi_thread")]
async fn everything_works_over_tls_with_scram() {
    let _turn = turn::shared().await;
    let Some(sasl) = kafka().sasl() else {
        println!("not shown: the Kafka that COURIER_TEST_KAFKA names has no known listener with TLS");
        return;
    };
    let topic = create_topic(kafka().bootstrap(), "secure", 2).await;
    let group = unique("secure");
    let host = Host::builder("host-1")
        .kafka(&sasl.bootstrap)
        .property("security.protocol", "\"SASL_SSL\"")
        .property("sasl.mechanism", "\"SCRAM-SHA-256\"")
        .property("sasl.username", &format!("\"{}\"", sasl.user))
        .property("sasl.password", "{ env = \"TEST_KAFKA_PASSWORD\" }")
        .property("ssl.ca.location", &format!("\"{}\"", sasl.ca_file.display()))
        .env("TEST_KAFKA_PASSWORD", &sasl.password)
        .binding(&scripted_binding(&group, &topic, ""))
        .start()
        .await;
    host.upload("scripted", guest("scripted")).await;
    let by_http = host.publish(scripted(&topic, "k", &["ok"])).await.id().to_owned();
    let client = producer(&kafka_client::sasl_config(sasl));
    let (partition, offset) = produce(&client, &topic, Some(b"k"), &[], br#"{"do": ["ok"]}"#).await;
    host.settled(&group, 2, SOON).await;
    for id in [by_http, format!("{topic}:{partition}:{offset}")] {
        assert_eq!(host.message(&id).await.deliveries[0].state, State::Handled);
    }
    assert!(!host.log().contains(&sasl.password), "the password is in the log");
}

async fn the_usual_mixture(store: Store) {
    let _turn = turn::heavy().await;
    let keys = scale(100, 1_000);
    let ledger = Ledger::open(kafka().bootstrap(), 4, keys, Mixture::USUAL, 1).await;
    let group = unique("mixture");
    let host = Host::builder("host-1").store(store).binding(&ledger.binding(&group, "concurrency = 64")).start().await;
    host.upload("scripted", guest("scripted")).await;
    let count = scale(3_000, 200_000);
    ledger.publish(&host, count / 3).await;
    ledger.produce(count - count / 3, None).await;
    ledger.settled(&host, &group, scale(Duration::from_secs(120), Duration::from_secs(1_800))).await;
    ledger.reconcile(&host, &group).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_and_effects_hold_for_the_usual_mixture() {
    the_usual_mixture(Store::of_this_pass()).await;
}

/// SIGTERM drains a host, and a restart goes on at its position.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_a_restart_repeats_nothing() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "drain", 2).await;
    let group = unique("drain");
    let host = Host::scripted("host-1", Store::Sqlite, &group, &topic, "concurrency = 8").await;
    let messages: Vec<Value> =
        (0..200).map(|number| scripted(&topic, &format!("k{}", number % 20), &["sleep:20ms+ok"])).collect();
    host.publish_all(messages).await;
    let status = host.sigterm(Duration::from_secs(15)).await;
    assert!(status.success(), "a stop is no failure: {status}");
    host.start_again().await;
    host.settled(&group, 200, SOON).await;
    for delivery in host.deliveries(&format!("group={group}")).await {
        assert_eq!(delivery.state, State::Handled, "{}", delivery.brief());
        assert_eq!(delivery.attempts.len(), 1, "a stop counts no attempt: {}", delivery.brief());
    }
}
