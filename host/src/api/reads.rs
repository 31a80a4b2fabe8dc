//! Bounds the reads of one token that run at once.
//!
//! A list may scan thousands of rows, and the store has few sessions. Without a
//! bound the reads of one token occupy all of them, and the sends and lists of every
//! other token wait for them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::http::StatusCode;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;

/// Reads of one token that run at once: half of the store's sessions.
const MAX_READS_EACH: usize = 5;
/// How long a read waits for its turn before it is refused.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// When a client that was refused may ask again.
const RETRY_AFTER_SECONDS: u64 = 1;

/// The reads of the process.
static READS: LazyLock<Reads> = LazyLock::new(|| Reads::new(MAX_READS_EACH));

/// The running reads by the name of their token. Names come from the configuration,
/// which bounds them.
struct Reads {
    each: usize,
    by_token: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
}

/// A running read, until it is dropped.
pub type RunningRead = OwnedSemaphorePermit;

/// Waits until one more read of a token may run.
///
/// # Errors
/// 429 when the token's other reads did not end in time.
pub async fn begin(token: &Arc<str>) -> Result<RunningRead, Problem> {
    READS.begin(token, MAX_WAIT).await
}

impl Reads {
    fn new(each: usize) -> Self {
        Self { each, by_token: Mutex::default() }
    }

    async fn begin(&self, token: &Arc<str>, wait: Duration) -> Result<RunningRead, Problem> {
        let places = Arc::clone(
            self.by_token.lock().entry(Arc::clone(token)).or_insert_with(|| Arc::new(Semaphore::new(self.each))),
        );
        match tokio::time::timeout(wait, places.acquire_owned()).await {
            Ok(Ok(running)) => Ok(running),
            // No semaphore is ever closed.
            Ok(Err(_)) | Err(_) => Err(Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too many reads",
                format!(
                    "{} reads of the token `{token}` run at once, which is the most for one token, and none ended within \
                     {wait:?}; ask for less at once, or for narrower time windows",
                    self.each
                ),
            )
            .retry_after(RETRY_AFTER_SECONDS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lists of one token kept the sends of another waiting.
    #[tokio::test]
    async fn the_reads_of_one_token_wait_for_each_other_and_for_no_other_token() {
        let reads = Reads::new(2);
        let (shop, other): (Arc<str>, Arc<str>) = ("shop".into(), "other".into());
        let first = reads.begin(&shop, MAX_WAIT).await.unwrap();
        let _second = reads.begin(&shop, MAX_WAIT).await.unwrap();
        let refused = reads.begin(&shop, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!((refused.status, refused.retry_after), (429, Some(1)));
        assert!(refused.detail.contains("2 reads of the token `shop`"), "{}", refused.detail);
        drop(reads.begin(&other, MAX_WAIT).await.unwrap());
        drop(first);
        drop(reads.begin(&shop, MAX_WAIT).await.unwrap());
    }
}
