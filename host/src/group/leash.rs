//! How the attempt of one worker is held back: by the [pace](Pace) of its group,
//! until its partition is given up. Then it is to end in time, and what it still
//! burns is owed by those that come after it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, select_all};
use tokio_util::sync::CancellationToken;

use super::pace::Pace;
use crate::engine::{Brake, Burned};

/// The leash of one worker.
#[derive(Debug)]
pub struct Leash {
    /// The pace of the group.
    pub pace: Arc<Pace>,
    /// What says that a partition is given up, for each item of what runs.
    given_up: Mutex<Vec<CancellationToken>>,
}

impl Leash {
    /// For a worker of the group with this pace.
    #[must_use]
    pub fn new(pace: Arc<Pace>) -> Self {
        Self { pace, given_up: Mutex::default() }
    }

    /// From now on an attempt runs that is let go with the first of these.
    pub fn put_on<'t>(&self, given_up: impl Iterator<Item = &'t CancellationToken>) {
        let mut tokens = self.tokens();
        tokens.clear();
        tokens.extend(given_up.cloned());
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, Vec<CancellationToken>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Brake for Leash {
    fn burned(self: Arc<Self>, burned: Burned) -> Option<BoxFuture<'static, ()>> {
        if !self.pace.is_held() {
            return None;
        }
        let tokens = self.tokens().clone();
        Some(Box::pin(async move {
            let given_up = async {
                if tokens.is_empty() {
                    return std::future::pending().await;
                }
                select_all(tokens.iter().map(|token| Box::pin(token.cancelled()))).await;
            };
            self.pace.pay_while_running(burned, given_up).await;
        }))
    }

    fn owes(&self, more: Duration) {
        self.pace.owes(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Duration = Duration::from_millis(1);

    fn burned() -> Burned {
        Burned { began: 0, all: COST, more: COST }
    }

    #[tokio::test]
    async fn an_attempt_that_is_given_up_is_held_no_longer_and_owes_what_it_burns() {
        let pace = Arc::<Pace>::default();
        let leash = Arc::new(Leash::new(Arc::clone(&pace)));
        let [one, other] = [CancellationToken::new(), CancellationToken::new()];
        leash.put_on([&one, &other].into_iter());
        assert!(Arc::clone(&leash).burned(burned()).is_none(), "the group is free");
        // A little would take an hour to pay off.
        pace.set(Some(1e-7), COST);
        pace.turn().await;
        let mut held = Arc::clone(&leash).burned(burned()).expect("it is held");
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut held).await.is_err());
        other.cancel();
        held.await;
        Arc::clone(&leash).burned(burned()).expect("the group is held").await;
        assert_eq!(pace.so_far().paid, 2 * COST);
        leash.put_on([&one].into_iter());
        let next = Arc::clone(&leash).burned(burned()).expect("it is held");
        assert!(tokio::time::timeout(Duration::from_millis(20), next).await.is_err(), "it is not given up");
    }
}
