//! A publisher against a host that misbehaves in ways a real one seldom does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use courier_client::{PublishError, Publisher, State, Which};
use courier_sdk::Event;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Mutex;

#[derive(Event, Serialize)]
#[event(topic = "order")]
struct OrderCreated {
    #[primary_key]
    order_id: String,
}

/// Answers one request a connection, each with the next of `answers`; an empty
/// one is a connection that breaks off. What was asked is kept.
async fn host(answers: &'static [(u16, &'static str)]) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (seen, next) = (Arc::clone(&asked), AtomicUsize::new(0));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let mut part = [0; 4096];
            loop {
                let read = stream.read(&mut part).await.unwrap();
                request.extend_from_slice(&part[..read]);
                let text = String::from_utf8_lossy(&request);
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    break;
                }
            }
            seen.lock().await.push(String::from_utf8_lossy(&request).into_owned());
            let (status, body) = answers[next.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1)];
            if status > 0 {
                let answer =
                    format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (url, asked)
}

fn event() -> OrderCreated {
    OrderCreated { order_id: "o-1".into() }
}

fn id(request: &str) -> String {
    request.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_message_is_tried_again_under_its_id_until_it_is_taken() {
    let (url, asked) = host(&[
        (0, ""),
        (503, r#"{"title":"the store is not available","status":503}"#),
        (202, r#"{"id":"m","state":"SEND_FAIL","retrying":true}"#),
    ])
    .await;
    let publisher = Publisher::new(&url).unwrap().token("secret").traced("00-a-b-01");
    let receipt = publisher.publish(&event()).await.unwrap();
    assert_eq!((receipt.state, receipt.retrying), (State::SendFail, true));
    let asked = asked.lock().await;
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|request| !id(request).is_empty() && id(request) == id(&asked[0])), "{asked:?}");
    let head = asked[0].to_lowercase();
    assert!(head.contains("authorization: bearer secret") && head.contains("traceparent: 00-a-b-01"), "{head}");
}

#[tokio::test]
async fn what_would_be_refused_each_time_is_not_tried_again() {
    let (url, asked) = host(&[(409, r#"{"title":"id is taken","status":409,"detail":"x","id":"m"}"#)]).await;
    let error = Publisher::new(&url).unwrap().publish(&event()).await.unwrap_err();
    assert!(matches!(&error, PublishError::Refused { status: 409, .. }) && !error.can_retry(), "{error}");
    assert_eq!(asked.lock().await.len(), 1);
}

#[tokio::test]
async fn a_publisher_gives_up_in_its_time_and_hands_the_message_back() {
    let (url, _) = host(&[(503, "")]).await;
    let publisher = Publisher::new(&url).unwrap().timeout(Duration::from_millis(300));
    let begun = std::time::Instant::now();
    let error = publisher.publish(&event()).await.unwrap_err();
    assert!(error.can_retry() && begun.elapsed() < Duration::from_secs(2), "{error} after {:?}", begun.elapsed());
    let PublishError::GaveUp { draft, .. } = error else { panic!() };
    assert!(!draft.id().is_empty());
}

#[tokio::test]
async fn of_many_only_those_without_an_answer_are_sent_again() {
    let (url, asked) = host(&[
        (
            202,
            r#"{"items":[{"id":"a","state":"COMMITTED"},
                {"id":"b","state":"SEND_FAIL","problem":{"title":"the store is not available","status":503}},
                {"id":"c","state":"SEND_FAIL","problem":{"title":"invalid message","status":400}}]}"#,
        ),
        (202, r#"{"items":[{"id":"b","state":"COMMITTED"}]}"#),
    ])
    .await;
    let answers = Publisher::new(&url).unwrap().publish_all(&[event(), event(), event()]).await.unwrap();
    assert!(matches!(&answers[..], [Ok(_), Ok(_), Err(PublishError::Refused { status: 400, .. })]), "{answers:?}");
    let asked = asked.lock().await;
    assert_eq!(asked.iter().map(|request| request.matches("\"id\":").count()).collect::<Vec<_>>(), [3, 1]);
}

#[tokio::test]
async fn a_topic_or_a_source_says_which_message_of_an_id_is_meant() {
    const VIEW: &str = r#"{"id":"o-1","topic":"order","kind":"event","time":"2026-01-31T08:00:00Z","state":"COMMITTED",
        "retrying":false,"also":[{"topic":"stock","partition":0,"offset":7,"source":"shop","time":null,
        "created_at":null,"state":"COMMITTED"}]}"#;
    let (url, asked) = host(&[(200, VIEW)]).await;
    let publisher = Publisher::new(&url).unwrap();
    let which = Which { topic: Some("a/b &c"), source: Some("shop") };
    let found = publisher.ask_for("o-1", which).await.unwrap();
    assert_eq!((found.also[0].topic.as_str(), found.also[0].offset), ("stock", Some(7)));
    publisher.cancel_for("o-1", which).await.unwrap();
    publisher.ask("o-1").await.unwrap();
    let asked = asked.lock().await;
    let lines: Vec<&str> = asked.iter().filter_map(|request| request.lines().next()).collect();
    let query = "topic=a%2Fb+%26c&source=shop";
    assert_eq!(lines[0], format!("GET /v1/messages/o-1?{query} HTTP/1.1"));
    assert_eq!(lines[1], format!("DELETE /v1/messages/o-1?{query} HTTP/1.1"));
    assert_eq!(lines[2], "GET /v1/messages/o-1 HTTP/1.1");
}

#[test]
fn a_host_that_is_no_url_is_told() {
    for wrong in ["", "localhost:7070", "ftp://a", "mailto:a@b"] {
        assert!(matches!(Publisher::new(wrong), Err(PublishError::Invalid { .. })), "{wrong}");
    }
}
