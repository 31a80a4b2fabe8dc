//! The host's clock: the one place outside the store where time is read.
//!
//! It shows the store's time. Due times, leases and retention are judged by the
//! store, which several hosts share, and a host whose own clock is an hour off
//! would let retries run an hour early or late on another one. So the store is
//! asked for its time now and then ([`follow`]), and the difference is added.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use courier_core::message::Timestamp;

/// Largest difference of the two clocks, in microseconds, that is not corrected:
/// they are never read at the same moment.
const TOLERANCE_MICROS: i64 = 2_000;

/// By how many microseconds the store's clock is ahead of this machine's.
static AHEAD_MICROS: AtomicI64 = AtomicI64::new(0);

/// Now, by the store's clock; by this machine's until the store was asked.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp(machine_now().0.saturating_add(AHEAD_MICROS.load(Ordering::Relaxed)))
}

/// Now, by this machine's clock.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is where the host reads the time")]
pub fn machine_now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_microsecond())
}

/// Records the store's time. `asked` and `answered` are this machine's times
/// before and after the query. Returns by how many microseconds the store is ahead.
pub fn follow(store: Timestamp, asked: Timestamp, answered: Timestamp) -> i64 {
    let ahead = ahead_micros(AHEAD_MICROS.load(Ordering::Relaxed), store, asked, answered);
    AHEAD_MICROS.store(ahead, Ordering::Relaxed);
    ahead
}

/// Estimates by how many microseconds the store is ahead. The store read its
/// clock somewhere between `asked` and `answered`, so the estimate is uncertain by
/// half of that time. `known` stays while it lies within the uncertainty: an
/// offset that jitters would let times overtake one another.
fn ahead_micros(known: i64, store: Timestamp, asked: Timestamp, answered: Timestamp) -> i64 {
    let half = answered.0.saturating_sub(asked.0).max(0) / 2;
    let measured = store.0.saturating_sub(asked.0.saturating_add(half));
    let may_differ = half.saturating_add(TOLERANCE_MICROS);
    if measured.saturating_sub(known).saturating_abs() <= may_differ { known } else { measured }
}

/// A duration in nanoseconds, at most `u64::MAX`.
#[must_use]
pub fn in_nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The time of a system clock, in nanoseconds. A clock that does not exist, such
/// as that of a thread that has ended, reads as 0.
#[must_use]
pub fn nanos(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the call to write to. The call fails
    // only for clocks that do not exist; then the time reads as zero.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_clock_is_followed_and_its_jitter_is_not() {
        let at = Timestamp;
        let hour = 3_600_000_000;
        assert_eq!(ahead_micros(0, at(hour + 500), at(0), at(1_000)), hour, "in the middle of asking and answer");
        assert_eq!(ahead_micros(0, at(-hour + 500), at(0), at(1_000)), -hour);
        assert_eq!(ahead_micros(hour, at(hour + 2_400), at(0), at(1_000)), hour, "within what is not known");
        assert_eq!(ahead_micros(hour, at(hour + 3_100), at(0), at(1_000)), hour + 2_600);
        // A slow answer says little.
        assert_eq!(ahead_micros(0, at(900_000), at(0), at(2_000_000)), 0);
        assert_eq!(ahead_micros(0, at(i64::MAX), at(i64::MIN), at(i64::MIN)), i64::MAX, "and nothing overflows");
    }
}
