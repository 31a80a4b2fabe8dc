//! Throttles one worker's attempt by the [`CpuBucket`] of its group. Once the
//! attempt's partition is revoked it runs unthrottled and uncharged, so that it
//! can finish before the deadline of the revocation.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, select_all};
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::cpu_bucket::CpuBucket;
use crate::engine::{Brake, Burned};

/// The throttle of one worker.
#[derive(Debug)]
pub struct WorkerThrottle {
    /// The bucket of the group.
    pub pace: Arc<CpuBucket>,
    /// One token for each partition of the running batch, cancelled when the partition is revoked.
    given_up: Mutex<Vec<CancellationToken>>,
}

impl WorkerThrottle {
    /// A throttle for a worker of the group with this bucket.
    #[must_use]
    pub fn new(pace: Arc<CpuBucket>) -> Self {
        Self { pace, given_up: Mutex::default() }
    }

    /// Notes the partitions of the attempt that begins: the first of their tokens to be cancelled ends the throttling.
    pub fn put_on<'t>(&self, given_up: impl Iterator<Item = &'t CancellationToken>) {
        let mut tokens = self.tokens();
        tokens.clear();
        for token in given_up {
            // A batch has many items and few partitions.
            if !tokens.contains(token) {
                tokens.push(token.clone());
            }
        }
    }

    fn tokens(&self) -> MutexGuard<'_, Vec<CancellationToken>> {
        self.given_up.lock()
    }
}

impl Brake for WorkerThrottle {
    fn burned(self: Arc<Self>, burned: Burned) -> Option<BoxFuture<'static, ()>> {
        if !self.pace.is_held() {
            return None;
        }
        self.pace.burned(burned.more);
        let tokens = self.tokens().clone();
        Some(Box::pin(async move {
            let paid = self.pace.pay_while_running(burned);
            if tokens.is_empty() {
                return paid.await;
            }
            tokio::select! {
                biased;
                _ = select_all(tokens.iter().map(|token| Box::pin(token.cancelled()))) => {}
                () = paid => {}
            }
        }))
    }

    fn owes(&self, more: Duration) {
        self.pace.owes(more);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const SOON: Duration = Duration::from_secs(5);

    fn burned() -> Burned {
        Burned { began: 0, all: HOUR, more: HOUR }
    }

    #[tokio::test]
    async fn an_attempt_that_is_given_up_is_held_no_longer() {
        let pace = Arc::<CpuBucket>::default();
        let throttle = Arc::new(WorkerThrottle::new(Arc::clone(&pace)));
        let [one, other] = [CancellationToken::new(), CancellationToken::new()];
        throttle.put_on([&one, &other, &one].into_iter());
        assert!(Arc::clone(&throttle).burned(burned()).is_none(), "the group is free");
        pace.set(Some(1.0), Duration::ZERO);
        // The first pays for what others do then, which takes an hour.
        Arc::clone(&throttle).burned(burned()).expect("the group is held").await;
        let mut held = Arc::clone(&throttle).burned(burned()).expect("the group is held");
        assert!(timeout(Duration::from_millis(20), &mut held).await.is_err(), "it waits");
        other.cancel();
        timeout(SOON, held).await.expect("it goes on");
        let next = Arc::clone(&throttle).burned(burned()).expect("the group is held");
        timeout(SOON, next).await.expect("it goes on");
        assert_eq!(pace.counts().paid, 3 * HOUR);
        throttle.put_on([&one].into_iter());
        let next = Arc::clone(&throttle).burned(burned()).expect("the group is held");
        assert!(timeout(Duration::from_millis(20), next).await.is_err(), "it is not given up");
    }

    #[tokio::test]
    async fn what_is_burned_once_it_is_given_up_is_nobodys_debt() {
        let pace = Arc::<CpuBucket>::default();
        let throttle = Arc::new(WorkerThrottle::new(Arc::clone(&pace)));
        let given_up = CancellationToken::new();
        throttle.put_on([&given_up].into_iter());
        given_up.cancel();
        pace.set(Some(1.0), Duration::ZERO);
        Arc::clone(&throttle).burned(burned()).expect("the group is held").await;
        timeout(SOON, pace.acquire()).await.expect("others begin at once");
    }
}
