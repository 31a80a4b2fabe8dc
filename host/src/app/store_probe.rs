//! Whether the store takes writes.

use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::Mutex;

use crate::store::SharedStore;

/// How long the store may take to answer `/readyz`.
const PING_WAIT: Duration = Duration::from_secs(2);
/// How long an answer is believed: whoever asks `/readyz` more often than that
/// puts no load on the store.
const FRESH: Duration = Duration::from_secs(1);

/// Whether the store takes writes, asked once a second at most.
pub struct StoreProbe {
    ask: Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
    felt: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl StoreProbe {
    /// Of a store that was not asked yet.
    #[must_use]
    pub fn new(store: SharedStore) -> Self {
        Self::asking(move || {
            let store = SharedStore::clone(&store);
            async move {
                match tokio::time::timeout(PING_WAIT, store.ping()).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err(format!("the store did not answer within {PING_WAIT:?}")),
                }
            }
            .boxed()
        })
    }

    fn asking(ask: impl Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static) -> Self {
        Self { ask: Box::new(ask), felt: Mutex::default() }
    }

    /// Asks, unless that was done a moment ago. Those who ask meanwhile get the
    /// same answer.
    ///
    /// # Errors
    /// Why it does not take writes.
    pub async fn feel(&self) -> Result<(), String> {
        self.feel_at(Instant::now).await
    }

    async fn feel_at(&self, now: impl Fn() -> Instant) -> Result<(), String> {
        let mut felt = self.felt.lock().await;
        if let Some((at, answer)) = &*felt
            && now().saturating_duration_since(*at) < FRESH
        {
            return answer.clone();
        }
        let answer = (self.ask)().await;
        *felt = Some((now(), answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn the_store_is_asked_once_a_second_however_many_want_to_know() {
        let asked = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&asked);
        let pulse = StoreProbe::asking(move || {
            let answer = if count.fetch_add(1, Ordering::Relaxed) == 0 { Ok(()) } else { Err("it is away".to_owned()) };
            std::future::ready(answer).boxed()
        });
        let begun = Instant::now();
        let all = futures::future::join_all((0..100).map(|_| pulse.feel_at(|| begun))).await;
        assert!(all.iter().all(Result::is_ok) && asked.load(Ordering::Relaxed) == 1);
        assert_eq!(pulse.feel_at(|| begun + FRESH).await, Err("it is away".to_owned()));
        assert_eq!(pulse.feel_at(|| begun + FRESH * 3 / 2).await, Err("it is away".to_owned()));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
