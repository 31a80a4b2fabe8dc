//! The HTTP listener of the API.
//!
//! The number of connections is bounded ([`connections`]), and a connection
//! without a request in time is closed: clients that only hold connections open
//! could otherwise use up the descriptors of the process. With `[server.tls]`
//! each connection begins with a handshake under the certificate in force at
//! that moment. A client that reads nothing of its answer is cut off
//! ([`super::stalled_reader`]). The API itself bounds requests.
//!
//! [`connections`]: super::connections

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::{Bounds, OpenConnections};
use super::stalled_reader::StalledReader;

/// How long to wait when a connection cannot be taken, for want of
/// descriptors, say.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// The answer to a client whose address has too many connections.
const TOO_MANY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nretry-after: 1\r\n\
    connection: close\r\ncontent-length: 64\r\n\r\n\
    this address has half of all connections open: close some first\n";

/// The certificate in force; none where connections are plain.
pub type Certificate = Option<watch::Receiver<Arc<ServerConfig>>>;

/// What all connections share.
#[derive(Clone)]
struct Door {
    api: Router,
    bounds: Bounds,
    certificate: Certificate,
    stop: CancellationToken,
}

/// Answers requests until it is told to stop and those under way are answered.
pub async fn keep(
    listener: TcpListener,
    api: Router,
    bounds: Bounds,
    certificate: Certificate,
    stop: CancellationToken,
) {
    let counted = OpenConnections::new(bounds.connections);
    let tasks = TaskTracker::new();
    let door = Door { api, bounds, certificate, stop: stop.clone() };
    loop {
        let accepted = async {
            let room = counted.room().await;
            (room, listener.accept().await)
        };
        let (room, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match room.and_then(|room| counted.count(room, peer.ip())) {
                Some(connection) => {
                    let talk = door.clone().talk(stream, peer);
                    tasks.spawn(async move {
                        let _counted = connection;
                        talk.await;
                    });
                }
                None => door.turn_away(&stream, peer),
            },
            Err(error) => {
                tracing::debug!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    // New connections are refused at once from here on.
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

impl Door {
    /// Closes a connection of an address that has too many.
    fn turn_away(&self, stream: &TcpStream, peer: SocketAddr) {
        metrics::counter!("courier_connections_refused_total").increment(1);
        tracing::debug!(%peer, "an address has as many connections as it may; one more was closed");
        if self.certificate.is_none() {
            // The answer fits into the empty buffer of a new connection.
            let _ = stream.try_write(TOO_MANY.as_bytes());
        }
    }

    /// One connection, to its end.
    async fn talk(self, stream: TcpStream, peer: SocketAddr) {
        // Answers are small and are sent at once.
        let _ = stream.set_nodelay(true);
        let deadline = Instant::now() + self.bounds.first_head_wait;
        let Some(certificate) = &self.certificate else { return self.serve(stream, peer, deadline).await };
        let acceptor = TlsAcceptor::from(Arc::clone(&certificate.borrow()));
        let shaken = tokio::select! {
            () = self.stop.cancelled() => return,
            shaken = tokio::time::timeout_at(deadline, acceptor.accept(stream)) => shaken,
        };
        match shaken {
            Ok(Ok(stream)) => self.serve(stream, peer, deadline).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
        }
    }

    /// The requests of a connection, of which the first has its head by the
    /// deadline.
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr, deadline: Instant) {
        let asked = Arc::new(AtomicBool::new(false));
        let api = TowerToHyperService::new(self.api);
        let service = service_fn({
            let asked = Arc::clone(&asked);
            move |mut request: Request<Incoming>| {
                asked.store(true, Ordering::Relaxed);
                request.extensions_mut().insert(ConnectInfo(peer));
                api.call(request)
            }
        });
        let silent = async {
            tokio::time::sleep_until(deadline).await;
            if asked.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(self.bounds.head_wait);
        let stream = StalledReader::new(stream, self.bounds.read_wait);
        let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = silent => {
                tracing::debug!(%peer, "a connection without a request was closed");
                return;
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "a connection broke off");
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

    async fn open(first_head_wait: Duration) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let who = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
        let (api, stop) = (Router::new().route("/", get(who)), CancellationToken::new());
        let bounds = Bounds { connections: 1, first_head_wait, ..Bounds::within(1_024) };
        (address, stop.clone(), tokio::spawn(keep(listener, api, bounds, None, stop)))
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_makes_room_for_one_that_does() {
        let (address, stop, door) = open(Duration::from_millis(200)).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET / HT").await.unwrap();
        let mut asking = TcpStream::connect(address).await.unwrap();
        asking.write_all(REQUEST).await.unwrap();
        let mut answer = vec![0; 1024];
        let read = asking.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"), "{answer}");
        let mut rest = Vec::new();
        silent.read_to_end(&mut rest).await.unwrap();
        stop.cancel();
        door.await.unwrap();
    }

    /// Item 12: the first head has 10 s, and later ones the time that proxies
    /// need.
    #[tokio::test]
    async fn only_the_first_head_is_hurried() {
        let first_head_wait = Duration::from_secs(2);
        let (address, stop, door) = open(first_head_wait).await;
        let mut kept = TcpStream::connect(address).await.unwrap();
        let mut answer = vec![0; 1024];
        for _ in 0..2 {
            kept.write_all(REQUEST).await.unwrap();
            assert!(kept.read(&mut answer).await.unwrap() > 0);
            tokio::time::sleep(first_head_wait).await;
        }
        stop.cancel();
        door.await.unwrap();
    }

    #[tokio::test]
    async fn an_address_with_half_of_the_connections_is_told_to_close_some() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let bounds = Bounds { connections: 4, ..Bounds::within(1_024) };
        let door = tokio::spawn(keep(listener, Router::new(), bounds, None, stop.clone()));
        let mut open = Vec::new();
        for _ in 0..2 {
            open.push(TcpStream::connect(address).await.unwrap());
        }
        let mut told = String::new();
        TcpStream::connect(address).await.unwrap().read_to_string(&mut told).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 503 ") && told.ends_with("close some first\n"), "{told}");
        let body = told.split_once("\r\n\r\n").unwrap().1;
        assert!(told.contains(&format!("content-length: {}\r\n", body.len())), "{told}");
        stop.cancel();
        drop(open);
        door.await.unwrap();
    }

    fn certificate(name: &str) -> Arc<ServerConfig> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/testdata");
        let text = format!("[server.tls]\ncert = \"{folder}/{name}.crt\"\nkey = \"{folder}/{name}.key\"\n");
        crate::config::parse("courier.toml", &text, &|_| None).unwrap().server.tls.unwrap().acceptor
    }

    /// A client that trusts one certificate of the tests alone.
    fn trusting(name: &str) -> reqwest::Client {
        let file = format!("{}/src/config/testdata/{name}.crt", env!("CARGO_MANIFEST_DIR"));
        let trusted = reqwest::Certificate::from_pem(&std::fs::read(file).unwrap()).unwrap();
        crate::http_client::builder().tls_certs_only([trusted]).no_proxy().build().unwrap()
    }

    /// Item 14: TLS on the listener, whose certificate is exchanged while it
    /// listens.
    #[tokio::test]
    async fn connections_begin_with_the_certificate_in_force() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        let (shown, certificates) = watch::channel(certificate("localhost"));
        let stop = CancellationToken::new();
        let api = Router::new().route("/", get(async || "hello"));
        let bounds = Bounds { first_head_wait: Duration::from_secs(2), ..Bounds::within(1_024) };
        let door = tokio::spawn(keep(listener, api, bounds, Some(certificates), stop.clone()));
        let ask = async |name: &str| trusting(name).get(&url).send().await?.text().await;
        assert_eq!(ask("localhost").await.unwrap(), "hello");
        assert!(ask("other").await.is_err());
        assert!(reqwest::get(url.replace("https", "http")).await.is_err(), "nothing is answered without TLS");
        shown.send_replace(certificate("other"));
        assert_eq!(ask("other").await.unwrap(), "hello");
        assert!(ask("localhost").await.is_err());
        // Who begins no handshake is closed like who sends no head.
        let mut silent = TcpStream::connect(url.trim_start_matches("https://").trim_end_matches('/')).await.unwrap();
        assert_eq!(silent.read(&mut [0; 16]).await.unwrap(), 0);
        stop.cancel();
        door.await.unwrap();
    }

    #[tokio::test]
    async fn a_stop_ends_idle_connections_and_takes_no_more() {
        let (address, stop, door) = open(Duration::from_secs(60)).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(REQUEST).await.unwrap();
        assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);
        stop.cancel();
        door.await.unwrap();
        assert_eq!(idle.read(&mut [0; 1024]).await.unwrap(), 0);
        assert!(TcpStream::connect(address).await.is_err());
    }
}
