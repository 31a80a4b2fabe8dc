//! How fast the attempts of a group may follow one another.
//!
//! By default as fast as they can, and at a distance while the group is
//! [held back](super::restraint).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// What was not used is kept for so long. Timers are no finer than a
/// millisecond, and attempts may be much shorter.
const KEPT: Duration = Duration::from_millis(4);
/// How soon an attempt that waits hears of another share.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The pace of a group on this node.
#[derive(Debug)]
pub struct Pace {
    /// Attempts that began; a batch is one.
    begun: AtomicU64,
    /// Deliveries whose attempt ended.
    ended: AtomicU64,
    /// Nanoseconds between the beginnings of two attempts; 0 when it is free.
    spacing: AtomicU64,
    /// When the next attempt may begin. Whoever waits for that has the lock, and
    /// those behind it come in their order.
    next: Mutex<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self { begun: zero(), ended: zero(), spacing: zero(), next: Mutex::new(Instant::now()) }
    }
}

impl Pace {
    /// Waits until an attempt may begin.
    pub async fn turn(&self) {
        if self.spacing().is_zero() {
            self.begun.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut next = self.next.lock().await;
        let now = loop {
            let now = Instant::now();
            if *next <= now || self.spacing().is_zero() {
                break now;
            }
            tokio::time::sleep((*next - now).min(LOOK_AGAIN)).await;
        };
        let from = now.checked_sub(KEPT).map_or(now, |kept| kept.max(*next));
        *next = from + self.spacing();
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    fn spacing(&self) -> Duration {
        Duration::from_nanos(self.spacing.load(Ordering::Relaxed))
    }

    /// Lets attempts begin so far apart from now on, or as fast as they can.
    pub fn set(&self, spacing: Option<Duration>) {
        let nanos = spacing.map_or(0, |spacing| u64::try_from(spacing.as_nanos()).unwrap_or(u64::MAX).max(1));
        self.spacing.store(nanos, Ordering::Relaxed);
    }

    /// Notes deliveries whose attempt ended.
    pub fn ended(&self, deliveries: usize) {
        self.ended.fetch_add(deliveries as u64, Ordering::Relaxed);
    }

    /// Attempts that began so far, and deliveries whose attempt ended.
    #[must_use]
    pub fn so_far(&self) -> (u64, u64) {
        (self.begun.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attempts that begin within a time.
    async fn begun(pace: &Pace, within: Duration) -> u64 {
        let (before, until) = (pace.so_far().0, tokio::time::Instant::now() + within);
        while tokio::time::timeout_at(until, pace.turn()).await.is_ok() && tokio::time::Instant::now() < until {
            tokio::task::yield_now().await;
        }
        pace.so_far().0 - before
    }

    #[tokio::test]
    async fn attempts_begin_no_closer_than_they_may() {
        let (pace, within) = (Pace::default(), Duration::from_millis(200));
        let free = begun(&pace, within).await;
        pace.set(Some(Duration::from_millis(10)));
        let held = begun(&pace, within).await;
        assert!((1..=22).contains(&held), "{held} where {free} are free");
        pace.set(None);
        assert!(begun(&pace, within).await > held);
    }

    #[tokio::test]
    async fn who_waits_hears_that_the_group_is_let_go() {
        let pace = Pace::default();
        pace.set(Some(Duration::from_secs(3_600)));
        pace.turn().await;
        let waiting = pace.turn();
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err(), "it has to wait");
        pace.set(None);
        tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("it goes on");
    }
}
