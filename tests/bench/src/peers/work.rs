//! The handler of the Rust peers, and the attempts that a message gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::{ATTEMPTS, RETRY_WAIT, Work};
use crate::progress::now;

/// Calls the handler.
pub struct Handler {
    work: Work,
    effects: String,
    http: reqwest::Client,
    calls: Arc<AtomicU64>,
}

/// The last attempt at a message.
#[derive(Debug)]
pub struct Outcome {
    /// When it began.
    pub started_at: i64,
    /// The reason of its failure; none when it succeeded.
    pub reason: Option<String>,
}

impl Handler {
    pub fn new(work: Work, effects: &str) -> Self {
        let http = courier::http_client::builder().build().expect("a client without special settings can be built");
        Self { work, effects: effects.to_owned(), http, calls: Arc::default() }
    }

    pub fn calls(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.calls)
    }

    /// Whether handling may wait, so that the messages of other keys should run
    /// meanwhile.
    pub fn waits(&self) -> bool {
        matches!(self.work, Work::Failing | Work::Effect)
    }

    /// Handles a message until it succeeds or has no attempts left.
    pub async fn settle(&self, key: &[u8], body: &[u8]) -> Outcome {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let started_at = now();
            match self.handle(key, body).await {
                Ok(()) => return Outcome { started_at, reason: None },
                Err(reason) if attempt >= ATTEMPTS => return Outcome { started_at, reason: Some(reason) },
                Err(_) => tokio::time::sleep(RETRY_WAIT).await,
            }
        }
    }

    async fn handle(&self, key: &[u8], body: &[u8]) -> Result<(), String> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match self.work {
            Work::None => {
                nothing(body);
                Ok(())
            }
            Work::Json => validate(body),
            Work::Failing if key.ends_with(b"00") => Err("this key always fails".to_owned()),
            Work::Failing => Ok(()),
            Work::Effect => {
                let order: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
                let key = String::from_utf8_lossy(key);
                let url = format!("{}/?key={key}&sequence={}", self.effects, order["sequence"]);
                let answer = self.http.get(url).send().await.map_err(|error| error.to_string())?;
                answer.error_for_status().map(drop).map_err(|error| error.to_string())
            }
        }
    }
}

/// A native handler that does nothing, as the guest `noop`.
#[inline(never)]
fn nothing(body: &[u8]) {
    std::hint::black_box(body);
}

fn validate(body: &[u8]) -> Result<(), String> {
    let order: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let sound = [
        (order["sequence"].is_u64(), "sequence is no whole number"),
        (order["key"].as_str().is_some_and(|key| !key.is_empty()), "key is empty"),
        (order["amount"].as_f64().is_some_and(|amount| amount > 0.0), "amount is not above zero"),
        (order["items"].as_array().is_some_and(|items| !items.is_empty()), "items is empty"),
    ];
    sound.iter().find(|(sound, _)| !sound).map_or(Ok(()), |(_, why)| Err((*why).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::order;

    #[tokio::test]
    async fn a_failing_key_gets_all_its_attempts_and_an_order_is_valid() {
        let failing = Handler::new(Work::Failing, "");
        assert!(failing.settle(b"key-101", b"").await.reason.is_none());
        assert!(failing.settle(b"key-100", b"").await.reason.is_some());
        assert_eq!(failing.calls().load(Ordering::Relaxed), 1 + ATTEMPTS);
        let json = Handler::new(Work::Json, "");
        assert!(json.settle(b"key-001", &order(1, "key-001", 100)).await.reason.is_none());
        assert!(json.settle(b"key-001", b"{}").await.reason.is_some());
    }
}
