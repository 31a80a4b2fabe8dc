//! Transactional messages on real Kafka: they exist if and only if their sender's
//! transaction committed, whatever happens to the host.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use courier_core::status::State;
use courier_tests::kafka_client::{create_topic, read_topic};
use courier_tests::{Host, Store, encode, guest, kafka, scripted_binding, turn, unique, wait_until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// A sender that the host asks about its transactions. It gives the answer that
/// the test set, and counts the requests.
#[derive(Clone, Default)]
struct Sender {
    known: Arc<Mutex<HashMap<String, (&'static str, u32)>>>,
}

impl Sender {
    fn listen(&self) -> SocketAddr {
        self.listen_on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn listen_on(&self, listener: TcpListener) -> SocketAddr {
        let address = listener.local_addr().unwrap();
        let sender = self.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| sender.answer(stream)));
        address
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut line = String::new();
        let Ok(reading) = stream.try_clone() else { return };
        let mut reader = BufReader::new(reading);
        // A host that is killed during its request sends no line.
        if !reader.read_line(&mut line).is_ok_and(|read| read > 0) {
            return;
        }
        let mut header = String::new();
        while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
            header.clear();
        }
        let id = line.split("id=").nth(1).and_then(|rest| rest.split([' ', '&']).next()).unwrap_or_default().to_owned();
        let state = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = known.entry(id).or_insert(("UNKNOWN", 0));
            entry.1 += 1;
            entry.0
        };
        let body = json!({ "state": state }).to_string();
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
    }

    fn says(&self, id: &str, state: &'static str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_insert((state, 0)).0 = state;
    }

    fn asked(&self, id: &str) -> u32 {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(id).map_or(0, |(_, times)| *times)
    }
}

async fn prepare(host: &Host, topic: &str, id: &str, more: Value) -> String {
    let message = json!({ "topic": topic, "type": "Scripted", "id": id, "key": "k", "body": { "do": ["ok"] } });
    let mut body = json!({ "messages": [message] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let prepared = host.post("/v1/transactions", body, 201).await;
    assert_eq!(prepared["state"], "PREPARED", "{prepared}");
    prepared["id"].as_str().unwrap().to_owned()
}

async fn end(host: &Host, id: &str, how: &str) -> (StatusCode, Value) {
    host.request(Method::POST, &format!("/v1/transactions/{}/{how}", encode(id)), None).await
}

async fn becomes(host: &Host, id: &str, state: &str) -> Value {
    wait_until(&format!("{id} is {state}"), SOON, async || {
        let found: Value = host.get(&format!("/v1/transactions/{}", encode(id))).await;
        if found["state"] == state { Ok(found) } else { Err(found.to_string()) }
    })
    .await
}

async fn is_unknown(host: &Host, id: &str) {
    let (status, body) = host.request(Method::GET, &format!("/v1/messages/{id}"), None).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
}

async fn decided_by_its_sender(store: Store) {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "halves", 2).await;
    let group = unique("halves");
    let host = Host::scripted("host-1", store, &group, &topic, "").await;
    let committed = prepare(&host, &topic, &unique("go"), json!({})).await;
    let dropped_id = unique("drop");
    let dropped = prepare(&host, &topic, &dropped_id, json!({ "timeout": "10s" })).await;
    // A prepared message is visible to nobody.
    is_unknown(&host, &dropped_id).await;
    assert!(read_topic(kafka().bootstrap(), &topic).await.is_empty());

    assert_eq!(end(&host, &dropped, "rollback").await.1["state"], "ROLLED_BACK");
    let (status, body) = end(&host, &committed, "commit").await;
    assert_eq!((status, &body["state"]), (StatusCode::OK, &json!("COMMITTED")), "{body}");
    // The same end again gets the same answer; the contrary is refused.
    assert_eq!(end(&host, &committed, "commit").await.0, StatusCode::OK);
    assert_eq!(end(&host, &committed, "rollback").await.0, StatusCode::CONFLICT);
    assert_eq!(end(&host, &dropped, "commit").await.0, StatusCode::CONFLICT);
    let (status, _) = end(&host, "no-such-transaction", "commit").await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let id = body["messages"][0]["id"].as_str().unwrap();
    // A handler may finish before the relay has written Kafka's acknowledgement.
    let message = wait_until("its row says that it is on kafka", SOON, async || {
        let message = host.finished(id, 1).await;
        if message.state == State::SendFail { Err(format!("{message:?}")) } else { Ok(message) }
    })
    .await;
    assert_eq!((message.state, message.deliveries[0].state), (State::Committed, State::Handled));
    is_unknown(&host, &dropped_id).await;
    assert_eq!(read_topic(kafka().bootstrap(), &topic).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_decides() {
    decided_by_its_sender(Store::of_this_pass()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_sender_is_asked_also_after_a_kill() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "asked", 1).await;
    let group = unique("asked");
    let sender = Sender::default();
    let address = sender.listen();
    let allowed = format!("[transactions]\ncheck_urls = [\"http://{address}/*\"]");
    let builder = Host::builder("host-1").store(Store::Postgres).table(&allowed);
    let host = builder.binding(&scripted_binding(&group, &topic, "")).start().await;
    host.upload("scripted", guest("scripted")).await;
    let url = |path: &str| json!({ "check_url": format!("http://{address}/{path}"), "timeout": "3s" });

    let elsewhere =
        json!({ "messages": [{ "topic": topic, "type": "T", "body": {} }], "check_url": "http://127.0.0.1:1/x" });
    let (status, refused) = host.request(Method::POST, "/v1/transactions", Some(elsewhere)).await;
    assert!(status.is_client_error(), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("check_urls"), "{refused}");

    let (go, drop, silent) = (unique("go"), unique("drop"), unique("silent"));
    let committed = prepare(&host, &topic, &go, url("check")).await;
    let dropped = prepare(&host, &topic, &drop, url("check")).await;
    let unknown = prepare(&host, &topic, &silent, url("check?shop=1")).await;
    sender.says(&committed, "COMMITTED");
    sender.says(&dropped, "ROLLED_BACK");
    // The host ends before it asked; the next one asks.
    host.kill9();
    host.start_again().await;
    becomes(&host, &committed, "COMMITTED").await;
    becomes(&host, &dropped, "ROLLED_BACK").await;
    assert_eq!(host.finished(&go, 1).await.deliveries[0].state, State::Handled);
    is_unknown(&host, &drop).await;
    assert_eq!(sender.asked(&dropped), 1);
    // A sender that does not know is asked again, at growing intervals; a person
    // can end the transaction.
    let found = wait_until("it is asked twice", SOON, async || {
        let found: Value = host.get(&format!("/v1/transactions/{unknown}")).await;
        if found["checks"].as_u64() >= Some(2) { Ok(found) } else { Err(found.to_string()) }
    })
    .await;
    assert_eq!(
        (found["state"].as_str(), found["last_answer"].as_str()),
        (Some("PREPARED"), Some("it answered UNKNOWN")),
        "{found}"
    );
    assert_eq!(end(&host, &unknown, "rollback").await.1["state"], "ROLLED_BACK");
    assert_eq!(read_topic(kafka().bootstrap(), &topic).await.len(), 1);
}

/// A prepared message is kept until it ends, so their number is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_prepared_than_the_bound_allows() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "bounded", 1).await;
    let host = Host::builder("host-1").start().await;
    let options: sqlx::sqlite::SqliteConnectOptions = host.store_url().parse().unwrap();
    let database = sqlx::SqlitePool::connect_with(options.busy_timeout(SOON)).await.unwrap();
    let later = (jiff::Timestamp::now().as_microsecond()) + 3_600_000_000;
    sqlx::query(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10000)
         INSERT INTO half_message (id, state, timeout, created_at, deadline, next_check_at)
         SELECT 'other-' || n, 1, 3600000000, 1, ?1, ?1 FROM n",
    )
    .bind(later)
    .execute(&database)
    .await
    .unwrap();
    let one = json!({ "messages": [{ "topic": topic, "type": "T", "body": {} }] });
    let (status, refused) = host.request(Method::POST, "/v1/transactions", Some(one.clone())).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("10000 transactions are prepared"), "{refused}");
    assert_eq!(end(&host, "other-1", "rollback").await.0, StatusCode::OK);
    assert_eq!(host.request(Method::POST, "/v1/transactions", Some(one)).await.0, StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_nobody_ends_is_abandoned_for_all_to_see() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "abandoned", 1).await;
    let host = Host::scripted("host-1", Store::Sqlite, &unique("abandoned"), &topic, "").await;
    let id = unique("late");
    let transaction = prepare(&host, &topic, &id, json!({ "timeout": "1s" })).await;
    let found = becomes(&host, &transaction, "ABANDONED").await;
    assert!(found["reason"].is_string() && found["ended_at"].is_string(), "{found}");
    is_unknown(&host, &id).await;
    let listed: Value = host.get("/v1/transactions?state=ABANDONED").await;
    assert_eq!(listed["items"][0]["id"], json!(transaction), "{listed}");
    // Its sender comes late, and its transaction had committed.
    assert_eq!(end(&host, &transaction, "commit").await.1["state"], "COMMITTED");
    assert_eq!(host.finished(&id, 1).await.deliveries[0].state, State::Handled);
    assert_eq!(end(&host, &transaction, "rollback").await.0, StatusCode::CONFLICT);
}

/// Issue 16: a message whose check_url refused connections for a while was
/// ABANDONED after 6 requests, and a later commit got 409 "final".
#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_cannot_be_asked_is_asked_until_it_answers() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "unreachable", 1).await;
    let sender = Sender::default();
    // An address that refuses connections until the sender is back.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let allowed = format!("[transactions]\ncheck_urls = [\"http://{address}/*\"]");
    let group = unique("unreachable");
    let builder = Host::builder("host-1").table(&allowed).binding(&scripted_binding(&group, &topic, ""));
    let host = builder.start().await;
    host.upload("scripted", guest("scripted")).await;
    let id = unique("late");
    let url = json!({ "check_url": format!("http://{address}/check"), "timeout": "1ms" });
    let transaction = prepare(&host, &topic, &id, url).await;
    // Meanwhile no other message can take its id.
    let taker = json!({ "topic": topic, "type": "T", "id": id, "body": {} });
    let (status, refused) = host.request(Method::POST, "/v1/messages", Some(taker)).await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains(&transaction), "{refused}");
    let attention = wait_until("it needs attention and is asked more than six times", SOON, async || {
        let found: Value = host.get(&format!("/v1/transactions/{transaction}")).await;
        if found["checks"].as_u64() <= Some(6) {
            return Err(found.to_string());
        }
        assert_eq!(found["state"], "PREPARED", "{found}");
        let overview: Value = host.get("/v1/overview").await;
        let all = overview["attention"].as_array().cloned().unwrap_or_default();
        let about = all.into_iter().find(|one| one["kind"] == "transaction_unreachable");
        about.ok_or_else(|| overview["attention"].to_string())
    })
    .await;
    assert_eq!(attention["subject"], json!(transaction));
    assert!(attention["since"].is_string() && attention["detail"].as_str().unwrap().contains("did not answer"));
    sender.says(&transaction, "COMMITTED");
    sender.listen_on(TcpListener::bind(address).unwrap());
    becomes(&host, &transaction, "COMMITTED").await;
    assert_eq!(host.finished(&id, 1).await.deliveries[0].state, State::Handled);
}
