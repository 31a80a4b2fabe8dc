//! Walls between groups and tenants, seen from outside.

use std::time::Duration;

use courier_core::status::State;
use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::{config, create_topic, produce_to, producer};
use courier_tests::{Host, guest, kafka, turn};
use reqwest::Method;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// A record that a batch of 1 MB carries packed inflated to 150 MB, was stored
/// whole, held the settling of all groups up and was answered by one `GET`.
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
