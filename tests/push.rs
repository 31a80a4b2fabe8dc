//! `http-push`: an existing service as a handler, by TOML alone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use courier_core::status::State;
use courier_tests::kafka_client::create_topic;
use courier_tests::servers::process::free_port;
use courier_tests::{Delivery, Host, guest, kafka, turn, unique, wait_until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(60);

/// A service: the requests that it got, and its next answers.
#[derive(Clone, Default)]
pub(crate) struct Service {
    requests: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<Vec<&'static str>>>,
}

impl Service {
    /// Starts to listen.
    async fn start(&self, port: u16) {
        self.start_at("127.0.0.1", port).await;
    }

    /// Starts to listen at another address of this machine.
    pub(crate) async fn start_at(&self, address: &str, port: u16) {
        let listener = TcpListener::bind((address, port)).await.expect("the port is free");
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move { service.serve(stream).await });
            }
        });
    }

    /// Answers one request with the next of its answers, or with 204.
    async fn serve(&self, mut stream: TcpStream) {
        let mut got = Vec::new();
        while !is_whole(&got) {
            if stream.read_buf(&mut got).await.unwrap_or(0) == 0 {
                return;
            }
        }
        self.requests.lock().unwrap().push(String::from_utf8_lossy(&got).into_owned());
        let answer = self.answers.lock().unwrap().pop().unwrap_or("HTTP/1.1 204 No Content\r\n");
        let _ = stream.write_all(format!("{answer}content-length: 0\r\nconnection: close\r\n\r\n").as_bytes()).await;
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    body.len() >= length.parse::<usize>().expect("a length is a number")
}

fn binding(group: &str, topic: &str, port: u16, more: &str) -> String {
    format!(
        "group = \"{group}\"\ntopics = [\"{topic}\"]\nplugin = \"http-push\"\n{more}[binding.config]\nurl = \"http://localhost:{port}/courier\"\n"
    )
}

fn order(topic: &str, key: &str) -> Value {
    json!({ "topic": topic, "type": "OrderCreated", "key": key, "source": "tests", "body": { "orderId": key } })
}

async fn finished(host: &Host, message: Value) -> Delivery {
    let id = host.publish(message).await.id().to_owned();
    host.finished(&id, 1).await.deliveries.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_handles_what_is_pushed_and_an_uploaded_plugin_behaves_the_same() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "push", 1).await;
    let (service, port, group) = (Service::default(), free_port().unwrap(), unique("push"));
    service.start(port).await;
    let host = Host::builder("host-1").binding(&binding(&group, &topic, port, "")).start().await;
    for uploaded in [false, true] {
        if uploaded {
            let version = host.upload("http-push", guest("http-push")).await;
            wait_until("the uploaded plugin runs", SOON, async || {
                let delivery = finished(&host, order(&topic, "o-0")).await;
                let runs = delivery.attempts[0].version.as_deref() == Some(&version);
                if runs { Ok(()) } else { Err(delivery.brief()) }
            })
            .await;
            assert!(host.log().contains("took the place of the one that comes with the host"), "{}", host.log_tail());
        }
        let before = service.requests().len();
        let handled = finished(&host, order(&topic, "o-1")).await;
        assert_eq!(handled.state, State::Handled, "{}", handled.brief());
        let request = service.requests().remove(before).to_lowercase();
        for header in [
            "post /courier http/1.1",
            &format!("host: localhost:{port}"),
            "ce-type: ordercreated",
            "ce-partitionkey: o-1",
            &format!("courier-group: {group}"),
            &format!("courier-delivery: {}", handled.id),
            &format!("idempotency-key: {}", handled.id),
            "courier-attempt: 1",
            "traceparent: 00-",
        ] {
            assert!(request.contains(header), "{header} is in {request}");
        }
        assert!(request.ends_with(r#"{"orderid":"o-1"}"#), "{request}");
        service.answers.lock().unwrap().push("HTTP/1.1 422 No\r\n");
        let rejected = finished(&host, order(&topic, "o-2")).await;
        assert_eq!((rejected.state, rejected.reason.as_deref()), (State::HandleFail, Some("http 422")));
        if !uploaded {
            let version = rejected.attempts[0].version.as_deref().unwrap_or_default();
            assert!(version.starts_with("http-push@"), "{version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_uses_up_no_attempt_and_what_waited_is_handled_once_it_is_back() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "push", 1).await;
    let (service, port) = (Service::default(), free_port().unwrap());
    let (away, well) = (unique("away"), unique("well"));
    let other = free_port().unwrap();
    Service::default().start(other).await;
    let host = Host::builder("host-1")
        .binding(&binding(&away, &topic, port, ""))
        .binding(&binding(&well, &topic, other, ""))
        .start()
        .await;
    let id = host.publish(order(&topic, "o-1")).await.id().to_owned();
    let of = async |group: &str| -> Option<Delivery> {
        host.message(&id).await.deliveries.into_iter().find(|delivery| delivery.group == group)
    };
    wait_until("it was probed three times while the other binding was not touched", SOON, async || {
        let delivery = of(&away).await.ok_or("it has no row yet")?;
        let is_away = delivery.state == State::PushFail && delivery.attempts.len() >= 3;
        if is_away { Ok(()) } else { Err(delivery.brief()) }
    })
    .await;
    assert_eq!(of(&well).await.map(|delivery| delivery.state), Some(State::Handled));
    service.start(port).await;
    let handled = wait_until("it is handled", SOON, async || {
        let delivery = of(&away).await.ok_or("it is gone")?;
        if delivery.state == State::Handled { Ok(delivery) } else { Err(delivery.brief()) }
    })
    .await;
    let counted = handled.attempts.iter().filter(|attempt| attempt.counted).count();
    assert_eq!(counted, 1, "{}", handled.brief());
    assert_eq!(service.requests().len(), 1);
}
