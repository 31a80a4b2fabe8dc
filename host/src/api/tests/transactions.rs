//! Messages that wait: delayed ones and those of transactions.

use std::time::Duration;

use serde_json::json;

use super::{ORDER, guarded, open, world};
use crate::api::auth::Role;
use crate::api::testing::{Host, answer, message_row};
use crate::clock::machine_now;
use crate::rfc3339;

#[tokio::test]
async fn a_delayed_message_is_cancelled_by_who_may_see_it() {
    let mut world = world();
    for (topic, offset) in [("order", 30), ("secret", 31)] {
        let mut waits = message_row(topic, offset);
        (waits.place, waits.deliver_at) = (None, Some(courier_core::message::Timestamp(7)));
        world.messages.push(waits);
    }
    let tokens = [("shop", Role::Publisher, Some(&["order"][..]))];
    let host = Host::start(world, &tokens).await;
    let ask = |method: &'static str, path: &'static str| answer(host.request(method, path, Some("shop")));
    let (_, waiting) = ask("GET", "/v1/delayed").await;
    assert_eq!(waiting["items"].as_array().unwrap().len(), 1);
    assert_eq!(waiting["items"][0]["deliver_at"], "1970-01-01T00:00:00.000007Z");
    assert_eq!(ask("GET", "/v1/delayed?topic=secret").await.0, 403);
    let (status, cancelled) = ask("DELETE", "/v1/messages/m-30").await;
    assert_eq!((status, &cancelled["state"], &cancelled["reason"]), (200, &json!("SEND_FAIL"), &json!("cancelled")));
    assert_eq!(ask("DELETE", "/v1/messages/m-31").await.0, 404, "it is out of scope");
    let (status, problem) = ask("DELETE", "/v1/messages/m-20").await;
    assert!(status == 409 && problem["detail"].as_str().unwrap().contains("not a delayed one"), "{problem}");
    assert_eq!(host.audited().await, ["shop cancel m-30 "]);
}

#[tokio::test]
async fn a_transaction_has_exactly_the_members_that_programs_rely_on() {
    let host = open().await;
    let body = format!(r#"{{"messages":[{ORDER}],"check_url":"https://shop.example.com/tx","timeout":"90s"}}"#);
    let before = machine_now();
    let (status, prepared) = host.ask("POST", "/v1/transactions", Some(&body)).await;
    assert_eq!(status, 201);
    // The store's clock is the only thing in it that a test does not know.
    let created_at = rfc3339::parse(prepared["created_at"].as_str().unwrap()).unwrap();
    let deadline = created_at.after(Duration::from_secs(90));
    assert!((before..=machine_now()).contains(&created_at), "{prepared}");
    assert_eq!(
        prepared,
        json!({
            "id": "t-0", "state": "PREPARED", "check_url": "https://shop.example.com/tx", "timeout": "90s",
            "messages": [{ "id": "o-1", "topic": "order", "type": "OrderCreated", "key": null }],
            "created_at": rfc3339::format(created_at), "deadline": rfc3339::format(deadline), "checks": 0,
            "next_check_at": rfc3339::format(deadline), "last_answer": null, "reason": null, "ended_at": null,
            "unreachable_since": null
        })
    );
    assert_eq!(host.ask("GET", "/v1/transactions/t-0", None).await, (200, prepared.clone()));
    assert_eq!(host.ask("GET", "/v1/transactions?state=PREPARED", None).await.1["items"][0], prepared);
    for _ in 0..2 {
        let (status, committed) = host.ask("POST", "/v1/transactions/t-0/commit", None).await;
        assert_eq!((status, &committed["state"]), (200, &json!("COMMITTED")));
    }
    let (status, problem) = host.ask("POST", "/v1/transactions/t-0/rollback", None).await;
    assert!(status == 409 && problem["detail"].as_str().unwrap().contains("COMMITTED, which is final"), "{problem}");
    assert_eq!(host.ask("POST", "/v1/transactions/t-1/commit", None).await.0, 404);
    for (body, words) in [
        ("{}", "`messages` is missing"),
        (r#"{"messages":[],"check":"x"}"#, "`check` is unknown"),
        (r#"{"messages":[],"timeout":"30"}"#, "`timeout` is \"30\""),
        (r#"{"messages":[{"topic":"a","type":"T"}]}"#, "messages[0]: it has neither `body`"),
    ] {
        let (status, problem) = host.ask("POST", "/v1/transactions", Some(body)).await;
        assert!(status == 400 && problem["detail"].as_str().unwrap().contains(words), "{body}: {problem}");
    }
    let (_, problem) = host.ask("GET", "/v1/transactions?state=DONE", None).await;
    assert!(problem["detail"].as_str().unwrap().contains("ABANDONED"), "{problem}");
}

#[tokio::test]
async fn a_transaction_is_seen_by_who_may_see_all_its_topics() {
    let host = guarded().await;
    let both = format!(r#"{{"messages":[{ORDER},{}]}}"#, ORDER.replace("\"order\"", "\"secret\""));
    let ask = |method: &'static str, path: &'static str, token: &'static str, body: Option<String>| {
        let request = host.request(method, path, Some(token)).header("content-type", "application/json");
        answer(request.body(body.unwrap_or_default()))
    };
    let (status, problem) = ask("POST", "/v1/transactions", "shop", Some(both.clone())).await;
    assert!(status == 403 && problem["detail"].as_str().unwrap().starts_with("messages[1]: "), "{problem}");
    assert_eq!(ask("POST", "/v1/transactions", "root", Some(both)).await.0, 201);
    for (method, path) in [
        ("GET", "/v1/transactions/t-0"),
        ("POST", "/v1/transactions/t-0/commit"),
        ("POST", "/v1/transactions/t-0/rollback"),
    ] {
        assert_eq!(ask(method, path, "shop", None).await.0, 404, "{method} {path}");
    }
    assert_eq!(ask("GET", "/v1/transactions", "shop", None).await.1["items"], json!([]));
    assert_eq!(ask("GET", "/v1/transactions", "viewer", None).await.1["items"][0]["id"], "t-0");
}
