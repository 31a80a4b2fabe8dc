//! Interrupts busy guests, and measures their CPU time.
//!
//! A thread advances the epoch of the wasmtime engines at each
//! [`TICK`](super::limits::TICK); compiled code notices that and calls back, and
//! the guest yields its worker and has its CPU time checked. CPU time is that of
//! the thread while it polls the guest, so that other tasks on the thread do not
//! count. The ticking thread sleeps while no guest runs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use wasmtime::EngineWeak;

use super::Burned;
use super::limits::{IDLE_TICKS, TICK};
use crate::clock::{in_nanos, nanos};
use crate::supervise::{self, Task};

/// The thread that advances epochs, and the state that starts and stops it.
pub(super) struct Ticker {
    shared: Arc<TickerState>,
    thread: Option<JoinHandle<()>>,
}

struct TickerState {
    /// The number of guests being polled now.
    running: AtomicU32,
    asleep: AtomicBool,
    stop: AtomicBool,
}

impl Ticker {
    /// Starts the thread. It holds the engines weakly, so that they can be dropped.
    pub(super) fn start(engines: Vec<EngineWeak>) -> std::io::Result<Self> {
        let shared = Arc::new(TickerState {
            running: AtomicU32::new(0),
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let thread = std::thread::Builder::new().name("wasm-ticker".into()).spawn({
            let shared = Arc::clone(&shared);
            move || supervise::thread(Task::EpochTicker, || shared.tick(&engines))
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A handle that counts the polls of one sandbox.
    pub(super) fn pulse(&self) -> TickerHandle {
        let thread = self.thread.as_ref().map(|handle| handle.thread().clone());
        TickerHandle { shared: Arc::clone(&self.shared), thread }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread cannot panic; if it did, there would be nothing left to do here.
            let _ = thread.join();
        }
    }
}

impl TickerState {
    fn tick(&self, engines: &[EngineWeak]) {
        let mut idle = 0;
        while !self.stop.load(Ordering::SeqCst) {
            if idle < IDLE_TICKS {
                std::thread::sleep(TICK);
                for engine in engines.iter().filter_map(EngineWeak::upgrade) {
                    engine.increment_epoch();
                }
                idle = if self.running.load(Ordering::Relaxed) == 0 { idle + 1 } else { 0 };
                continue;
            }
            // Either this load sees the guest that began, or that guest sees `asleep` and
            // wakes this thread: both sides write first and read then, in one total
            // order.
            self.asleep.store(true, Ordering::SeqCst);
            if self.running.load(Ordering::SeqCst) == 0 && !self.stop.load(Ordering::SeqCst) {
                std::thread::park();
            }
            self.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }
}

/// Tells the ticker whether guests run.
#[derive(Clone)]
pub(super) struct TickerHandle {
    shared: Arc<TickerState>,
    thread: Option<Thread>,
}

impl TickerHandle {
    fn begin(&self) {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.unpark();
        }
    }

    fn end(&self) {
        self.shared.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The CPU time of one call. Shared by the future that polls the guest, which
/// adds each poll, and the guest's store, which checks within a poll; the two
/// are never active at once, so the atomics order nothing.
///
/// Reading a thread's CPU time is a system call, and two of them would cost a
/// short call a third of its time. Most calls end in one poll and within a tick,
/// so that the first poll begins with the wall clock, which costs next to
/// nothing. At the first tick, or when that poll ends, the time since then counts
/// as used, but at most [`UNMEASURED`]: while the thread waited for a processor,
/// the guest used none. From then on the thread's own clock is read.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// CPU nanoseconds of finished measurements.
    burned: AtomicU64,
    /// The time on its clock, in nanoseconds, when the present measurement began.
    since: AtomicU64,
    /// Whether `since` is a time of the wall clock.
    unmeasured: AtomicBool,
    /// Whether the next poll is the first of its call.
    first: AtomicBool,
    /// The wall clock in nanoseconds when the first poll began.
    began: AtomicU64,
    /// CPU nanoseconds that were reported to the throttle.
    told: AtomicU64,
    /// CPU nanoseconds that are not reported to the throttle: the first tick of an
    /// attempt is free.
    untold: AtomicU64,
    /// Nanoseconds for which the call was throttled.
    held: AtomicU64,
    /// The wall clock in nanoseconds when the present throttling began, or 0.
    held_since: AtomicU64,
}

/// Upper bound of the time that the wall clock measures at the start of a call.
/// Beyond two ticks the thread was waiting for a processor.
const UNMEASURED: Duration = Duration::from_nanos(2 * TICK.as_nanos() as u64);

impl Meter {
    /// Begins an attempt of one or several calls, whose first tick is free.
    pub(super) fn attempt(&self) {
        self.untold.store(in_nanos(TICK), Ordering::Relaxed);
    }

    /// Resets the meter for a new call.
    pub(super) fn reset(&self) {
        self.burned.store(0, Ordering::Relaxed);
        self.first.store(true, Ordering::Relaxed);
        self.told.store(self.untold.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        self.held.store(0, Ordering::Relaxed);
    }

    /// The CPU time so far, and the part of it that was not reported before.
    pub(super) fn tell(&self) -> Burned {
        let burned = self.burned.load(Ordering::Relaxed);
        let told = self.told.fetch_max(burned, Ordering::Relaxed);
        Burned {
            began: self.began.load(Ordering::Relaxed),
            all: Duration::from_nanos(burned),
            more: Duration::from_nanos(burned.saturating_sub(told)),
        }
    }

    /// How long the call was throttled so far.
    pub(super) fn held(&self) -> Duration {
        let now = match self.held_since.load(Ordering::Relaxed) {
            0 => 0,
            since => nanos(libc::CLOCK_MONOTONIC).saturating_sub(since),
        };
        Duration::from_nanos(self.held.load(Ordering::Relaxed) + now)
    }

    /// Whether the call is throttled now.
    pub(super) fn is_held(&self) -> bool {
        self.held_since.load(Ordering::Relaxed) != 0
    }

    /// CPU time of finished polls.
    pub(super) fn burned(&self) -> Duration {
        Duration::from_nanos(self.burned.load(Ordering::Relaxed))
    }

    /// CPU time with the present poll; for use within a poll only.
    pub(super) fn burned_now(&self) -> Duration {
        self.settle();
        self.unmeasured.store(false, Ordering::Relaxed);
        self.since.store(nanos(libc::CLOCK_THREAD_CPUTIME_ID), Ordering::Relaxed);
        self.burned()
    }

    fn begin_poll(&self) {
        let unmeasured = self.first.swap(false, Ordering::Relaxed);
        let clock = if unmeasured { libc::CLOCK_MONOTONIC } else { libc::CLOCK_THREAD_CPUTIME_ID };
        self.unmeasured.store(unmeasured, Ordering::Relaxed);
        let now = nanos(clock);
        self.since.store(now, Ordering::Relaxed);
        if unmeasured {
            self.began.store(now, Ordering::Relaxed);
        }
    }

    /// Adds the time since the last measurement.
    fn settle(&self) {
        let since = self.since.load(Ordering::Relaxed);
        let spent = if self.unmeasured.load(Ordering::Relaxed) {
            let most = in_nanos(UNMEASURED);
            nanos(libc::CLOCK_MONOTONIC).saturating_sub(since).min(most)
        } else {
            nanos(libc::CLOCK_THREAD_CPUTIME_ID).saturating_sub(since)
        };
        self.burned.fetch_add(spent, Ordering::Relaxed);
    }
}

/// Marks the call of a meter as throttled until it is dropped.
pub(super) struct HeldBack(Arc<Meter>);

impl HeldBack {
    pub(super) fn from_now(meter: Arc<Meter>) -> Self {
        meter.held_since.store(nanos(libc::CLOCK_MONOTONIC), Ordering::Relaxed);
        Self(meter)
    }
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        let held = self.0.held();
        self.0.held_since.store(0, Ordering::Relaxed);
        self.0.held.store(in_nanos(held), Ordering::Relaxed);
    }
}

/// Awaits a call for `timeout`, to which the time is added for which it was
/// throttled, and in which the host itself did not run since it was stopped or
/// frozen. `None` when the time is over before the call ends.
pub(super) async fn in_time<T>(
    mut call: impl Future<Output = T> + Unpin,
    timeout: Duration,
    meter: &Meter,
) -> Option<T> {
    let begun = Instant::now();
    let (mut left, mut frozen) = (timeout, Duration::ZERO);
    loop {
        let (wait, waits_since) = (left.min(HEARTBEAT), Instant::now());
        if let Ok(ended) = tokio::time::timeout(wait, &mut call).await {
            return Some(ended);
        }
        frozen += gap(wait, waits_since.elapsed());
        left = (timeout + meter.held() + frozen).saturating_sub(begun.elapsed());
        if meter.is_held() {
            left = left.max(LOOK_AGAIN);
        } else if left.is_zero() {
            return None;
        }
    }
}

/// How long a call is awaited between two readings of the clock.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// A reading that is late by as much or more tells that the host did not run.
/// Less than that a busy processor may take.
const LATE: Duration = Duration::from_secs(1);

/// How long the host did not run in a wait that took `waited` in place of `wait`.
fn gap(wait: Duration, waited: Duration) -> Duration {
    let late = waited.saturating_sub(wait);
    if late >= LATE { late } else { Duration::ZERO }
}

/// How often a call that is throttled past its timeout is checked.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The future of a guest's call that measures each poll and ends with `Err` when
/// more CPU time was used than allowed. The guest checks itself at each tick;
/// this check catches CPU time that host functions use on its behalf.
pub(super) struct Metered<F> {
    pub(super) inner: F,
    pub(super) meter: Arc<Meter>,
    pub(super) pulse: TickerHandle,
    pub(super) limit: Duration,
}

/// The call used more CPU time than the binding allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cpu limit")]
pub(super) struct CpuExceeded;

impl<F: Future + Unpin> Future for Metered<F> {
    type Output = Result<F::Output, CpuExceeded>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.meter.begin_poll();
        self.pulse.begin();
        let polled = Pin::new(&mut self.inner).poll(cx);
        self.pulse.end();
        self.meter.settle();
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if self.meter.burned() > self.limit => Poll::Ready(Err(CpuExceeded)),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_poll_that_burns_is_measured_and_one_that_waits_is_not() {
        let ticker = Ticker::start(Vec::new()).unwrap();
        let meter = Arc::new(Meter::default());
        meter.reset();
        let work = Box::pin(async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let clock = libc::CLOCK_THREAD_CPUTIME_ID;
            let until = nanos(clock) + 5_000_000;
            while nanos(clock) < until {}
        });
        let metered =
            Metered { inner: work, meter: Arc::clone(&meter), pulse: ticker.pulse(), limit: Duration::from_secs(1) };
        metered.await.unwrap();
        let burned = meter.burned();
        assert!(burned >= Duration::from_millis(5), "{burned:?}");
        assert!(burned < Duration::from_millis(25), "{burned:?}");
    }

    #[tokio::test]
    async fn what_a_call_was_held_back_is_added_to_its_time() {
        let (meter, timeout) = (Arc::new(Meter::default()), Duration::from_millis(30));
        let begun = Instant::now();
        let held_for = Duration::from_millis(60);
        let waits_then = Box::pin(async {
            let held = HeldBack::from_now(Arc::clone(&meter));
            tokio::time::sleep(held_for).await;
            drop(held);
            std::future::pending::<()>().await;
        });
        assert!(in_time(waits_then, timeout, &meter).await.is_none(), "its own time is over in the end");
        assert!(begun.elapsed() >= timeout + held_for);
        assert!(!meter.is_held());
        meter.reset();
        assert_eq!(meter.held(), Duration::ZERO, "the next call was not held");
        assert!(in_time(std::future::pending::<()>(), timeout, &meter).await.is_none());
    }

    /// Issue 16: SIGSTOP of the host within an attempt counted as a time-out of
    /// its handler.
    #[tokio::test]
    async fn time_in_which_the_host_did_not_run_is_not_the_calls() {
        let (meter, timeout) = (Meter::default(), Duration::from_millis(300));
        let frozen_for = LATE + HEARTBEAT * 4;
        // The thread stands still, and with it the call and whoever awaits it.
        let stops = async || std::thread::sleep(frozen_for);
        let ends_late = Box::pin(async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            stops().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        });
        assert!(in_time(ends_late, timeout, &meter).await.is_some(), "20 ms were its own");
        let begun = Instant::now();
        let never_ends = Box::pin(async {
            stops().await;
            std::future::pending::<()>().await;
        });
        assert!(in_time(never_ends, timeout, &meter).await.is_none(), "its own time is over in the end");
        assert!(begun.elapsed() >= timeout + frozen_for - HEARTBEAT);
        assert_eq!(gap(HEARTBEAT, HEARTBEAT + LATE / 2), Duration::ZERO, "a busy processor");
    }

    #[test]
    fn only_the_first_tick_of_an_attempt_is_not_told_of() {
        let meter = Meter::default();
        let burns = |nanos: u64| {
            meter.reset();
            meter.burned.store(nanos, Ordering::Relaxed);
            meter.tell().more
        };
        meter.attempt();
        assert_eq!([burns(1_500_000), burns(300_000)], [500_000, 300_000].map(Duration::from_nanos));
        assert_eq!(meter.tell().more, Duration::ZERO, "it was told");
        meter.attempt();
        assert_eq!(burns(900_000), Duration::ZERO);
    }
}
