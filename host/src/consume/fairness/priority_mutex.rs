//! An async mutex that wakes the waiter with the lowest rank first.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// The order of waiters: short attempts (`false`) before long ones, then by
/// when they began.
pub type Rank = (bool, u64);

/// The mutex; it guards no value of its own.
#[derive(Debug, Default)]
pub struct PriorityMutex(Mutex<WaitQueue>);

#[derive(Debug, Default)]
struct WaitQueue {
    is_taken: bool,
    /// The waiters; each is notified once the lock is its own.
    waiting: Vec<(Rank, Arc<Notify>)>,
}

impl PriorityMutex {
    /// Waits until the lock is free and no waiter has a lower rank.
    pub async fn lock(&self, rank: Rank) -> PriorityGuard<'_> {
        let place = {
            let mut line = self.line();
            if !line.is_taken {
                line.is_taken = true;
                return PriorityGuard(self);
            }
            let woken = Arc::<Notify>::default();
            line.waiting.push((rank, Arc::clone(&woken)));
            Waiter { of: self, woken: Some(woken) }
        };
        place.wait().await
    }

    fn line(&self) -> MutexGuard<'_, WaitQueue> {
        self.0.lock()
    }

    fn release(&self) {
        let mut line = self.line();
        let first = line.waiting.iter().enumerate().min_by_key(|(_, (rank, _))| *rank).map(|(at, _)| at);
        match first {
            // The lock stays taken and passes to this waiter.
            Some(at) => line.waiting.swap_remove(at).1.notify_one(),
            None => line.is_taken = false,
        }
    }
}

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub struct PriorityGuard<'l>(&'l PriorityMutex);

impl Drop for PriorityGuard<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// A waiter, which may be dropped before the lock is its own.
struct Waiter<'l> {
    of: &'l PriorityMutex,
    woken: Option<Arc<Notify>>,
}

impl<'l> Waiter<'l> {
    async fn wait(mut self) -> PriorityGuard<'l> {
        if let Some(woken) = &self.woken {
            woken.notified().await;
        }
        self.woken = None;
        PriorityGuard(self.of)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let Some(gone) = self.woken.take() else { return };
        let mut line = self.of.line();
        let before = line.waiting.len();
        line.waiting.retain(|(_, woken)| !Arc::ptr_eq(woken, &gone));
        let is_theirs = line.waiting.len() == before;
        drop(line);
        if is_theirs {
            self.of.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn the_lowest_rank_comes_first_and_who_goes_is_passed_over() {
        let lock = PriorityMutex::default();
        let first = lock.lock((false, 5)).now_or_never().expect("it is free");
        let mut line: Vec<_> =
            [(true, 1), (false, 2), (false, 7)].into_iter().map(|rank| Box::pin(lock.lock(rank))).collect();
        for waiting in &mut line {
            assert!(waiting.as_mut().now_or_never().is_none(), "it is taken");
        }
        let [mut long, two, mut seven] = <[_; 3]>::try_from(line).unwrap_or_else(|_| unreachable!());
        drop(first);
        assert!(long.as_mut().now_or_never().is_none() && seven.as_mut().now_or_never().is_none());
        // It was its turn, and it does not come for it.
        drop(two);
        assert!(long.as_mut().now_or_never().is_none());
        drop(seven.as_mut().now_or_never().expect("it is short"));
        drop(long.as_mut().now_or_never().expect("it is the last"));
        assert!(lock.lock((false, 1)).now_or_never().is_some());
    }
}
