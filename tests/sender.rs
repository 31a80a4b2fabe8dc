//! The sender's side: receipts of the client, and true answers in every outage.

use std::time::Duration;

use courier_client::{PublishError, Publisher, State as Sent};
use courier_core::status::State;
use courier_sdk::Event;
use courier_tests::kafka_client::{create_named_topic, create_topic, read_topic};
use courier_tests::servers::Kafka;
use courier_tests::shapes::{Message, Page};
use courier_tests::{Host, Store, guest, kafka, postgres, scale, scripted_binding, turn, unique, wait_until};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::postgres::PgPool;

const SOON: Duration = Duration::from_secs(60);

#[derive(Event, Serialize)]
#[event(topic = "sender-order")]
struct OrderCreated {
    #[primary_key]
    order_id: String,
    order_name: String,
}

fn order(id: &str, name: &str) -> OrderCreated {
    OrderCreated { order_id: id.to_owned(), order_name: name.to_owned() }
}

/// The client's receipts, its source and trace, and one message for one id on
/// every host.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_answered_for_each_message() {
    let _turn = turn::shared().await;
    create_named_topic(kafka().bootstrap(), OrderCreated::TOPIC, 4, &[]).await;
    let group = unique("sender");
    let shop = postgres().create_database().unwrap();
    let outbox = format!("[[outbox]]\nname = \"shop\"\nurl = \"{shop}\"\n");
    let binding = scripted_binding(&group, OrderCreated::TOPIC, "");
    let first = Host::builder("host-1").store(Store::Postgres).binding(&binding).table(&outbox).start().await;
    let second = Host::builder("host-2").store_url(&first.store_url()).binding(&binding).table(&outbox).start().await;
    first.upload("scripted", guest("scripted")).await;
    let pool = PgPool::connect(&shop).await.unwrap();
    let schema = first.outbox_schema(&["postgres"]);
    sqlx::raw_sql(sqlx::AssertSqlSafe(schema)).execute(&pool).await.unwrap();

    let publisher = Publisher::new(first.address()).unwrap().source("shop");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    // Kafka is up: an answer that only promised the message would be wrong.
    let plain = publisher.traced(trace).publish(&order("o-1", "a kettle")).await.unwrap();
    assert_eq!((plain.state, plain.retrying), (Sent::Committed, false));
    let mut tx = pool.begin().await.unwrap();
    let kept = publisher.traced(trace).publish_in(&mut tx, &order("o-2", "kept")).await.unwrap();
    tx.commit().await.unwrap();
    let many: Vec<OrderCreated> = (0..20).map(|step| order("o-3", &step.to_string())).collect();
    let many = publisher.publish_all(&many).await.unwrap();
    let many: Vec<String> = many.into_iter().map(|answer| answer.unwrap().id).collect();
    // The same draft twice is one message; another draft with its id is refused.
    let draft = publisher.draft(&order("o-4", "once")).unwrap().with_id(unique("own"));
    let once = publisher.send(draft.clone()).await.unwrap();
    assert_eq!(Publisher::new(second.address()).unwrap().source("shop").send(draft.clone()).await.unwrap(), once);
    let other = publisher.draft(&order("o-4", "other")).unwrap().with_id(draft.id());
    let refused = publisher.send(other).await.unwrap_err();
    assert!(matches!(refused, PublishError::Refused { status: 409, .. }), "{refused}");

    for id in [&plain.id, &kept, &once.id].into_iter().chain(&many) {
        let message = second.finished(id, 1).await;
        assert_eq!((message.state, message.deliveries[0].state), (State::Committed, State::Handled), "{message:?}");
        assert_eq!(message.source.as_deref(), Some("shop"));
    }
    for id in [&plain.id, &kept] {
        assert_eq!(first.message(id).await.headers["traceparent"], trace);
    }
}

/// The messages listed as refused; the list has no deliveries.
async fn refused(host: &Host, topic: &str) -> Vec<Value> {
    host.get::<Page<Value>>(&format!("/v1/messages?state=SEND_FAIL&topic={topic}")).await.items
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_says_why_and_is_kept_for_people() {
    let _turn = turn::shared().await;
    for store in [Store::Sqlite, Store::Postgres] {
        let topic = create_topic(kafka().bootstrap(), "refused", 1).await;
        let schema = r#"{"type": "object", "required": ["order_id"], "properties": {"order_id": {"type": "string"}}}"#;
        let host = Host::builder("host-1").store(store);
        let host =
            host.table(&format!("[[topic]]\nname = \"{topic}\"\nschema = \"order.json\"\ntypes = [\"Order\"]\n"));
        let host = host.prepare();
        std::fs::write(host.config().with_file_name("order.json"), schema).unwrap();
        host.start_again().await;
        let post = async |body: Value| host.request(Method::POST, "/v1/messages", Some(body)).await;
        // Messages that cannot even be parsed.
        for (id, odd) in [("field", json!({ "oops": 1 })), ("base64", json!({ "body_base64": "%" }))] {
            let mut message = json!({ "id": id, "topic": topic, "type": "T", "body": { "n": id } });
            message.as_object_mut().unwrap().extend(odd.as_object().unwrap().clone());
            let (status, problem) = post(message).await;
            assert_eq!((status.as_u16(), &problem["id"]), (400, &json!(id)), "{problem}");
            let kept = host.message(id).await;
            assert_eq!((kept.state, kept.retrying), (State::SendFail, Some(false)));
            assert_eq!(kept.reason.as_deref(), problem["detail"].as_str(), "the row says what the answer said");
            assert_eq!(kept.kind_of_event.as_deref(), Some("T"));
            let (status, _) = host.request(Method::POST, &format!("/v1/messages/{id}/resend"), None).await;
            assert_eq!(status.as_u16(), 409, "there is nothing right to send again");
        }
        let path = format!("/v1/messages?topic={topic}");
        let (status, problem) =
            host.send(Method::POST, &path, &[("content-type", "application/json")], b"{\"body\": ".to_vec()).await;
        assert_eq!(status.as_u16(), 400, "{problem}");
        assert!(refused(&host, &topic).await.iter().any(|row| row["id"] == problem["id"]));
        // A message that breaks the schema, and its correction under the same id.
        let order = |body: Value| json!({ "id": "o-1", "topic": topic, "type": "Order", "body": body });
        let (status, problem) = post(order(json!({ "order_id": 7 }))).await;
        assert_eq!(status.as_u16(), 422, "{problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("body/order_id") && detail.contains("/properties/order_id/type"), "{detail}");
        assert_eq!(host.message("o-1").await.state, State::SendFail);
        let (status, again) = post(order(json!({ "order_id": 7 }))).await;
        assert!(status.is_client_error(), "{again}");
        assert_eq!(post(order(json!({ "order_id": "7" }))).await.0.as_u16(), 202, "a corrected one takes its place");
        assert_eq!(host.message("o-1").await.state, State::Committed);
        let (status, conflict) = post(order(json!({ "order_id": "8" }))).await;
        assert_eq!(status.as_u16(), 409, "what is on kafka keeps its id: {conflict}");
        // Another type of the topic has no schema.
        assert_eq!(post(json!({ "topic": topic, "type": "Other", "body": 1 })).await.0.as_u16(), 202);
        assert_eq!(read_topic(kafka().bootstrap(), &topic).await.len(), 2);
        // A schema that is gone is an error of the file; the old one stays in force.
        std::fs::remove_file(host.config().with_file_name("order.json")).unwrap();
        let config = host.config().display().to_string();
        let (status, _, errors) = host.cli(&["check", "--config", &config]);
        assert!(!status.success() && errors.contains("cannot read the schema"), "{errors}");
        host.sighup();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(post(order(json!({ "order_id": [] }))).await.0.as_u16(), 422);
    }
}

/// Kafka goes away while messages are sent: each answer is true, and every
/// accepted message arrives.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_true_while_kafka_is_away() {
    let _turn = turn::heavy().await;
    let kafka = Kafka::start("sender").unwrap();
    let topic = create_topic(kafka.bootstrap(), "away", 4).await;
    let host = Host::builder("host-1").kafka(kafka.bootstrap()).store(Store::Postgres).start().await;
    let count: usize = scale(1_000, 10_000);
    let mut answers: Vec<(String, State, bool)> = Vec::new();
    let sender = async |from: usize, to: usize, answers: &mut Vec<(String, State, bool)>| {
        for start in (from..to).step_by(50) {
            let messages = (start..to.min(start + 50)).map(|number| {
                let key = (number % 20).to_string();
                json!({ "id": format!("m-{number}"), "topic": topic, "type": "T", "key": key, "body": number })
            });
            for taken in host.publish_all(messages.collect()).await {
                answers.push((taken.id().to_owned(), taken.state, taken.retrying == Some(true)));
            }
        }
    };
    sender(0, count / 4, &mut answers).await;
    kafka.stop().unwrap();
    sender(count / 4, count * 3 / 4, &mut answers).await;
    // While Kafka is away, the rows agree with the answers. A message that Kafka
    // had not acknowledged in time may have arrived since.
    for (place, (id, state, retrying)) in answers.iter().enumerate().step_by(37) {
        let row = host.message(id).await;
        match state {
            State::Committed => assert_eq!(row.state, State::Committed, "{id}"),
            _ if place < count / 4 => assert!(*retrying, "{id}"),
            _ => assert_eq!((row.state, row.retrying, *retrying), (State::SendFail, Some(true), true), "{id}"),
        }
    }
    kafka.start_again().unwrap();
    sender(count * 3 / 4, count, &mut answers).await;
    assert_eq!(answers.len(), count);
    assert!(answers.iter().any(|(_, state, _)| *state == State::SendFail), "some were sent while kafka was away");
    assert!(answers.iter().all(|(_, state, retrying)| *state == State::Committed || *retrying), "none was refused");
    wait_until("all are on kafka", SOON + SOON, async || {
        let open: Page<Message> = host.get(&format!("/v1/messages?state=SEND_FAIL&topic={topic}&limit=1000")).await;
        if open.items.is_empty() { Ok(()) } else { Err(format!("{} are not", open.items.len())) }
    })
    .await;
    let records = read_topic(kafka.bootstrap(), &topic).await;
    let mut seen = std::collections::HashSet::new();
    let mut last: std::collections::BTreeMap<Vec<u8>, u64> = std::collections::BTreeMap::new();
    for record in records.iter().filter(|record| seen.insert(record.header("ce_id"))) {
        let number = record.json().as_u64().unwrap();
        let before = last.insert(record.key.clone().unwrap(), number);
        assert!(before.is_none_or(|before| before < number), "{number} after {before:?}");
    }
    assert_eq!(seen.len(), count, "every message that was taken arrived");
    let waited = answers.iter().filter(|(_, state, _)| *state == State::SendFail).count();
    println!("{count} sent, {waited} of them answered SEND_FAIL and retrying; all arrived, {} records", records.len());
}
