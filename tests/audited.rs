//! Every operation that changes something writes an entry to the audit log.

use std::collections::BTreeSet;
use std::time::Duration;

use courier::publish::outbound_from;
use courier::store::undelivered::NewUndelivered;
use courier::store::{NewMessage, NewOutbound};
use courier_core::message::{Kind, Message, Timestamp};
use courier_core::status::State;
use courier_tests::host::scripted_binding;
use courier_tests::kafka_client::create_topic;
use courier_tests::{Host, Store, guest, kafka, scripted, turn, unique, wait_until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// Operations that programs call thousands of times a second. A message and a
/// transaction name their senders themselves; ending a transaction has an entry
/// when a person does it.
const OF_PROGRAMS: [(&str, &str); 2] = [("post", "/v1/messages"), ("post", "/v1/transactions")];

/// Plans, which change nothing until they run.
const PLANS: [(&str, &str); 1] = [("post", "/v1/redrives")];

/// Makes changes and reads the log after each.
struct Walk<'a> {
    host: &'a Host,
    entries: usize,
    walked: BTreeSet<(String, String)>,
}

impl Walk<'_> {
    async fn log(&self) -> Vec<Value> {
        let audit: Value = self.host.get("/v1/audit?limit=1000").await;
        audit["items"].as_array().cloned().unwrap_or_default()
    }

    /// Makes a change, which must succeed and write exactly one entry with this
    /// action, subject and detail.
    async fn change(
        &mut self,
        (method, operation): (&str, &str),
        path: &str,
        body: Option<Value>,
        expected: (&str, &str, Option<&str>),
    ) -> Value {
        let verb = method.to_uppercase().parse().unwrap_or(Method::GET);
        let (status, answer) = self.host.request(verb, path, body).await;
        assert!(status.is_success(), "{method} {path} was answered {status}: {answer}");
        self.noted(method, operation, expected).await;
        answer
    }

    async fn noted(&mut self, method: &str, operation: &str, (action, subject, detail): (&str, &str, Option<&str>)) {
        let log = self.log().await;
        self.entries += 1;
        assert_eq!(log.len(), self.entries, "{method} {operation} leaves one entry: {log:?}");
        let entry = &log[0];
        assert_eq!(
            (&entry["by"], &entry["action"], &entry["subject"]),
            (&json!("root"), &json!(action), &json!(subject))
        );
        match detail {
            Some(words) => assert!(entry["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{entry}"),
            None => assert_eq!(entry["detail"], Value::Null, "{entry}"),
        }
        self.walked.insert((method.to_owned(), operation.to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_that_changes_something_leaves_an_entry() {
    let _turn = turn::shared().await;
    for store in [Store::Sqlite, Store::Postgres] {
        let (group, topic) = (unique("audited"), create_topic(kafka().bootstrap(), "audited", 1).await);
        let host = Host::builder("audited")
            .store(store)
            .table("[auth]\ntokens = [{ name = \"root\", role = \"admin\", env = \"ROOT_TOKEN\" }]\n")
            .env("ROOT_TOKEN", "root-secret")
            .token("root-secret")
            .binding(&scripted_binding(&group, &topic, ""))
            .start()
            .await;
        let mut walk = Walk { host: &host, entries: 0, walked: BTreeSet::new() };
        plugins(&mut walk).await;
        messages(&mut walk, &group, &topic).await;
        transactions(&mut walk, &topic).await;
        groups(&mut walk, &group, &topic).await;
        redrives(&mut walk, &group).await;
        give_up(&mut walk, &group, &topic).await;
        undelivered(&mut walk, &topic).await;
        sessions(&mut walk).await;
        let all = changing(&host).await;
        let left: Vec<_> = all.difference(&walk.walked).collect();
        assert!(left.is_empty(), "nobody looked whether these leave an entry: {left:?}");
        assert_eq!(host.get::<Value>("/v1/audit/verify").await["ok"], true);
    }
}

/// The operations of the OpenAPI document that change something for people.
async fn changing(host: &Host) -> BTreeSet<(String, String)> {
    let document: Value = host.get("/openapi.json").await;
    let mut found = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for method in methods.as_object().into_iter().flatten().map(|(method, _)| method.as_str()) {
            let changes = ["post", "put", "patch", "delete"].contains(&method);
            let operation = (method, path.as_str());
            if changes && !OF_PROGRAMS.contains(&operation) && !PLANS.contains(&operation) {
                found.insert((method.to_owned(), path.clone()));
            }
        }
    }
    found
}

async fn plugins(walk: &mut Walk<'_>) {
    let (status, uploaded) = walk.host.try_upload("scripted", guest("scripted"), false).await;
    assert_eq!(status, StatusCode::CREATED, "{uploaded}");
    let version = uploaded["version"].as_str().expect("an upload has a version").to_owned();
    walk.noted("put", "/v1/plugins/{name}", ("upload", "scripted", Some(&version))).await;
    let activate = ("post", "/v1/plugins/{name}/activate");
    let body = Some(json!({ "version": version }));
    walk.change(activate, "/v1/plugins/scripted/activate", body, ("activate", "scripted", Some(&version))).await;
    // Uploading and activating at once are two changes.
    walk.host.upload("scripted", guest("scripted")).await;
    walk.entries += 1;
    walk.noted("post", "/v1/plugins/{name}/activate", ("activate", "scripted", Some(&version))).await;
}

async fn messages(walk: &mut Walk<'_>, group: &str, topic: &str) {
    let mut later = scripted(topic, "k", &["ok"]);
    later["delay"] = json!("1h");
    let id = walk.host.publish(later).await.id.expect("what is accepted has an id");
    let path = format!("/v1/messages/{id}");
    walk.change(("delete", "/v1/messages/{id}"), &path, None, ("cancel", &id, None)).await;
    let (status, again) = walk.host.request(Method::DELETE, &path, None).await;
    assert!(status.is_success(), "{again}");
    assert_eq!(walk.log().await.len(), walk.entries, "what is cancelled already is not changed");
    // Sent again now, it would be handled before it is due.
    let (status, refused) = walk.host.request(Method::POST, &format!("{path}/resend"), None).await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    assert!(refused["detail"].as_str().is_some_and(|why| why.contains("under another id")), "{refused}");
    assert_eq!(walk.log().await.len(), walk.entries, "what is refused leaves no entry");
    let owed = owed(walk.host, topic).await;
    let resend = ("post", "/v1/messages/{id}/resend");
    walk.change(resend, &format!("/v1/messages/{owed}/resend"), None, ("resend", &owed, None)).await;
    let (status, _) = walk.host.request(Method::POST, "/v1/messages/none/resend", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(walk.log().await.len(), walk.entries, "what is refused leaves no entry");
    // The message that was resent, and two that fail.
    walk.host.publish_all(vec![scripted(topic, "a", &["reject"]), scripted(topic, "b", &["reject"])]).await;
    walk.host.settled(group, 3, SOON).await;
    let failed = walk.host.deliveries(&format!("group={group}&state=HANDLE_FAIL")).await;
    let retry = format!("/v1/deliveries/{}/retry", failed[0].id);
    let subject = format!("{group} {topic}:0:{}", failed[0].offset);
    let expected = ("retry", subject.as_str(), Some(State::HandleFail.as_str()));
    walk.change(("post", "/v1/deliveries/{id}/retry"), &retry, None, expected).await;
    walk.host.settled(group, 3, SOON).await;
}

/// A message that a direct send did not deliver to Kafka, and that the relay does
/// not send for an hour.
async fn owed(host: &Host, topic: &str) -> String {
    let message = Message {
        id: unique("owed"),
        key: None,
        source: "shop".to_owned(),
        topic: topic.to_owned(),
        type_name: "Scripted".to_owned(),
        kind: Kind::Event,
        time: Timestamp(5),
        content_type: "application/json".to_owned(),
        body: br#"{"do":["ok"]}"#.as_slice().into(),
        is_tombstone: false,
        hops: 0,
        headers: Vec::new(),
    };
    let outbound =
        NewOutbound { held_for: Some(Duration::from_secs(3_600)), group: None, ..outbound_from(&message, "") };
    let new = NewMessage {
        id: message.id.clone(),
        digest: [1; 32],
        key: None,
        source: message.source,
        topic: message.topic,
        type_name: message.type_name,
        kind: "event",
        time: message.time,
        state: State::SendFail,
        reason: Some("not sent yet".to_owned()),
        retrying: true,
        place: None,
        record: None,
        outbound: Some(outbound),
        due: None,
        sent_by: None,
    };
    let store = courier::store::open(&host.store_url()).await.expect("the host's store can be opened beside it");
    store.accept(&[new]).await.expect("the store takes a message");
    message.id
}

/// Issue 16: a commit by hand had no entry, and was attributed to the sender.
async fn transactions(walk: &mut Walk<'_>, topic: &str) {
    for (how, reason) in [("commit", "committed by the admin root"), ("rollback", "rolled back by the admin root")] {
        let body =
            json!({ "messages": [{ "topic": topic, "type": "Other", "body": { "do": ["ok"] } }], "timeout": "1h" });
        let (status, prepared) = walk.host.request(Method::POST, "/v1/transactions", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{prepared}");
        let id = prepared["id"].as_str().expect("a transaction has an id").to_owned();
        let (operation, path) = (format!("/v1/transactions/{{id}}/{how}"), format!("/v1/transactions/{id}/{how}"));
        let expected = (how, id.as_str(), Some("a transaction"));
        let ended = walk.change(("post", &operation), &path, None, expected).await;
        assert_eq!(ended["reason"], json!(reason));
        let (status, again) = walk.host.request(Method::POST, &path, None).await;
        assert_eq!(status, StatusCode::OK, "{again}");
        assert_eq!(walk.log().await.len(), walk.entries, "what has ended so already is not changed");
    }
}

async fn groups(walk: &mut Walk<'_>, group: &str, topic: &str) {
    let path = |verb: &str| format!("/v1/groups/{group}/{verb}");
    let why = Some(json!({ "why": "night" }));
    let pause = ("post", "/v1/groups/{group}/pause");
    walk.change(pause, &path("pause"), why, ("pause", group, Some("night"))).await;
    walk.change(("post", "/v1/groups/{group}/resume"), &path("resume"), None, ("resume", group, None)).await;
    let to = json!({ "topic": topic, "to": "latest", "confirm": group });
    walk.change(("post", "/v1/groups/{group}/seek"), &path("seek"), Some(to), ("seek", group, Some(topic))).await;
}

async fn redrives(walk: &mut Walk<'_>, group: &str) {
    let filter = json!({ "filter": { "group": group, "state": "HANDLE_FAIL" }, "rate": 1 });
    let (status, planned) = walk.host.request(Method::POST, "/v1/redrives", Some(filter)).await;
    assert_eq!(status, StatusCode::CREATED, "{planned}");
    let id = planned["id"].as_str().expect("a redrive has an id").to_owned();
    assert_eq!(walk.log().await.len(), walk.entries, "a plan changes nothing");
    let path = format!("/v1/redrives/{id}");
    let run = ("post", "/v1/redrives/{id}/run");
    walk.change(run, &format!("{path}/run"), None, ("run redrive", &id, Some("2 deliveries of"))).await;
    let pause = ("post", "/v1/redrives/{id}/pause");
    walk.change(pause, &format!("{path}/pause"), None, ("pause redrive", &id, Some("was RUNNING"))).await;
    walk.change(("delete", "/v1/redrives/{id}"), &path, None, ("cancel redrive", &id, Some("was PAUSED"))).await;
}

async fn give_up(walk: &mut Walk<'_>, group: &str, topic: &str) {
    walk.host.publish(scripted(topic, "c", &["retry:10m"])).await;
    let open = wait_until("an attempt has failed and waits", SOON, async || {
        let failed = walk.host.deliveries(&format!("group={group}&state=HANDLE_FAIL&key=c")).await;
        let open = failed.into_iter().find(|delivery| delivery.next_attempt_at.is_some());
        open.ok_or_else(|| "none waits".to_owned())
    })
    .await;
    let path = format!("/v1/deliveries/{}/give-up", open.id);
    let subject = format!("{group} {topic}:0:{}", open.offset);
    let expected = ("give up", subject.as_str(), Some("was HANDLE_FAIL: entered by hand"));
    let body = Some(json!({ "reason": "entered by hand" }));
    walk.change(("post", "/v1/deliveries/{id}/give-up"), &path, body, expected).await;
}

async fn undelivered(walk: &mut Walk<'_>, topic: &str) {
    let message = Message { id: "shop".to_owned(), topic: topic.to_owned(), ..Message::default() };
    let record = outbound_from(&message, "").record;
    let row = |row: &str| NewUndelivered {
        shard: 0,
        message_id: format!("shop:{row}"),
        topic: topic.to_owned(),
        type_name: "OrderCreated".to_owned(),
        source: "shop".to_owned(),
        key: None,
        record: record.clone(),
        outbox: Some(("shop".to_owned(), row.to_owned())),
        code: "refused".to_owned(),
        reason: "too large".to_owned(),
    };
    let store = courier::store::open(&walk.host.store_url()).await.expect("the store opens beside the host");
    store.keep_undelivered(&[row("1"), row("2"), row("3")]).await.expect("the store keeps them");
    let page: Value = walk.host.get(&format!("/v1/undelivered?topic={topic}")).await;
    let ids: Vec<&str> = page["items"].as_array().into_iter().flatten().filter_map(|one| one["id"].as_str()).collect();
    let [third, second, first] = ids[..] else { panic!("{page}") };
    let subject = |row: &str| format!("shop:{row} to {topic}");
    let resend = ("resend undelivered", &*subject("1"), Some("too large"));
    walk.change(("post", "/v1/undelivered/{id}/resend"), &format!("/v1/undelivered/{first}/resend"), None, resend)
        .await;
    let (body, repair) = (json!({ "body": {} }), ("repair undelivered", &*subject("2"), Some("too large")));
    let path = format!("/v1/undelivered/{second}/repair");
    walk.change(("post", "/v1/undelivered/{id}/repair"), &path, Some(body), repair).await;
    let (body, give_up) = (json!({ "reason": "obsolete" }), ("give up undelivered", &*subject("3"), Some("obsolete")));
    let path = format!("/v1/undelivered/{third}/give-up");
    walk.change(("post", "/v1/undelivered/{id}/give-up"), &path, Some(body), give_up).await;
}

async fn sessions(walk: &mut Walk<'_>) {
    let client = reqwest::Client::new();
    let session = format!("{}/v1/session", walk.host.address());
    let opened = client.post(&session).json(&json!({ "token": "root-secret" })).send().await.expect("the host answers");
    assert_eq!(opened.status(), StatusCode::NO_CONTENT);
    let cookie = opened.headers()["set-cookie"].to_str().expect("a cookie is text").to_owned();
    let cookie = cookie.split(';').next().unwrap_or_default();
    walk.noted("post", "/v1/session", ("sign in", "root", Some("127.0.0.1"))).await;
    let me = client.get(format!("{}/v1/me", walk.host.address())).header("cookie", cookie).send().await;
    let me: Value = me.expect("the host answers").json().await.expect("it tells who asks");
    let csrf = me["csrf"].as_str().expect("a session has one");
    let closed = client.delete(&session).header("cookie", cookie).header("x-courier-csrf", csrf).send().await;
    assert_eq!(closed.expect("the host answers").status(), StatusCode::NO_CONTENT);
    walk.noted("delete", "/v1/session", ("sign out", "root", None)).await;
}
