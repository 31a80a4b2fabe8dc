//! An address that leads to one server now and to another one later, like that of a
//! database that fails over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::{TcpListener, TcpStream};

/// Forwards connections to a port of this machine. An open connection stays with its
/// server.
#[derive(Debug)]
pub struct Proxy {
    /// The address that clients connect to.
    pub port: u16,
    target: Arc<AtomicU16>,
}

impl Proxy {
    /// Forwards to `target` until [`Proxy::lead_to`] names another.
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("the listener is bound").port();
        let target = Arc::new(AtomicU16::new(target));
        let current = Arc::clone(&target);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let target = current.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    // When nobody listens there, the client's connection is closed.
                    if let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await {
                        let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { port, target }
    }

    /// Forwards new connections to `target`.
    pub fn lead_to(&self, target: u16) {
        self.target.store(target, Ordering::SeqCst);
    }
}
