//! A lock that goes to the oldest of those who wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The lock. Whoever waits for it says when it began, by any clock.
#[derive(Debug, Default)]
pub struct Oldest(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    is_taken: bool,
    /// When each began, and what wakes it once the lock is its own.
    waiting: Vec<(u64, Arc<Notify>)>,
}

impl Oldest {
    /// Waits until the lock is free and nobody older waits.
    pub async fn lock(&self, began: u64) -> Held<'_> {
        let place = {
            let mut line = self.line();
            if !line.is_taken {
                line.is_taken = true;
                return Held(self);
            }
            let woken = Arc::<Notify>::default();
            line.waiting.push((began, Arc::clone(&woken)));
            Place { of: self, woken: Some(woken) }
        };
        place.wait().await
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self) {
        let mut line = self.line();
        let oldest = line.waiting.iter().enumerate().min_by_key(|(_, (began, _))| *began).map(|(at, _)| at);
        match oldest {
            // It stays taken, and is theirs.
            Some(at) => line.waiting.swap_remove(at).1.notify_one(),
            None => line.is_taken = false,
        }
    }
}

/// The lock is held while this lives.
#[derive(Debug)]
pub struct Held<'l>(&'l Oldest);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Somebody who waits, and may go before the lock is theirs.
struct Place<'l> {
    of: &'l Oldest,
    woken: Option<Arc<Notify>>,
}

impl<'l> Place<'l> {
    async fn wait(mut self) -> Held<'l> {
        if let Some(woken) = &self.woken {
            woken.notified().await;
        }
        self.woken = None;
        Held(self.of)
    }
}

impl Drop for Place<'_> {
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
    fn the_oldest_comes_first_and_who_goes_is_passed_over() {
        let lock = Oldest::default();
        let first = lock.lock(5).now_or_never().expect("it is free");
        let mut line: Vec<_> = [9, 2, 7].into_iter().map(|began| Box::pin(lock.lock(began))).collect();
        for waiting in &mut line {
            assert!(waiting.as_mut().now_or_never().is_none(), "it is taken");
        }
        let [mut nine, two, mut seven] = <[_; 3]>::try_from(line).unwrap_or_else(|_| unreachable!());
        drop(first);
        assert!(nine.as_mut().now_or_never().is_none() && seven.as_mut().now_or_never().is_none());
        // It was its turn, and it does not come for it.
        drop(two);
        assert!(nine.as_mut().now_or_never().is_none());
        drop(seven.as_mut().now_or_never().expect("it is older"));
        drop(nine.as_mut().now_or_never().expect("it is the last"));
        assert!(lock.lock(1).now_or_never().is_some());
    }
}
