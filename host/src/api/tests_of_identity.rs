//! Ids that repeat, and who ended a transaction.

use courier_core::message::Timestamp;
use courier_core::status::State;
use serde_json::{Value, json};

use super::auth::Role;
use super::testing::{Host, World, answer, delivery, message_row};
use super::tests::world;
use crate::store::{DeliveryRow, MessageRow, SentBy, SourceHash};

/// An unsent message with the id 1.
fn unsent(topic: &str, source: &str, created_at: i64) -> MessageRow {
    MessageRow {
        id: "1".into(),
        source: source.into(),
        created_at: Timestamp(created_at),
        state: State::SendFail,
        retrying: true,
        place: None,
        ..message_row(topic, 0)
    }
}

fn of(row: &MessageRow, group: &str, source: Option<&str>) -> DeliveryRow {
    DeliveryRow { message_id: "1".into(), source_hash: source.map(SourceHash::of), ..delivery(group, &row.topic, 7) }
}

async fn get(host: &Host, path: &str) -> (u16, Value) {
    host.ask("GET", path, None).await
}

#[tokio::test]
async fn of_messages_of_one_id_the_newest_is_shown_with_the_others_beside_it() {
    let [us, eu, stock] = [unsent("order", "/us", 3), unsent("order", "/eu", 2), unsent("stock", "/eu", 1)];
    // One from before sources were kept may be of either source of its topic.
    let deliveries =
        vec![of(&us, "a", Some("/us")), of(&eu, "b", Some("/eu")), of(&us, "c", None), of(&stock, "d", None)];
    let world = World { messages: vec![us, eu, stock], deliveries, ..World::default() };
    let host = Host::start(world, &[]).await;
    let groups = |shown: &Value| {
        let of = |delivery: &Value| delivery["group"].as_str().unwrap().to_owned();
        shown["deliveries"].as_array().unwrap().iter().map(of).collect::<Vec<_>>().join(" ")
    };
    let (status, shown) = get(&host, "/v1/messages/1").await;
    assert_eq!((status, &shown["topic"], &shown["source"]), (200, &json!("order"), &json!("/us")));
    assert_eq!(groups(&shown), "a c");
    let also: Vec<_> = shown["also"].as_array().unwrap().iter().filter(|one| !one["source"].is_null()).collect();
    assert_eq!(also.iter().map(|one| &one["topic"]).collect::<Vec<_>>(), [&json!("order"), &json!("stock")]);
    assert_eq!(also[0]["state"], "SEND_FAIL");
    assert!(also[0]["time"].is_string() && also[0]["partition"].is_null(), "{also:?}");
    let (_, shown) = get(&host, "/v1/messages/1?topic=order&source=/eu").await;
    assert_eq!((&shown["source"], groups(&shown).as_str()), (&json!("/eu"), "b c"));
    let (_, shown) = get(&host, "/v1/messages/1?topic=stock").await;
    assert_eq!((&shown["topic"], groups(&shown).as_str(), &shown["also"]), (&json!("stock"), "d", &Value::Null));
    assert_eq!(get(&host, "/v1/messages/1?topic=other").await.0, 404);
}

/// The id of a message may look like the place of somebody else's record, which must
/// not be hidden by it.
#[tokio::test]
async fn an_id_that_names_the_place_of_another_record_does_not_hide_it() {
    let named = MessageRow { id: "order:0:20".into(), ..unsent("stock", "/eu", 1) };
    let mut world = world();
    world.messages.push(named);
    let host = Host::start(world, &[]).await;
    let (status, shown) = get(&host, "/v1/messages/order:0:20").await;
    assert_eq!((status, &shown["topic"]), (200, &json!("stock")));
    let also: Vec<_> = shown["also"].as_array().into_iter().flatten().collect();
    assert_eq!(also.len(), 1, "{shown}");
    assert_eq!((&also[0]["topic"], &also[0]["offset"]), (&json!("order"), &json!(20)));
    let (_, record) = get(&host, "/v1/messages/order:0:20?topic=order").await;
    assert_eq!(record["topic"], "order");
}

#[tokio::test]
async fn nothing_is_changed_by_an_id_of_several_messages() {
    let messages = vec![unsent("order", "/us", 3), unsent("order", "", 2), unsent("secret", "/eu", 1)];
    let world = World { messages, ..World::default() };
    let scope: &[&str] = &["order"];
    let host = Host::start(world, &[("root", Role::Admin, None), ("shop", Role::Publisher, Some(scope))]).await;
    let ask = async |method: &str, path: &str| answer(host.request(method, path, Some("shop"))).await;
    for (method, path) in [("POST", "/v1/messages/1/resend"), ("DELETE", "/v1/messages/1")] {
        let (status, problem) = ask(method, path).await;
        assert_eq!(status, 409, "{problem}");
        let candidates = problem["candidates"].as_array().unwrap();
        let sources: Vec<_> = candidates.iter().map(|one| &one["source"]).collect();
        assert_eq!(sources, [&json!("/us"), &json!("")], "the caller does not see the third: {problem}");
        assert!(candidates[0]["state"] == "SEND_FAIL" && candidates[0]["time"].is_string());
    }
    assert_eq!(host.audited().await, [""; 0]);
    assert_eq!(ask("POST", "/v1/messages/1/resend?topic=order&source=").await.0, 202);
    assert_eq!(host.audited().await, ["shop resend 1 \"1\" on topic \"order\""], "the entry names which");
    let due = sqlx::query_scalar("SELECT source FROM outbound WHERE held_until = 0").fetch_all(&host.db).await;
    let due: Vec<String> = due.unwrap();
    assert_eq!(due, [""]);
    assert_eq!(ask("POST", "/v1/messages/1/resend?topic=secret").await.0, 404);
    assert_eq!(ask("POST", "/v1/messages/1/resend?kind=event").await.0, 400);
}

/// Issue 16: a commit by a person had no audit entry, and was attributed to the
/// sender.
#[tokio::test]
async fn who_ended_a_transaction_is_told() {
    let tokens: &[(&str, Role, Option<&[&str]>)] = &[("ops", Role::Operator, None), ("shop", Role::Publisher, None)];
    let host = Host::start(World::default(), tokens).await;
    let prepare = r#"{"messages": [{"topic": "order", "type": "T", "body": {}}]}"#;
    for _ in 0..3 {
        let request = host.request("POST", "/v1/transactions", Some("shop"));
        assert_eq!(answer(request.header("content-type", "application/json").body(prepare)).await.0, 201);
    }
    let end = async |id: &str, how: &str, who: &str, console: bool| {
        let request = host.request("POST", &format!("/v1/transactions/{id}/{how}"), Some(who));
        let request = if console { request.header("sec-fetch-site", "same-origin") } else { request };
        answer(request).await.1["reason"].clone()
    };
    assert_eq!(end("t-0", "commit", "shop", false).await, "Sender");
    assert_eq!(end("t-1", "commit", "ops", false).await, "Person(\"the operator ops\")");
    assert_eq!(end("t-2", "rollback", "shop", true).await, "Person(\"the publisher shop\")");
    let expected = ["ops commit t-1 a transaction", "shop rollback t-2 a transaction"];
    assert_eq!(host.audited().await, expected, "what its sender does has no entry");
}

/// Issue 17: a token named `local` counted as the caller of a host without tokens, so
/// that its sources were not checked and its messages had no sender.
#[tokio::test]
async fn a_token_named_local_is_a_token_as_any_other() {
    let tokens: &[(&str, Role, Option<&[&str]>)] = &[("local", Role::Publisher, None), ("shop", Role::Publisher, None)];
    let host = Host::start(World::default(), tokens).await;
    let publish = async |source: Option<&str>| {
        let message = json!({ "topic": "order", "type": "T", "body": 1, "source": source });
        let request = host.request("POST", "/v1/messages", Some("local")).header("content-type", "application/json");
        answer(request.body(message.to_string())).await.0
    };
    assert_eq!(publish(None).await, 202);
    assert_eq!(publish(Some("shop")).await, 403);
    let sent = host.ports.lock().sent.clone();
    let by = SentBy { sender: "local".into(), source_proven: true };
    assert_eq!((sent.len(), sent[0].source.as_str(), &sent[0].sent_by), (1, "local", &Some(by)));
}

/// Issue 17: a publisher ended what another one had prepared, told as its sender and
/// without an entry.
#[tokio::test]
async fn a_transaction_is_ended_by_who_prepared_it_or_by_an_operator() {
    let tokens: &[(&str, Role, Option<&[&str]>)] =
        &[("shop", Role::Publisher, None), ("other", Role::Publisher, None), ("ops", Role::Operator, None)];
    let host = Host::start(World::default(), tokens).await;
    let prepare = r#"{"messages": [{"topic": "order", "type": "T", "body": {}}]}"#;
    for _ in 0..3 {
        let request = host.request("POST", "/v1/transactions", Some("shop"));
        assert_eq!(answer(request.header("content-type", "application/json").body(prepare)).await.0, 201);
    }
    // What an earlier version took has no sender.
    host.execute("UPDATE half_message SET sender = NULL WHERE id = 't-2'").await;
    let end = async |id: &str, how: &str, who: &str, console: bool| {
        let request = host.request("POST", &format!("/v1/transactions/{id}/{how}"), Some(who));
        let request = if console { request.header("sec-fetch-site", "same-origin") } else { request };
        answer(request).await
    };
    for (id, how, console) in [("t-0", "commit", false), ("t-0", "rollback", true), ("t-2", "commit", false)] {
        let (status, problem) = end(id, how, "other", console).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(status == 403 && detail.contains("needs the role operator"), "{how} {id}: {problem}");
        assert!(!detail.contains("shop"), "it does not tell whose it is: {detail}");
    }
    assert_eq!(host.audited().await, [""; 0]);
    assert_eq!(end("t-0", "commit", "shop", false).await.1["reason"], "Sender");
    assert_eq!(end("t-1", "rollback", "ops", false).await.1["reason"], "Person(\"the operator ops\")");
    assert_eq!(end("t-2", "commit", "ops", false).await.0, 200);
    assert_eq!(host.audited().await, ["ops rollback t-1 a transaction", "ops commit t-2 a transaction"]);
}

/// The id of an outbox row can be guessed, and a message with that id replaced the
/// row's message.
#[tokio::test]
async fn ids_of_rows_of_outboxes_are_refused_from_senders() {
    let host = Host::start(World::default(), &[]).await;
    let message = json!({ "topic": "order", "type": "T", "body": 1, "id": "outbox:shop:7" });
    let (status, problem) = host.ask("POST", "/v1/messages", Some(&message.to_string())).await;
    assert_eq!(status, 400, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("are those of rows of outboxes"), "{problem}");
    let prepared = json!({ "messages": [message] });
    let (status, problem) = host.ask("POST", "/v1/transactions", Some(&prepared.to_string())).await;
    assert_eq!(status, 400, "{problem}");
    assert!(host.ports.lock().sent.is_empty());
}

#[tokio::test]
async fn who_published_is_noted_and_whether_the_source_is_proven() {
    let host =
        Host::start(World::default(), &[("shop", Role::Publisher, None), ("other", Role::Publisher, None)]).await;
    let publish = async |token: &str, source: Option<&str>| {
        let mut message = json!({ "topic": "order", "type": "T", "body": 1 });
        if let Some(source) = source {
            message["source"] = json!(source);
        }
        let request = host.request("POST", "/v1/messages", Some(token)).header("content-type", "application/json");
        answer(request.body(message.to_string())).await.0
    };
    for (token, source) in [("shop", None), ("shop", Some("/eu")), ("other", Some("/eu"))] {
        assert_eq!(publish(token, source).await, 202);
    }
    assert_eq!(publish("other", Some("shop")).await, 403, "issue 17: it is the usual source of another token");
    let sent = host.ports.lock().sent.clone();
    let by: Vec<_> = sent.iter().filter_map(|draft| draft.sent_by.clone()).collect();
    let by: Vec<_> = by.iter().map(|by| (by.sender.as_str(), by.source_proven)).collect();
    assert_eq!(by, [("shop", true), ("shop", false), ("other", false)]);
    let mut row = message_row("order", 7);
    row.sent_by = Some(SentBy { sender: "other".into(), source_proven: false });
    host.add(&World { messages: vec![row], ..World::default() }).await;
    let (_, shown) = answer(host.request("GET", "/v1/messages/m-7", Some("shop"))).await;
    assert_eq!((&shown["sender"], &shown["source_proven"]), (&json!("other"), &json!(false)));
}

/// Issue 17: another publisher's deliveries with the id filled the page that was read,
/// and the message was shown without its own.
#[tokio::test]
async fn deliveries_of_other_messages_of_an_id_hide_none() {
    const OTHERS: i64 = 1_200;
    for topic in ["order", "secret"] {
        let mut deliveries: Vec<_> = (0..=OTHERS)
            .map(|offset| DeliveryRow {
                message_id: "m-5".into(),
                source_hash: Some(SourceHash::of("theirs")),
                ..delivery("stock", topic, 100 + offset)
            })
            .collect();
        deliveries.push(DeliveryRow { source_hash: Some(SourceHash::of("shop")), ..delivery("stock", "order", 5) });
        let world = World { messages: vec![message_row("order", 5)], deliveries, ..World::default() };
        let scope: &[&str] = &["order", "stock"];
        let host = Host::start(world, &[("shop", Role::Viewer, Some(scope))]).await;
        let (status, shown) = answer(host.request("GET", "/v1/messages/m-5", Some("shop"))).await;
        let handled = shown["deliveries"].as_array().unwrap().iter().filter(|one| one["state"] == "HANDLED");
        let offsets: Vec<_> = handled.map(|one| &one["offset"]).collect();
        assert_eq!((status, offsets), (200, vec![&json!(5)]), "{topic}");
    }
}
