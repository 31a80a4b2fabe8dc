//! How much of the processors the attempts of a group may burn.
//!
//! By default as much as they get. While the group is
//! [held back](super::controller) it has a share: each attempt pays when it
//! begins, a long one also while it runs, and whoever comes while there is a
//! debt waits until it is paid off. One whose partition is given up does not, see
//! [`Leash`](super::worker_throttle::WorkerThrottle).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::priority_mutex::PriorityMutex;
use crate::clock::in_nanos;
use crate::engine::Burned;
use crate::engine::limits::TICK;

/// What was not used is kept for so long. Timers are no finer than a
/// millisecond, and attempts may be much shorter.
const KEPT: Duration = Duration::from_millis(4);
/// How soon an attempt that waits hears of another share.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// An attempt that burned no more is short.
const SHORT: Duration = Duration::from_millis(10);

/// The pace of a group on this node.
#[derive(Debug)]
pub struct CpuBucket {
    /// Attempts that began; a batch is one.
    begun: AtomicU64,
    /// Deliveries whose attempt ended.
    ended: AtomicU64,
    /// Nanoseconds of a processor that attempts were to pay while they ran.
    paid: AtomicU64,
    /// What of that is not part of the debt yet.
    owed: AtomicU64,
    /// How often an attempt had to wait.
    waits: AtomicU64,
    /// Nanoseconds of a processor that an attempt pays when it begins.
    cost: AtomicU64,
    /// Processors that the group may use, as the bits of a float; infinitely
    /// many when it is free.
    share: AtomicU64,
    /// Whether it is free from now on.
    let_go: AtomicBool,
    /// Attempts that wait to begin come in their order.
    beginning: Mutex<()>,
    /// Of those that run and wait the short ones come first, and then the oldest:
    /// of many that are under way some end soon, where all would end late if they
    /// went on by turns.
    running: PriorityMutex,
    /// The first of either line has it and waits until it is paid off, by turns,
    /// so that long ones do not keep short ones from beginning.
    debt: Mutex<Debt>,
}

/// What was used and is not paid off.
#[derive(Debug)]
struct Debt {
    /// Seconds of a processor; below zero is what was not used lately.
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
            let_go: AtomicBool::default(),
            beginning: Mutex::default(),
            running: PriorityMutex::default(),
            debt: Mutex::new(Debt { seconds: 0.0, at: Instant::now() }),
        }
    }
}

impl CpuBucket {
    /// Whether the group has a share for now.
    pub fn is_held(&self) -> bool {
        self.share().is_finite()
    }

    /// Waits until an attempt may begin, and pays for its beginning.
    pub async fn turn(&self) {
        let _next = self.beginning.lock().await;
        self.pay(Duration::from_nanos(self.cost.load(Ordering::Relaxed))).await;
    }

    /// Notes that an attempt begins.
    pub fn begun(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes what an attempt has burned while it runs. It is not part of what
    /// attempts cost when they begin.
    pub fn burned(&self, more: Duration) {
        self.paid.fetch_add(in_nanos(more), Ordering::Relaxed);
    }

    /// Waits until an attempt that runs may go on, and pays for what it burned.
    pub async fn pay_while_running(&self, burned: Burned) {
        let _first = self.running.lock((burned.all > SHORT, burned.began)).await;
        self.pay(burned.more).await;
    }

    /// Notes what an attempt burned that does not wait for it.
    pub fn owes(&self, more: Duration) {
        if self.is_held() {
            self.burned(more);
            self.owed.fetch_add(in_nanos(more), Ordering::Relaxed);
        }
    }

    /// Waits until the debt is paid off, and owes this much instead.
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
            let least = -share * KEPT.as_secs_f64();
            let owed = Duration::from_nanos(self.owed.swap(0, Ordering::Relaxed)).as_secs_f64();
            (debt.seconds, debt.at) = ((debt.seconds - share * passed).max(least) + owed, now);
            if debt.seconds <= 0.0 {
                break;
            }
            self.waits.fetch_add(1, Ordering::Relaxed);
            let wait = (debt.seconds / share).min(LOOK_AGAIN.as_secs_f64());
            tokio::time::sleep(Duration::from_secs_f64(wait)).await;
        }
        debt.seconds += burned.as_secs_f64();
    }

    fn share(&self) -> f64 {
        f64::from_bits(self.share.load(Ordering::Relaxed))
    }

    /// Lets attempts use this many processors from now on, or all. One that is
    /// over within a tick of the engine costs `cost`.
    pub fn set(&self, share: Option<f64>, cost: Duration) {
        // Longer ones pay for the rest while they run.
        self.cost.store(in_nanos(cost.min(TICK)), Ordering::Relaxed);
        let share = share.filter(|_| !self.let_go.load(Ordering::Relaxed)).unwrap_or(f64::INFINITY);
        self.share.store(share.to_bits(), Ordering::Relaxed);
    }

    /// Never holds anybody again: the group is to end what it has begun.
    pub fn let_go(&self) {
        self.let_go.store(true, Ordering::Relaxed);
        self.set(None, Duration::ZERO);
    }

    /// Notes deliveries whose attempt ended.
    pub fn ended(&self, deliveries: usize) {
        self.ended.fetch_add(deliveries as u64, Ordering::Relaxed);
    }

    /// What became of the group's attempts so far.
    #[must_use]
    pub fn so_far(&self) -> SoFar {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SoFar {
            begun: load(&self.begun),
            ended: load(&self.ended),
            paid: Duration::from_nanos(load(&self.paid)),
            waits: load(&self.waits),
        }
    }
}

/// Counts since the group began.
#[derive(Clone, Copy, Debug, Default)]
pub struct SoFar {
    /// Attempts that began; a batch is one.
    pub begun: u64,
    /// Deliveries whose attempt ended.
    pub ended: u64,
    /// Time of a processor that attempts were to pay while they ran.
    pub paid: Duration,
    /// How often one had to wait, and again each [`LOOK_AGAIN`].
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
        let (before, until) = (pace.so_far().begun, tokio::time::Instant::now() + within);
        while tokio::time::timeout_at(until, pace.turn()).await.is_ok() && tokio::time::Instant::now() < until {
            pace.begun();
            tokio::task::yield_now().await;
        }
        pace.so_far().begun - before
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
            pace.turn().await;
            let waiting = pace.turn();
            tokio::pin!(waiting);
            assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err(), "it has to wait");
            assert!(pace.so_far().waits > 0);
            pace.set(share, COST);
            tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("it goes on");
        }
    }

    #[tokio::test]
    async fn a_long_attempt_pays_while_it_runs() {
        let pace = CpuBucket::default();
        pace.set(Some(1e-7), COST);
        pace.pay_while_running(burned(0, COST)).await;
        let held = tokio::time::timeout(Duration::from_millis(20), pace.turn()).await;
        assert!(held.is_err(), "others wait for what it burned");
        pace.let_go();
        pace.set(Some(1e-7), COST);
        pace.turn().await;
        assert!(!pace.is_held(), "it is free for good");
    }

    #[tokio::test]
    async fn what_was_burned_before_an_end_is_owed() {
        let pace = CpuBucket::default();
        pace.owes(COST);
        pace.set(Some(1e-7), Duration::ZERO);
        pace.turn().await;
        pace.owes(COST);
        assert_eq!(pace.so_far().paid, COST, "not what it burned while it was free");
        assert!(tokio::time::timeout(Duration::from_millis(20), pace.turn()).await.is_err());
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
