//! The door of the HTTP API.
//!
//! So many connections are taken at once, and one that does not say in time
//! what it wants is closed: clients that only hold connections open could
//! otherwise use up the process's descriptors, which Kafka and the store need
//! as well. What a request may take once it is here, the API bounds itself.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long to wait when a connection cannot be taken, for want of
/// descriptors, say.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What clients may take of this process by being connected.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once; further ones wait in the system's queue.
    pub connections: usize,
    /// How long a connection may be without the whole head of a request, from
    /// its beginning or since its last answer. Longer than proxies keep idle
    /// connections, so that it is they who close them.
    pub head_wait: Duration,
}

impl Bounds {
    /// Those of a host.
    pub const USUAL: Self = Self { connections: 4_096, head_wait: Duration::from_secs(75) };
}

/// Answers requests until it is told to stop and those under way are answered.
pub async fn keep(listener: TcpListener, api: Router, bounds: Bounds, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let connections = TaskTracker::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let talk = talk(stream, peer, api.clone(), bounds.head_wait, stop.clone());
                connections.spawn(async move {
                    let _place = place;
                    talk.await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    // Whoever comes now is refused at once instead of waiting for nobody.
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// One connection, to its end.
async fn talk(stream: TcpStream, peer: SocketAddr, api: Router, head_wait: Duration, stop: CancellationToken) {
    // Answers are small and wait for nothing to be joined with.
    let _ = stream.set_nodelay(true);
    let api = TowerToHyperService::new(api);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        api.call(request)
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(head_wait);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection broke off");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

    async fn open(head_wait: Duration) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let who = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
        let (api, stop) = (Router::new().route("/", get(who)), CancellationToken::new());
        let bounds = Bounds { connections: 1, head_wait };
        (address, stop.clone(), tokio::spawn(keep(listener, api, bounds, stop)))
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
