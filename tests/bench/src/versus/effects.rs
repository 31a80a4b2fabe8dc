//! The service that handlers call in W4 and W5: it answers after a delay and
//! records each call.
//!
//! A handler's outside effects cannot be undone after a crash, so these calls show
//! the cost of a kill -9: the effects that are missing, happened again, or came
//! before an earlier effect of their key.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The longest request that is read.
const REQUEST_BYTES: usize = 8_192;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A call: a key and the sequence of its message.
type Call = (String, u64);

/// The service.
pub struct Effects {
    address: String,
    calls: Arc<Mutex<Vec<Call>>>,
    server: JoinHandle<()>,
}

/// Faults in the calls of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Messages without a call.
    pub missing: u64,
    /// Calls beyond one for each message.
    pub again: u64,
    /// First calls that came after a call for a later message of the same key.
    pub inverted: u64,
}

impl Effects {
    /// Starts a service that waits this long before each answer.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(takes: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let kept = Arc::clone(&calls);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, takes, Arc::clone(&kept)));
            }
        });
        Ok(Self { address, calls, server })
    }

    /// Its URL.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Number of calls so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// Compares the calls with the sent messages.
    #[must_use]
    pub fn account(&self, messages: u64) -> Account {
        account(&self.calls.lock().unwrap_or_else(PoisonError::into_inner), messages)
    }
}

impl Drop for Effects {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(mut stream: TcpStream, takes: Duration, calls: Arc<Mutex<Vec<Call>>>) {
    stream.set_nodelay(true).ok();
    let mut request = Vec::with_capacity(REQUEST_BYTES);
    loop {
        let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            let read = stream.read_buf(&mut request).await.unwrap_or(0);
            if read == 0 || request.len() > REQUEST_BYTES {
                return;
            }
            continue;
        };
        if let Some(call) = call(&String::from_utf8_lossy(&request[..end])) {
            calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        }
        request.drain(..end + 4);
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        if stream.write_all(ANSWER).await.is_err() {
            return;
        }
    }
}

/// Parses the head of a request: `GET /?key=K&sequence=N HTTP/1.1`.
fn call(head: &str) -> Option<Call> {
    let (_, query) = head.split(' ').nth(1)?.split_once('?')?;
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    Some((value("key")?.to_owned(), value("sequence")?.parse().ok()?))
}

fn account(calls: &[Call], messages: u64) -> Account {
    let (mut seen, mut latest) = (HashSet::new(), HashMap::new());
    let mut account = Account::default();
    for (key, sequence) in calls {
        if !seen.insert(*sequence) {
            account.again += 1;
            continue;
        }
        let latest = latest.entry(key.as_str()).or_insert(*sequence);
        account.inverted += u64::from(sequence < latest);
        *latest = (*latest).max(*sequence);
    }
    account.missing = messages.saturating_sub(seen.len() as u64);
    account
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_held_against_what_was_sent() {
        let calls = [("a", 0), ("b", 1), ("a", 4), ("a", 2), ("b", 1)].map(|(key, at)| (key.to_owned(), at));
        assert_eq!(account(&calls, 5), Account { missing: 1, again: 1, inverted: 1 });
        assert_eq!(account(&calls[..2], 2), Account::default());
    }

    #[test]
    fn a_call_is_read_from_its_request() {
        let head = "GET /?key=key-007&sequence=12 HTTP/1.1\r\nhost: x";
        assert_eq!(call(head), Some(("key-007".to_owned(), 12)));
        assert_eq!(call("GET / HTTP/1.1"), None);
    }
}
