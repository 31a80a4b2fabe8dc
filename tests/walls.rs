//! Isolation of groups and tenants, seen from outside.

use std::time::Duration;

use courier_core::status::State;
use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::{config, create_topic, produce_to, producer};
use courier_tests::{Host, guest, kafka, turn, wait_until};
use reqwest::Method;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// A record that a compressed batch of 1 MB inflated to 150 MB was stored whole,
/// held up the settling of all groups, and was the answer to one `GET`.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_above_max_record_fails_with_its_coordinates_and_nothing_waits_for_it() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "large", 1).await;
    let retried = "[binding.retry]\nmax_attempts = 5\ninitial = \"1h\"";
    let host = Host::builder("host-1").binding(&scripted_binding("g", &topic, retried)).prepare();
    host.write_config(&host.toml().replace("[kafka]\n", "[kafka]\nmax_record = \"1MiB\"\n"));
    host.start_again().await;
    host.upload("scripted", guest("scripted")).await;
    let mut packed = config(kafka().bootstrap());
    packed.set("compression.type", "gzip").set("message.max.bytes", "50000000");
    let packed = producer(&packed);
    let body = |rest: usize| json!({ "do": ["ok"], "rest": "x".repeat(rest) }).to_string().into_bytes();
    for (id, rest) in [("before", 10), ("large", 20 << 20), ("after", 10)] {
        produce_to(&packed, &topic, 0, &[("ce_id", id), ("ce_type", "T"), ("ce_source", "s")], &body(rest)).await;
    }
    let group = host.settled("g", 3, SOON).await;
    assert_eq!((group.handled, group.failed), (2, 1));
    let failed = host.deliveries("group=g&state=HANDLE_FAIL").await.remove(0);
    assert_eq!((failed.message_id.as_str(), failed.state, failed.offset), ("large", State::HandleFail, 1));
    assert!(failed.attempts.is_empty(), "its handler never ran: {failed:?}");
    let reason = failed.reason.unwrap();
    assert!(
        reason.contains("more than [kafka] max_record") && reason.contains(&format!("{topic}:0 offset 1")),
        "{reason}"
    );
    let (status, shown) = host.request(Method::GET, "/v1/messages/large", None).await;
    assert_eq!((status.as_u16(), &shown["body"]), (200, &Value::Null), "{shown}");
    assert!(shown["body_missing"].as_str().unwrap().contains("max_record"), "{shown}");
}

/// A sender that prepared transactions which expired at once held the whole host's
/// store for 30 s each time: the check waited for a transaction of its own.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_are_over_at_once_hold_up_nobody() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "over", 1).await;
    let host = Host::builder("over").binding(&scripted_binding("over", &topic, "")).start().await;
    let prepare = json!({ "timeout": "1ms", "messages": [{ "topic": topic, "type": "T", "body": 1 }] });
    for _ in 0..300 {
        host.post("/v1/transactions", prepare.clone(), 201).await;
    }
    wait_until("all are abandoned", SOON, async || {
        let prepared: Value = host.get("/v1/transactions?state=PREPARED&limit=1").await;
        if prepared["items"] == json!([]) { Ok(()) } else { Err(prepared.to_string()) }
    })
    .await;
    assert!(!host.log().contains("did not end within"), "{}", host.log_tail());
}

/// One tenant's use of an id, a plugin or a transaction was visible to another, or
/// hid the other's.
#[tokio::test(flavor = "multi_thread")]
async fn one_tenant_neither_hears_of_another_nor_hides_what_is_its_own() {
    let _turn = turn::shared().await;
    let mine = create_topic(kafka().bootstrap(), "mine", 1).await;
    let theirs = create_topic(kafka().bootstrap(), "theirs", 1).await;
    let auth = format!(
        "[auth]\ntokens = [{{ name = \"root\", role = \"admin\", env = \"ROOT\" }},\n\
         {{ name = \"me\", role = \"operator\", env = \"ME\", topics = [\"{mine}\"], groups = [\"me\"] }},\n\
         {{ name = \"they\", role = \"operator\", env = \"THEY\", topics = [\"{theirs}\"], groups = [\"they\"] }}]"
    );
    let host = Host::builder("tenants").table(&auth);
    let host = host.env("ROOT", "root-secret").env("ME", "me-secret").env("THEY", "they-secret").token("root-secret");
    let host = host.binding(&scripted_binding("me", &mine, "")).binding(&scripted_binding("they", &theirs, ""));
    let host = host.start().await;
    let ask = async |method: Method, path: &str, token: &str, body: Value| {
        let bearer = format!("Bearer {token}-secret");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let (status, answer) = host.send(method, path, &headers, body).await;
        (status.as_u16(), answer)
    };
    let listening = reqwest::Client::new().get(format!("{}/v1/events", host.address())).bearer_auth("me-secret");
    let mut events = listening.send().await.unwrap();

    let late = json!({ "topic": mine, "type": "T", "id": "late", "delay": "1h", "body": 1 });
    assert_eq!(ask(Method::POST, "/v1/messages", "me", late).await.0, 202);
    let same_id =
        |at: usize| json!({ "topic": theirs, "type": "T", "id": "late", "source": format!("s-{at}"), "body": 1 });
    let many = Value::Array((0..100).map(same_id).collect());
    assert_eq!(ask(Method::POST, "/v1/messages", "they", many).await.0, 202);
    assert_eq!(ask(Method::GET, "/v1/messages/late", "me", Value::Null).await.0, 200);
    let (status, cancelled) = ask(Method::DELETE, "/v1/messages/late", "me", Value::Null).await;
    assert_eq!(status, 200, "{cancelled}");

    let prepare = json!({ "timeout": "1h", "messages": [{ "topic": theirs, "type": "T", "body": 1 }] });
    assert_eq!(ask(Method::POST, "/v1/transactions", "they", prepare.clone()).await.0, 201);
    assert_eq!(ask(Method::POST, "/v1/transactions", "they", prepare).await.0, 201);
    let (_, page) = ask(Method::GET, "/v1/transactions?limit=1", "me", Value::Null).await;
    assert_eq!((&page["items"], &page["next"]), (&json!([]), &Value::Null), "{page}");
    host.upload("theirs-alone", guest("noop")).await;
    assert_eq!(ask(Method::POST, "/v1/session", "they", json!({ "token": "they-secret" })).await.0, 204);
    assert_eq!(ask(Method::POST, "/v1/groups/me/pause", "me", json!({})).await.0, 200);

    let mut heard = String::new();
    while !heard.contains("/v1/groups/me") {
        let chunk = tokio::time::timeout(SOON, events.chunk()).await.unwrap().unwrap().unwrap();
        heard.push_str(&String::from_utf8_lossy(&chunk));
    }
    let changes: Vec<&str> = heard.lines().filter_map(|line| line.strip_prefix("data: /")).collect();
    assert_eq!(changes, ["v1/messages/late", "v1/groups/me"], "{heard}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_imports_more_than_its_plugin_may_is_refused() {
    let _turn = turn::shared().await;
    let rule = "[[plugin]]\nname = \"scripted\"\nimports = [\"courier:plugin/state\"]\n";
    let host = Host::builder("host-1").table(rule).start().await;
    let (status, refused) = host.try_upload("scripted", guest("scripted"), true).await;
    assert_eq!(status.as_u16(), 422, "{refused}");
    let why = refused["detail"].as_str().unwrap();
    assert!(why.contains("imports") && why.contains("allows only courier:plugin/state"), "{why}");
    host.upload("other", guest("scripted")).await;
}
