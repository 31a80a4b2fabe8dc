//! HTTP requests of handlers: only those that the binding allows are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use courier_core::status::State;
use courier_tests::kafka_client::create_topic;
use courier_tests::{Delivery, Host, Store, kafka, scripted, turn, unique};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A service that answers every request with this head, and counts them.
async fn service(head: &'static str) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let count = Arc::new(AtomicUsize::new(0));
    let requests = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut got = [0; 4_096];
            if stream.read(&mut got).await.is_ok_and(|bytes| bytes > 0) {
                requests.fetch_add(1, Ordering::SeqCst);
                stream
                    .write_all(format!("{head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes())
                    .await
                    .ok();
            }
        }
    });
    (port, count)
}

async fn asked(host: &Host, topic: &str, url: &str) -> Delivery {
    let id = host.publish(scripted(topic, "k", &[&format!("http:{url}")])).await.id().to_owned();
    host.finished(&id, 1).await.deliveries.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_asks_what_its_binding_allows() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "http", 1).await;
    let (well, served) = service("HTTP/1.1 204 No Content").await;
    let (moved, _) = service("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/").await;
    let (missing, _) = service("HTTP/1.1 404 Not Found").await;
    let (other, never) = service("HTTP/1.1 200 OK").await;
    let policy = format!(
        "[binding.http]\nallow = [\"127.0.0.1:{well}\", \"127.0.0.1:{moved}\", \"127.0.0.1:{missing}\", \"localhost:{other}\"]"
    );
    let host = Host::scripted("host-1", Store::Sqlite, &unique("http"), &topic, &policy).await;

    for port in [well, moved] {
        let handled = asked(&host, &topic, &format!("http://127.0.0.1:{port}/x")).await;
        assert_eq!(handled.state, State::Handled, "{}", handled.brief());
    }
    assert_eq!(served.load(Ordering::SeqCst), 1);
    let rejected = asked(&host, &topic, &format!("http://127.0.0.1:{missing}/")).await;
    assert_eq!(
        (rejected.verdict.as_deref(), rejected.reason.as_deref()),
        (Some("reject"), Some("scripted: http 404")),
        "{}",
        rejected.brief()
    );
    // The port is not listed; the name leads to this machine.
    for (url, expected) in [
        (format!("http://127.0.0.1:{other}/"), format!("add \"127.0.0.1:{other}\" to allow in [binding.http]")),
        (format!("http://localhost:{other}/"), "private = true".to_owned()),
    ] {
        let refused = asked(&host, &topic, &url).await;
        assert_eq!(refused.state, State::HandleFail, "{}", refused.brief());
        let attempt = &refused.attempts[0];
        for said in [&attempt.reason, &attempt.log] {
            assert!(said.as_deref().is_some_and(|said| said.contains(&expected)), "{said:?}");
        }
    }
    assert_eq!(never.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_section_nothing_goes_out() {
    let _turn = turn::shared().await;
    let topic = create_topic(kafka().bootstrap(), "no-http", 1).await;
    let (port, never) = service("HTTP/1.1 200 OK").await;
    let host = Host::scripted("host-1", Store::Sqlite, &unique("no-http"), &topic, "").await;
    let refused = asked(&host, &topic, &format!("http://127.0.0.1:{port}/")).await;
    let reason = refused.reason.as_deref().unwrap_or_default();
    assert!(reason.contains(&format!("add \"127.0.0.1:{port}\" to allow in [binding.http]")), "{reason}");
    assert_eq!(never.load(Ordering::SeqCst), 0);
}
