//! Which parked records Kafka is about to remove, and how many of them can be
//! copied before it does.
//!
//! Beyond `max_parked_bytes` an open row keeps only the coordinates of its
//! record, and only Kafka's log has the record. Two signs announce its removal:
//! the record is in the last tenth of the topic's retention, or the start of
//! the log has come within a tenth of the log.

use std::time::Duration;

use crate::message::{Offset, Timestamp};

/// The part of the retention, and of the log, that counts as its end: a tenth.
const LAST_PART: i64 = 10;

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// The first offset.
    pub start: Offset,
    /// Last offset + 1.
    pub end: Offset,
}

/// How long Kafka keeps the records of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// For how long; none where that is for ever, or Kafka does not tell.
    pub time: Option<Duration>,
    /// Whether it removes the oldest ones too once the log is too large.
    pub by_size: bool,
}

/// The records of a log that Kafka may remove soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearEnd {
    /// Records below this offset are removed already.
    pub from: Offset,
    /// Records below this offset are near the start of the log.
    pub below: Offset,
    /// Records of this time or earlier are near the end of their retention. `None`
    /// where Kafka keeps records for ever, or does not say for how long.
    pub recorded_until: Option<Timestamp>,
}

impl NearEnd {
    /// The records near their end at `now`, in a log with these limits.
    #[must_use]
    pub fn of(log: LogRange, retention: Retention, now: Timestamp) -> Self {
        let LogRange { start, end } = log;
        // A log that still has its first record was never cut, and only a limit
        // of its size says that it will be.
        let below = if start.0 > 0 || retention.by_size {
            Offset(start.0 + (end.0 - start.0).max(0) / LAST_PART + 1)
        } else {
            start
        };
        let recorded_until = retention.time.map(|kept| {
            let kept = micros(kept);
            Timestamp(now.0.saturating_sub(kept - kept / LAST_PART))
        });
        Self { from: start, below, recorded_until }
    }

    /// The records that are removed already, of a log that starts at `start`.
    #[must_use]
    pub fn removed(start: Offset) -> Self {
        Self { from: Offset(0), below: start, recorded_until: None }
    }

    /// The same without the records below `from`.
    #[must_use]
    pub fn at_least(self, from: Offset) -> Self {
        Self { from: self.from.max(from), ..self }
    }

    /// Whether a record is near its end.
    #[must_use]
    pub fn contains(&self, offset: Offset, recorded_at: Timestamp) -> bool {
        offset >= self.from && (offset < self.below || self.recorded_until.is_some_and(|until| recorded_at <= until))
    }
}

/// How many of the next records, with these sizes in bytes, can be copied beside
/// `copied_bytes`. The first record that does not fit ends the count, so that
/// copied records lie before records that are not copied.
#[must_use]
pub fn fitting(copied_bytes: u64, sizes: impl IntoIterator<Item = u64>, max_copied_bytes: u64) -> usize {
    let mut sum = copied_bytes;
    let fits = |size: &u64| {
        sum = sum.saturating_add(*size);
        sum <= max_copied_bytes
    };
    sizes.into_iter().take_while(fits).count()
}

/// When Kafka may remove a record, in a log that keeps records for `retention`.
#[must_use]
pub fn removed_at(recorded_at: Timestamp, retention: Duration) -> Timestamp {
    Timestamp(recorded_at.0.saturating_add(micros(retention)))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Retention = Retention { time: Some(Duration::from_secs(3_600)), by_size: false };
    const FOR_EVER: Retention = Retention { time: None, by_size: false };

    fn log(start: i64, end: i64) -> LogRange {
        LogRange { start: Offset(start), end: Offset(end) }
    }

    fn minute(minute: i64) -> Timestamp {
        Timestamp(minute * 60_000_000)
    }

    #[test]
    fn a_record_is_near_its_end_in_the_last_tenth_of_the_retention() {
        let near = |now| NearEnd::of(log(0, 110), HOUR, minute(now)).contains(Offset(7), minute(0));
        assert!(!near(53));
        assert!(near(54) && near(60) && near(9_999));
        assert!(!NearEnd::of(log(0, 110), FOR_EVER, minute(9_999)).contains(Offset(7), minute(0)), "kept for ever");
        assert!(!NearEnd::of(log(8, 110), HOUR, minute(60)).contains(Offset(7), minute(0)), "it is gone already");
    }

    #[test]
    fn a_record_is_near_its_end_once_the_start_of_the_log_is() {
        let near = |offset| NearEnd::of(log(100, 200), FOR_EVER, minute(0)).contains(Offset(offset), minute(0));
        assert!(near(100) && near(110));
        assert!(!near(99) && !near(111));
        let young = NearEnd::of(log(0, 200), FOR_EVER, minute(0));
        assert!(!young.contains(Offset(0), minute(0)), "a log that never lost its start");
        let by_size = Retention { by_size: true, ..FOR_EVER };
        let limited = NearEnd::of(log(0, 200), by_size, minute(0));
        assert!(limited.contains(Offset(20), minute(0)), "its size will cut it");
        assert!(!limited.contains(Offset(21), minute(0)));
        let removed = NearEnd::removed(Offset(100));
        assert!(removed.contains(Offset(99), minute(0)) && !removed.contains(Offset(100), minute(0)));
        let short = NearEnd::of(log(5, 8), FOR_EVER, minute(0));
        assert!(short.contains(Offset(5), minute(0)) && !short.contains(Offset(6), minute(0)));
    }

    #[test]
    fn what_was_looked_at_is_passed() {
        let near = NearEnd::of(log(100, 200), FOR_EVER, minute(0)).at_least(Offset(105));
        assert!(!near.contains(Offset(104), minute(0)) && near.contains(Offset(105), minute(0)));
        assert_eq!(near.at_least(Offset(3)), near);
    }

    #[test]
    fn records_are_copied_in_their_order_up_to_the_bound() {
        assert_eq!(fitting(0, [4, 4, 4], 12), 3);
        assert_eq!(fitting(1, [4, 4, 4], 12), 2);
        assert_eq!(fitting(0, [4, 40, 4], 12), 1, "a small one does not pass a large one");
        assert_eq!(fitting(13, [1], 12), 0);
        assert_eq!(fitting(u64::MAX, [u64::MAX], u64::MAX - 1), 0);
    }

    #[test]
    fn the_time_of_the_removal_is_told() {
        assert_eq!(removed_at(minute(3), Duration::from_secs(60)), minute(4));
        assert_eq!(removed_at(minute(3), Duration::MAX), Timestamp(i64::MAX));
    }
}
