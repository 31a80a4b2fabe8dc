//! Throughput, computed from progress over time.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use courier_tests::{Store, kafka, postgres, usage};

/// Part of a run that is left out at its beginning and at its end, since joining
/// a group and the last half-filled batch would distort the throughput.
const EDGE: f64 = 0.1;

/// Microseconds since 1970, the clock of every time in a store and in Kafka.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Offsets below which everything was durable at a time.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The time.
    pub at: i64,
    /// The next offset of each partition.
    pub next: BTreeMap<i32, i64>,
}

impl Seen {
    /// Number of durable records, in a topic whose partitions begin at 0.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.next.values().map(|next| next.unsigned_abs()).sum()
    }
}

/// Processor time used so far, by process.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// By the contender's own process.
    pub contender: Duration,
    /// By Kafka's broker.
    pub broker: Duration,
    /// By PostgreSQL with all its sessions; zero where it is not used.
    pub database: Duration,
}

impl Used {
    /// The present usage of a contender and its servers. A server that this
    /// program did not start counts as zero.
    #[must_use]
    pub fn now(contender: u32, store: Store) -> Self {
        let of = |process: Option<u32>| process.map_or(Duration::ZERO, usage::cpu);
        let database = match store {
            Store::Postgres => of(postgres().process_id()),
            Store::Sqlite => Duration::ZERO,
        };
        Self { contender: usage::cpu(contender), broker: of(kafka().process_id()), database }
    }
}

impl std::ops::Sub for Used {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            contender: self.contender.saturating_sub(earlier.contender),
            broker: self.broker.saturating_sub(earlier.broker),
            database: self.database.saturating_sub(earlier.database),
        }
    }
}

/// Numbers of done messages over time.
#[derive(Debug, Default)]
pub struct Progress {
    notes: Vec<(i64, u64)>,
}

impl Progress {
    /// Adds the number of messages done at a time.
    pub fn note(&mut self, at: i64, done: u64) {
        self.notes.push((at, done));
    }

    /// Messages a second in the middle of the run; none for a run that is too
    /// short to have one.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let total = self.notes.last()?.1 as f64;
        let reached = |part: f64| self.notes.iter().find(|(_, done)| *done as f64 >= total * part);
        let (first, last) = (reached(EDGE)?, reached(1.0 - EDGE)?);
        let seconds = (last.0 - first.0) as f64 / 1e6;
        (seconds > 0.0).then(|| (last.1 - first.1) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_a_run_do_not_count() {
        let mut progress = Progress::default();
        // A second of joining, then a hundred messages a second.
        progress.note(0, 0);
        for second in 1..=10 {
            progress.note(5_000_000 + second * 1_000_000, second.unsigned_abs() * 100);
        }
        assert!((progress.rate().unwrap() - 100.0).abs() < 1e-6);
        assert!(Progress::default().rate().is_none());
    }
}
