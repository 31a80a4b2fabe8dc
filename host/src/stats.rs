//! Recent counts of this process, for the charts of the message centre.
//!
//! Counting costs one lock for each batch of outcomes and each message, never a
//! query: a background task writes the rows that changed ([`StatsRecorder::rows`])
//! every few seconds. As with the recorder behind `/metrics`, a process has one.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;
use std::time::Duration;

use courier_core::message::Timestamp;
use parking_lot::{Mutex, MutexGuard};

use crate::clock::now;
use crate::store::{MinuteRow, PaceRow};

/// Microseconds of a minute.
pub const MINUTE: i64 = 60_000_000;
/// Minutes kept while the store is unreachable; older ones are dropped.
const MINUTES_HELD: i64 = 60;
/// Buckets of a latency histogram: four to each doubling, the first up to 64 µs,
/// the last from about a quarter of an hour.
const BUCKETS: usize = 96;
const FIRST_US: f64 = 64.0;
const PER_DOUBLING: f64 = 4.0;
/// The latencies of a group are kept in slots of `SLOT` microseconds.
const SLOTS: usize = 6;
const SLOT: i64 = 10 * MINUTE;
/// How far back the latencies of a group reach.
pub const PACE_WINDOW: Duration = Duration::from_secs(3_600);

static PROCESS: LazyLock<StatsRecorder> = LazyLock::new(StatsRecorder::default);

/// The recorder of this process.
#[must_use]
pub fn process() -> &'static StatsRecorder {
    &PROCESS
}

/// Counts by minute and group.
#[derive(Debug, Default)]
pub struct StatsRecorder(Mutex<RecordedStats>);

#[derive(Debug, Default)]
struct RecordedStats {
    /// By minute and group; true while the store has an older row or none.
    minutes: BTreeMap<(i64, String), (MinuteRow, bool)>,
    paces: HashMap<String, LatencySlots>,
}

/// How long the attempts of a group took.
#[derive(Debug)]
struct LatencySlots {
    slots: [(i64, [u32; BUCKETS]); SLOTS],
    changed: bool,
}

/// Counts of one batch of outcomes.
#[derive(Clone, Debug, Default)]
pub struct BatchStats {
    /// Deliveries that became HANDLED.
    pub handled: u64,
    /// Deliveries that failed or could not run.
    pub failed: u64,
    /// Deliveries that ended as HANDLE_FAIL.
    pub given_up: u64,
    /// How long their last attempts took.
    pub took: Vec<Duration>,
}

impl StatsRecorder {
    fn lock(&self) -> MutexGuard<'_, RecordedStats> {
        self.0.lock()
    }

    /// Counts messages that reached Kafka, and those that became SEND_FAIL.
    pub fn published(&self, taken: u64, send_fail: u64) {
        self.lock().count("", now(), |row| {
            row.published += taken;
            row.send_fail += send_fail;
        });
    }

    /// Counts a batch of outcomes of a group.
    pub fn settled(&self, group: &str, outcomes: &BatchStats) {
        let at = now();
        let mut inner = self.lock();
        inner.count(group, at, |row| {
            row.handled += outcomes.handled;
            row.failed += outcomes.failed;
            row.given_up += outcomes.given_up;
        });
        if !outcomes.took.is_empty() {
            let pace = inner.paces.entry(group.to_owned()).or_default();
            let slot = pace.slot(at);
            for took in &outcomes.took {
                slot[bucket(*took)] += 1;
            }
            pace.changed = true;
        }
    }

    /// The rows that changed since they were last stored.
    #[must_use]
    pub fn rows(&self) -> (Vec<MinuteRow>, Vec<PaceRow>) {
        let inner = self.lock();
        let minutes = inner.minutes.values().filter(|(_, changed)| *changed).map(|(row, _)| row.clone()).collect();
        let paces = inner.paces.iter().filter(|(_, pace)| pace.changed);
        let paces = paces.map(|(group, pace)| PaceRow { group: group.clone(), buckets: pace.sum(now()) }).collect();
        (minutes, paces)
    }

    /// Marks rows as stored, except those that changed meanwhile.
    pub fn taken(&self, minutes: &[MinuteRow], paces: &[PaceRow]) {
        let mut inner = self.lock();
        for row in minutes {
            if let Some((now, changed)) = inner.minutes.get_mut(&(row.minute.0, row.group.clone())) {
                *changed = now != row;
            }
        }
        for row in paces {
            if let Some(pace) = inner.paces.get_mut(&row.group) {
                pace.changed = pace.sum(now()) != row.buckets;
            }
        }
        let this = minute_of(now());
        inner.minutes.retain(|(minute, _), (_, changed)| *changed || *minute >= this);
    }
}

/// The start of the minute that a time falls in.
#[must_use]
pub fn minute_of(at: Timestamp) -> i64 {
    at.0 - at.0.rem_euclid(MINUTE)
}

impl RecordedStats {
    fn count(&mut self, group: &str, at: Timestamp, add: impl FnOnce(&mut MinuteRow)) {
        let minute = minute_of(at);
        let (row, changed) = self.minutes.entry((minute, group.to_owned())).or_insert_with(|| {
            (MinuteRow { minute: Timestamp(minute), group: group.to_owned(), ..MinuteRow::default() }, true)
        });
        add(row);
        *changed = true;
        // Rows must not pile up while the store is unreachable.
        while let Some(entry) = self.minutes.first_entry()
            && entry.key().0 < minute - MINUTES_HELD * MINUTE
        {
            entry.remove();
        }
    }
}

impl Default for LatencySlots {
    fn default() -> Self {
        Self { slots: [(i64::MIN, [0; BUCKETS]); SLOTS], changed: false }
    }
}

impl LatencySlots {
    /// The slot for a time, emptied if it still holds the counts of an earlier one.
    fn slot(&mut self, at: Timestamp) -> &mut [u32; BUCKETS] {
        let number = at.0.div_euclid(SLOT);
        let place = usize::try_from(number.rem_euclid(SLOTS as i64)).unwrap_or(0);
        let slot = &mut self.slots[place];
        if slot.0 != number {
            *slot = (number, [0; BUCKETS]);
        }
        &mut slot.1
    }

    fn sum(&self, at: Timestamp) -> Vec<u64> {
        let oldest = at.0.div_euclid(SLOT) - SLOTS as i64;
        let mut sum = vec![0; BUCKETS];
        for (_, slot) in self.slots.iter().filter(|(number, _)| *number > oldest) {
            for (sum, count) in sum.iter_mut().zip(slot) {
                *sum += u64::from(*count);
            }
        }
        sum
    }
}

fn bucket(took: Duration) -> usize {
    let doublings = (took.as_secs_f64() * 1e6 / FIRST_US).max(1.0).log2();
    ((doublings * PER_DOUBLING).ceil() as usize).min(BUCKETS - 1)
}

/// The milliseconds within which `share` of the attempts in `buckets` ended;
/// `None` without attempts. Exact to about a fifth, the width of a bucket.
#[must_use]
pub fn quantile_ms(buckets: &[u64], share: f64) -> Option<f64> {
    let all: u64 = buckets.iter().sum();
    if all == 0 {
        return None;
    }
    let wanted = ((all as f64 * share).ceil() as u64).max(1);
    let mut seen = 0;
    let place = buckets.iter().position(|count| {
        seen += count;
        seen >= wanted
    })?;
    let us = FIRST_US * (place as f64 / PER_DOUBLING).exp2();
    Some((us / 10.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_took_is_not_written_again_and_what_came_meanwhile_is() {
        let tally = StatsRecorder::default();
        tally.published(3, 1);
        tally.settled(
            "stock",
            &BatchStats { handled: 2, failed: 1, given_up: 1, took: vec![Duration::from_millis(5); 3] },
        );
        let (minutes, paces) = tally.rows();
        assert_eq!((minutes.len(), paces.len()), (2, 1));
        assert_eq!((minutes[0].published, minutes[0].send_fail, minutes[1].handled), (3, 1, 2));
        tally.published(1, 0);
        tally.taken(&minutes, &paces);
        let (minutes, paces) = tally.rows();
        assert_eq!((minutes.len(), minutes[0].published, paces.len()), (1, 4, 0));
    }

    #[test]
    fn quantiles_are_true_to_a_bucket() {
        let mut buckets = vec![0; BUCKETS];
        for ms in 1..=100 {
            buckets[bucket(Duration::from_millis(ms))] += 1;
        }
        let near = |share: f64, ms: f64| {
            let found = quantile_ms(&buckets, share).unwrap();
            assert!(found >= ms && found <= ms * 1.2, "{found} is not about {ms}");
        };
        near(0.5, 50.0);
        near(0.99, 99.0);
        assert_eq!(quantile_ms(&vec![0; BUCKETS], 0.5), None);
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_secs(86_400)), BUCKETS - 1);
    }
}
