//! The host's clock: the one place outside the store where time is read.

use std::time::Duration;

use courier_core::message::Timestamp;

/// Now, by this machine's clock.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_microsecond())
}

/// A time in nanoseconds; one of centuries is cut.
#[must_use]
pub fn in_nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What a clock of the system shows, in nanoseconds. One that there is not, such
/// as that of a thread that has ended, shows none.
#[must_use]
pub fn nanos(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the call to write to. The call fails
    // only for clocks that do not exist; then the time reads as zero.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
