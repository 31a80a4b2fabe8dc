//! Repairs of undelivered messages.

use courier_core::message::{Message, Offset, Timestamp};
use serde_json::{Value, json};

use super::auth::{Role, TokenSpec};
use super::intake::MAX_PUBLISH_BYTES;
use super::testing::{Host, World, answer};
use crate::kafka::record::Record;
use crate::store::undelivered::NewUndelivered;

fn entry(record: &Record) -> NewUndelivered {
    NewUndelivered {
        shard: 0,
        message_id: "m-1".into(),
        topic: "order".into(),
        type_name: "Paid".into(),
        source: "shop".into(),
        key: record.key.clone(),
        record: record.encode(),
        outbox: None,
        code: "too_large".into(),
        reason: "it is too large".into(),
    }
}

fn message() -> Message {
    Message {
        id: "m-1".into(),
        key: Some("k".into()),
        source: "shop".into(),
        topic: "order".into(),
        type_name: "Paid".into(),
        time: Timestamp(7),
        content_type: "application/json".into(),
        body: "{}".into(),
        hops: 3,
        ..Message::default()
    }
}

/// A host with the entry 1, a message of the shop, and 2, the same one as a structured
/// CloudEvent.
async fn host() -> Host {
    let whole = r#"{"specversion":"1.0","id":"m-1","source":"shop","type":"Paid","data":1}"#;
    let structured = Record {
        value: Some(whole.into()),
        headers: vec![courier_core::message::Header {
            name: "content-type".into(),
            value: Some("application/cloudevents+json".into()),
        }],
        ..Record::from_message(&message())
    };
    let undelivered = vec![entry(&Record::from_message(&message())), entry(&structured)];
    Host::start(World { undelivered, ..World::default() }, &[("ops", Role::Operator, None)]).await
}

async fn repair(host: &Host, id: u8, body: &Value) -> (u16, Value) {
    let request = host.request("POST", &format!("/v1/undelivered/{id}/repair"), Some("ops"));
    answer(request.header("content-type", "application/json").body(body.to_string())).await
}

/// Issue 17: a repair took reserved headers, so that the record was handled under the
/// identity of another sender's message.
#[tokio::test]
async fn a_repair_keeps_to_the_rules_for_headers_of_a_message() {
    let host = host().await;
    for (headers, words) in [
        (json!({ "courier_hops": "-7" }), "`courier_hops` belongs to Courier"),
        (json!({ "Courier_Hops": "0" }), "`Courier_Hops` belongs to Courier"),
        (json!({ "ce_source": "other" }), "a repair may give `ce_type` and `content-type`"),
        (json!({ "CE_ID": "x" }), "`CE_ID` belongs to Courier"),
        (json!({ "ce_partitionkey": "x" }), "`ce_partitionkey` belongs to Courier"),
        (json!({ "ce_type": ["A", "B"] }), "given twice"),
        (json!({ "ce_type": "" }), "it has no type"),
        (json!({ "ce_type": "a\nb" }), "without control characters"),
        (json!({ "content-type": "a\r\nb: c" }), "the content type is not valid"),
        (json!({ "a\r\nb": "c" }), "without control characters"),
    ] {
        let (status, problem) = repair(&host, 1, &json!({ "headers": headers })).await;
        assert!(status == 400 && problem["detail"].as_str().unwrap().contains(words), "{headers}: {problem}");
    }
    let repaired = async || {
        let outbound = sqlx::query_as("SELECT type_name, record FROM outbound").fetch_all(&host.db).await;
        let outbound: Vec<(String, Vec<u8>)> = outbound.unwrap();
        outbound
    };
    assert!(repaired().await.is_empty() && host.audited().await.is_empty(), "nothing was sent");

    let headers = json!({ "ce_type": "Settled", "Content-Type": "text/plain", "tenant": "eu" });
    assert_eq!(repair(&host, 1, &json!({ "headers": headers, "body": "b" })).await.0, 202);
    let [(type_name, record)] = repaired().await.try_into().unwrap();
    let sent = Record::decode(&record.into()).unwrap().to_message("order", 0, Offset(1));
    assert_eq!(type_name, "Settled", "the row of the relay agrees with its record");
    let tenant = courier_core::message::Header { name: "tenant".into(), value: Some("eu".into()) };
    let expected = Message {
        type_name: "Settled".into(),
        content_type: "text/plain".into(),
        body: "\"b\"".into(),
        headers: vec![tenant],
        ..message()
    };
    assert_eq!(sent, expected, "id, source, key, time and hops stay");
}

/// A repair took no more than a command without a message, so that a message which is too
/// large for its topic could be cut to little only.
#[tokio::test]
async fn a_repair_takes_a_message_as_large_as_a_sender_may_publish() {
    let host = host().await;
    let trimmed = "x".repeat(512 * 1024);
    assert_eq!(repair(&host, 1, &json!({ "body": trimmed })).await.0, 202);
    let record: Vec<u8> = sqlx::query_scalar("SELECT record FROM outbound").fetch_one(&host.db).await.unwrap();
    assert_eq!(Record::decode(&record.into()).unwrap().value.map(|value| value.len()), Some(trimmed.len() + 2));
    let (status, problem) = repair(&host, 2, &json!({ "body": "x".repeat(MAX_PUBLISH_BYTES) })).await;
    assert_eq!((status, problem["detail"].as_str().unwrap().contains("16 MiB")), (413, true), "{problem}");
}

/// A token for one group heard of the undelivered messages of the others, by a link to a
/// list without them.
#[tokio::test]
async fn attention_counts_the_undelivered_messages_that_the_caller_is_listed() {
    let host = host().await;
    sqlx::query("UPDATE undelivered SET group_name = 'other' WHERE id = 1").execute(&host.db).await.unwrap();
    let limited_to = |name: &str, groups: &[&str]| TokenSpec {
        name: name.into(),
        role: Role::Viewer,
        secret: format!("{name}-secret").into(),
        topics: None,
        groups: Some(groups.iter().map(ToString::to_string).collect()),
        sources: None,
    };
    host.auth.replace(vec![limited_to("stock", &["stock"]), limited_to("both", &["stock", "other"])]);
    for (token, count) in [("stock", 1), ("both", 2)] {
        let (_, overview) = answer(host.request("GET", "/v1/overview", Some(token))).await;
        let attention = overview["attention"].as_array().unwrap();
        let entry = attention.iter().find(|entry| entry["kind"] == "undelivered").unwrap();
        assert!(entry["detail"].as_str().unwrap().starts_with(&format!("{count} message")), "{entry}");
        let (_, list) = answer(host.request("GET", entry["path"].as_str().unwrap(), Some(token))).await;
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{list}");
    }
    sqlx::query("UPDATE undelivered SET group_name = 'other'").execute(&host.db).await.unwrap();
    let (_, overview) = answer(host.request("GET", "/v1/overview", Some("stock"))).await;
    assert!(!overview["attention"].to_string().contains("undelivered"), "{overview}");
}

/// The attributes of a structured CloudEvent are in its value, which a repair replaces.
#[tokio::test]
async fn a_repair_makes_no_other_message_of_an_entry_by_its_value() {
    let host = host().await;
    let event = |id: &str| json!({ "specversion": "1.0", "id": id, "source": "shop", "type": "Paid", "data": 2 });
    let structured = json!({ "content-type": "application/cloudevents+json" });
    let other_source = json!({ "specversion": "1.0", "id": "m-1", "source": "other", "type": "Paid" });
    for (entry, body, words) in [
        (1, json!({ "headers": structured, "body": event("x") }), "the body is a whole CloudEvent"),
        (2, json!({ "body": event("x") }), "another message"),
        (2, json!({ "body": other_source }), "another message"),
    ] {
        let (status, problem) = repair(&host, entry, &body).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(status == 400 && detail.contains(words), "{body}: {problem}");
    }
    assert_eq!(repair(&host, 2, &json!({ "body": event("m-1") })).await.0, 202);
}
