//! A token bucket of CPU time for the attempts of one group.
//!
//! By default it limits nothing. While the [controller](super::controller)
//! limits the group, each attempt is charged when it begins, and a long one
//! also while it runs; whoever comes while there is a debt waits until the debt
//! is paid off. An attempt whose partition was revoked is not charged, see
//! [`WorkerThrottle`](super::worker_throttle::WorkerThrottle).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::priority_mutex::PriorityMutex;
use crate::clock::in_nanos;
use crate::engine::Burned;
use crate::engine::limits::TICK;

/// Unused CPU time is kept for this long. Timers are no finer than a
/// millisecond, and attempts may be much shorter.
const CREDIT_CAP: Duration = Duration::from_millis(4);
/// How soon a waiting attempt notices another limit.
const SHARE_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// An attempt is short while it has used no more CPU time than this.
const SHORT_ATTEMPT: Duration = Duration::from_millis(10);

/// The bucket of a group on this node.
#[derive(Debug)]
pub struct CpuBucket {
    /// Attempts that began; a batch is one.
    begun: AtomicU64,
    /// Deliveries whose attempt ended.
    ended: AtomicU64,
    /// CPU nanoseconds that attempts were charged while they ran.
    paid: AtomicU64,
    /// The part of `paid` that is not in the debt yet.
    owed: AtomicU64,
    /// How often an attempt had to wait.
    waits: AtomicU64,
    /// CPU nanoseconds that an attempt is charged when it begins.
    cost: AtomicU64,
    /// CPUs that the group may use, as the bits of a float; infinite while it
    /// is not limited.
    share: AtomicU64,
    /// Whether the group is never limited again.
    disabled: AtomicBool,
    /// Attempts that wait to begin acquire in their order.
    beginning: Mutex<()>,
    /// Running attempts acquire in priority order: short before long, then
    /// oldest first, so that some finish early instead of all finishing late.
    running: PriorityMutex,
    /// The first new and the first running attempt alternate here, so that long
    /// attempts do not keep short ones from beginning.
    debt: Mutex<Debt>,
}

/// CPU time that was used and is not paid off.
#[derive(Debug)]
struct Debt {
    /// CPU seconds; a negative debt is unused credit.
    seconds: f64,
    at: Instant,
}

impl Default for CpuBucket {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self {
            begun: zero(),
            ended: zero(),
            paid: zero(),
            owed: zero(),
            waits: zero(),
            cost: zero(),
            share: AtomicU64::new(f64::INFINITY.to_bits()),
            disabled: AtomicBool::default(),
            beginning: Mutex::default(),
            running: PriorityMutex::default(),
            debt: Mutex::new(Debt { seconds: 0.0, at: Instant::now() }),
        }
    }
}

impl CpuBucket {
    /// Whether the group is limited now.
    pub fn is_held(&self) -> bool {
        self.share().is_finite()
    }

    /// Waits until an attempt may begin, and charges it for its beginning.
    pub async fn acquire(&self) {
        let _next = self.beginning.lock().await;
        self.pay(Duration::from_nanos(self.cost.load(Ordering::Relaxed))).await;
    }

    /// Notes that an attempt begins.
    pub fn begun(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the CPU time of a running attempt, which is no part of what
    /// attempts cost when they begin.
    pub fn burned(&self, more: Duration) {
        self.paid.fetch_add(in_nanos(more), Ordering::Relaxed);
    }

    /// Waits until a running attempt may go on, and charges what it used.
    pub async fn pay_while_running(&self, burned: Burned) {
        let _first = self.running.lock((burned.all > SHORT_ATTEMPT, burned.began)).await;
        self.pay(burned.more).await;
    }

    /// Charges CPU time without making the attempt wait.
    pub fn owes(&self, more: Duration) {
        if self.is_held() {
            self.burned(more);
            self.owed.fetch_add(in_nanos(more), Ordering::Relaxed);
        }
    }

    /// Waits until the debt is paid off, then sets it to `burned`.
    async fn pay(&self, burned: Duration) {
        let mut debt = self.debt.lock().await;
        loop {
            let (share, now) = (self.share(), Instant::now());
            if share.is_infinite() {
                self.owed.store(0, Ordering::Relaxed);
                (debt.seconds, debt.at) = (0.0, now);
                return;
            }
            let passed = now.duration_since(debt.at).as_secs_f64();
            let least = -share * CREDIT_CAP.as_secs_f64();
            let owed = Duration::from_nanos(self.owed.swap(0, Ordering::Relaxed)).as_secs_f64();
            (debt.seconds, debt.at) = ((debt.seconds - share * passed).max(least) + owed, now);
            if debt.seconds <= 0.0 {
                break;
            }
            self.waits.fetch_add(1, Ordering::Relaxed);
            let wait = (debt.seconds / share).min(SHARE_POLL_INTERVAL.as_secs_f64());
            tokio::time::sleep(Duration::from_secs_f64(wait)).await;
        }
        debt.seconds += burned.as_secs_f64();
    }

    fn share(&self) -> f64 {
        f64::from_bits(self.share.load(Ordering::Relaxed))
    }

    /// Sets the limit in CPUs, or lifts it. An attempt that ends within a tick
    /// of the engine costs `cost`.
    pub fn set(&self, share: Option<f64>, cost: Duration) {
        // Longer attempts are charged for the rest while they run.
        self.cost.store(in_nanos(cost.min(TICK)), Ordering::Relaxed);
        let share = share.filter(|_| !self.disabled.load(Ordering::Relaxed)).unwrap_or(f64::INFINITY);
        self.share.store(share.to_bits(), Ordering::Relaxed);
    }

    /// Lifts the limit for ever: a group that stops must end its attempts in time.
    pub fn disable(&self) {
        self.disabled.store(true, Ordering::Relaxed);
        self.set(None, Duration::ZERO);
    }

    /// Counts deliveries whose attempt ended.
    pub fn ended(&self, deliveries: usize) {
        self.ended.fetch_add(deliveries as u64, Ordering::Relaxed);
    }

    /// The counts since the group began.
    #[must_use]
    pub fn counts(&self) -> BucketCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BucketCounts {
            begun: load(&self.begun),
            ended: load(&self.ended),
            paid: Duration::from_nanos(load(&self.paid)),
            waits: load(&self.waits),
        }
    }
}

/// Counts since the group began.
#[derive(Clone, Copy, Debug, Default)]
pub struct BucketCounts {
    /// Attempts that began; a batch is one.
    pub begun: u64,
    /// Deliveries whose attempt ended.
    pub ended: u64,
    /// CPU time that attempts were charged while they ran.
    pub paid: Duration,
    /// How often an attempt had to wait, once more at each [`SHARE_POLL_INTERVAL`].
    pub waits: u64,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const COST: Duration = Duration::from_millis(1);

    fn burned(began: u64, all: Duration) -> Burned {
        Burned { began, all, more: COST }
    }

    /// Attempts that begin within a time.
    async fn begin(pace: &CpuBucket, within: Duration) -> u64 {
        let (before, until) = (pace.counts().begun, tokio::time::Instant::now() + within);
        while tokio::time::timeout_at(until, pace.acquire()).await.is_ok() && tokio::time::Instant::now() < until {
            pace.begun();
            tokio::task::yield_now().await;
        }
        pace.counts().begun - before
    }

    #[tokio::test]
    async fn attempts_begin_no_closer_than_they_may() {
        let (pace, within) = (CpuBucket::default(), Duration::from_millis(200));
        let free = begin(&pace, within).await;
        pace.set(Some(0.1), COST);
        let held = begin(&pace, within).await;
        assert!((1..=22).contains(&held), "{held} where {free} are free");
        pace.set(None, COST);
        assert!(begin(&pace, within).await > held);
    }

    #[tokio::test]
    async fn who_waits_hears_of_another_share() {
        for share in [None, Some(1.0)] {
            let pace = CpuBucket::default();
            // A little would take an hour to pay off.
            pace.set(Some(1e-7), COST);
            pace.acquire().await;
            let waiting = pace.acquire();
            tokio::pin!(waiting);
            assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err(), "it has to wait");
            assert!(pace.counts().waits > 0);
            pace.set(share, COST);
            tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("it goes on");
        }
    }

    #[tokio::test]
    async fn a_long_attempt_pays_while_it_runs() {
        let pace = CpuBucket::default();
        pace.set(Some(1e-7), COST);
        pace.pay_while_running(burned(0, COST)).await;
        let held = tokio::time::timeout(Duration::from_millis(20), pace.acquire()).await;
        assert!(held.is_err(), "others wait for what it burned");
        pace.disable();
        pace.set(Some(1e-7), COST);
        pace.acquire().await;
        assert!(!pace.is_held(), "it is free for good");
    }

    #[tokio::test]
    async fn what_was_burned_before_an_end_is_owed() {
        let pace = CpuBucket::default();
        pace.owes(COST);
        pace.set(Some(1e-7), Duration::ZERO);
        pace.acquire().await;
        pace.owes(COST);
        assert_eq!(pace.counts().paid, COST, "not what it burned while it was free");
        assert!(tokio::time::timeout(Duration::from_millis(20), pace.acquire()).await.is_err());
    }

    #[tokio::test]
    async fn of_many_that_run_the_oldest_end_first() {
        let pace = Arc::new(CpuBucket::default());
        pace.set(Some(0.5), COST);
        let ended = Arc::<parking_lot::Mutex<Vec<u64>>>::default();
        let attempts = (0..16).rev().map(|began| {
            let (pace, ended) = (Arc::clone(&pace), Arc::clone(&ended));
            tokio::spawn(async move {
                for ticks in 1..=20 {
                    pace.pay_while_running(burned(began, COST * ticks)).await;
                    tokio::time::sleep(COST).await;
                }
                ended.lock().push(began);
            })
        });
        futures::future::join_all(attempts).await;
        let ended = ended.lock().clone();
        assert!(ended[..4].iter().all(|began| *began < 8), "{ended:?}");
    }
}
