//! Every sender puts a key into the same partition and the same lane.

use std::time::Duration;

use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::{config, create_topic, produce, producer, read_topic};
use courier_tests::{Host, guest, kafka, turn, unique, wait_until};
use reqwest::Method;
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_key_lands_where_a_java_sender_would_put_it() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "keyed", 7).await;
    let out = create_topic(kafka().bootstrap(), "emitted", 7).await;
    let group = unique("keyed");
    let policy = format!("[binding.grant]\npublish = [\"{out}\"]");
    let host = Host::builder("host-1").binding(&scripted_binding(&group, &topic, &policy)).start().await;
    host.upload("scripted", guest("scripted")).await;
    // Its own client, which partitions as Java does: murmur2.
    let java = producer(&config(kafka().bootstrap()));
    let (place, _) = produce(&java, &topic, Some(b"order-42"), &[], b"{}").await;
    let body = json!({ "do": [format!("publish:{out}+ok")] });
    let message = |id: &str| json!({ "topic": topic, "type": "T", "id": id, "body": body });
    let (mut plain, mut base64) = (message("by-json"), message("by-base64"));
    (plain["key"], base64["key_base64"]) = (json!("order-42"), json!("b3JkZXItNDI="));
    host.publish(plain).await;
    host.publish(base64).await;
    let event = json!({
        "specversion": "1.0", "id": "by-event", "source": "/tests", "type": "T", "topic": topic,
        "partitionkey": "order-42", "data": body,
    });
    let headers = [("content-type", "application/cloudevents+json")];
    let (status, answer) = host.send(Method::POST, "/v1/messages", &headers, event.to_string().into()).await;
    assert_eq!(status.as_u16(), 202, "{answer}");
    let text = body.to_string();
    let arguments = ["publish", &topic, "--type", "T", "--key", "order-42", "--id", "by-cli", "--body", &text];
    let (status, _, error) = host.cli(&arguments);
    assert!(status.success(), "{error}");
    host.settled(&group, 5, SOON).await;
    let deliveries = host.deliveries(&format!("group={group}&key=order-42")).await;
    assert_eq!(deliveries.len(), 5, "one lane has them all: {deliveries:?}");
    assert!(deliveries.iter().all(|one| one.partition == place), "{deliveries:?}");
    // The handlers' messages have the key too, and its partition.
    let emitted = wait_until("the emissions are on Kafka", SOON, async || {
        let records = read_topic(kafka().bootstrap(), &out).await;
        if records.len() == 4 { Ok(records) } else { Err(format!("{records:?}")) }
    })
    .await;
    assert!(emitted.iter().all(|one| one.partition == place && one.key.as_deref() == Some(b"order-42")), "{emitted:?}");
}
