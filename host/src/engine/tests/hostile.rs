//! Tests of `http-push` against hostile services: each attempt ends within its
//! limits, with a reason that names what happened.

use std::pin::Pin;

use hyper::body::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::engine::builtin::Builtin;
use crate::engine::http::{HttpOut, HttpRules};

const CA: &str = include_str!("tls/ca.pem");
const TIMEOUT: Duration = Duration::from_secs(5);

type Serving = Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>>;

/// The behaviour of a service on each connection.
type Service = fn(TcpStream) -> Serving;

/// Starts a service on this machine and returns its port.
async fn serve(service: Service) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // The test expects the other side to give up.
            tokio::spawn(async move { drop(service(stream).await) });
        }
    });
    port
}

/// Reads the head of a request.
async fn request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut got = Vec::new();
    while !got.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut got).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Answers with these bytes and ends the connection.
async fn answer(mut stream: TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    request(&mut stream).await?;
    stream.write_all(bytes).await?;
    stream.shutdown().await
}

/// Begins an answer and sends the same bytes for ever.
async fn flood(mut stream: TcpStream, head: &str, more: &[u8], pause: Duration) -> std::io::Result<()> {
    request(&mut stream).await?;
    stream.write_all(head.as_bytes()).await?;
    loop {
        stream.write_all(more).await?;
        tokio::time::sleep(pause).await;
    }
}

async fn tls(stream: TcpStream, chain: &str) -> std::io::Result<()> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
    let mut got = [0; 4_096];
    let _ = stream.read(&mut got).await?;
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await
}

/// The result of an attempt that calls a URL.
async fn push(engine: &Engine, url: String) -> Ended {
    let own_url = Some(url.parse().unwrap());
    let rules = HttpRules { own_url, ca: Some(CA.into()), ..HttpRules::default() };
    let policy = Policy {
        memory: 64 << 20,
        cpu: Duration::from_millis(500),
        timeout: TIMEOUT,
        http: Some(Arc::new(HttpOut::new(rules))),
        cache: true,
        config: BTreeMap::from([("url".to_owned(), url)]),
        ..policy()
    };
    let builtin = Builtin::named("http-push").unwrap();
    let plugin = engine.prepare(Bytes::from_static(builtin.wasm)).await.unwrap();
    sandbox(engine, policy).run_batch(&plugin, &[call(&message())]).await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_at_a_hostile_service_ends_with_what_happened() {
    const SLOW: Duration = Duration::from_millis(50);
    let services: [(&str, Service, Verdict, &str); 13] = [
        (
            "never answers",
            |mut stream| {
                Box::pin(async move {
                    request(&mut stream).await?;
                    std::future::pending().await
                })
            },
            Verdict::Retry,
            "no answer in time",
        ),
        (
            "answers byte by byte",
            |stream| Box::pin(flood(stream, "HTTP/1.1 200 OK\r\nx: ", b"y", SLOW)),
            Verdict::Retry,
            "no answer in time",
        ),
        (
            "sends a body byte by byte",
            |stream| Box::pin(flood(stream, "HTTP/1.1 422 No\r\ncontent-length: 1000000\r\n\r\n", b"y", SLOW)),
            Verdict::Reject,
            "http 422",
        ),
        (
            "sends a body of 1 GiB",
            |stream| {
                let head = "HTTP/1.1 500 No\r\ncontent-length: 1073741824\r\n\r\n";
                Box::pin(async move { flood(stream, head, &vec![b'x'; 1 << 16], Duration::ZERO).await })
            },
            Verdict::Retry,
            "http 500",
        ),
        (
            "sends headers without end",
            |stream| {
                let more = b"x-more: and more\r\n".repeat(64);
                Box::pin(async move { flood(stream, "HTTP/1.1 200 OK\r\n", &more, Duration::ZERO).await })
            },
            Verdict::Retry,
            "too many headers",
        ),
        (
            "has a certificate for another name",
            |stream| Box::pin(tls(stream, include_str!("tls/wrong.pem"))),
            Verdict::Unavailable,
            "not valid for name",
        ),
        (
            "has a certificate that expired",
            |stream| Box::pin(tls(stream, include_str!("tls/expired.pem"))),
            Verdict::Unavailable,
            "certificate expired",
        ),
        ("closes after the request", |stream| Box::pin(answer(stream, b"")), Verdict::Retry, "connection broke off"),
        (
            "speaks HTTP/0.9",
            |stream| Box::pin(answer(stream, b"<html>welcome to 1991</html>\n")),
            Verdict::Retry,
            "no HTTP/1.1",
        ),
        (
            "redirects to where clouds keep their secrets",
            |stream| {
                let moved =
                    b"HTTP/1.1 301 Moved\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n";
                Box::pin(answer(stream, moved))
            },
            Verdict::Unavailable,
            "redirects to http://169.254.169.254/latest, which is not followed",
        ),
        (
            "sends a gzip bomb",
            |stream| {
                let head = "HTTP/1.1 500 No\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n";
                // A gzip block of zeros, over and over.
                let more = b"8\r\n\xed\xc1\x01\x0d\x00\x00\x00\xc2\r\n";
                Box::pin(async move { flood(stream, head, more, Duration::ZERO).await })
            },
            Verdict::Retry,
            "http 500",
        ),
        (
            "breaks off in its body after it was done",
            |stream| Box::pin(answer(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhi")),
            Verdict::Success,
            "",
        ),
        ("is good", |stream| Box::pin(tls(stream, include_str!("tls/good.pem"))), Verdict::Success, ""),
    ];
    let engine =
        Engine::new(EngineSettings { compiler: None, cache_dir: None, cache_key: [0; 32], slots: 16 }).unwrap();
    let attempts = services.map(|(what, service, verdict, reason)| {
        let engine = &engine;
        async move {
            let port = serve(service).await;
            let scheme = if what.contains("certificate") || what == "is good" { "https" } else { "http" };
            (what, verdict, reason, push(engine, format!("{scheme}://localhost:{port}/")).await)
        }
    });
    for (what, verdict, reason, ended) in futures::future::join_all(attempts).await {
        let found = ended.reason.as_deref().unwrap_or_default();
        assert_eq!(ended.verdict, verdict, "a service that {what}: {found}");
        assert!(found.contains(reason), "a service that {what}: {found}");
    }
}
