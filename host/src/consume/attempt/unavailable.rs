//! Counts deliveries that report `unavailable` while others of their binding succeed.
//!
//! An `unavailable` pauses the whole binding and uses up no attempt, so one
//! message that always causes it would stop its binding for ever. If other
//! deliveries are handled in between, the message is the cause and not the
//! service: after [`MAX_TIMES`] such reports its `unavailable` counts as a
//! `retry`, which the binding's policy ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use courier_core::verdict::Verdict;
use parking_lot::Mutex;

use crate::store::DeliveryKey;

/// Reports after which an `unavailable` counts as a `retry`.
const MAX_TIMES: u32 = 10;
/// Deliveries of a binding that are counted at once. Beyond it the one with the
/// fewest reports is forgotten.
const MAX_WATCHED: usize = 1_000;

/// The reports of one binding on this node. A restart forgets them, which only
/// grants more time.
#[derive(Debug, Default)]
pub struct UnavailableAlone {
    /// Deliveries of the binding that were handled.
    handled: AtomicU64,
    /// How many are counted, so that the usual attempt takes no lock.
    watched: AtomicUsize,
    deliveries: Mutex<HashMap<DeliveryKey, UnavailableCount>>,
}

#[derive(Debug)]
struct UnavailableCount {
    /// Reports between which others were handled.
    times: u32,
    /// `handled` at the last report.
    handled: u64,
}

impl UnavailableAlone {
    /// Counts the verdict of an attempt, and returns what it counts as.
    pub fn judged(&self, key: DeliveryKey, verdict: Verdict) -> Verdict {
        if verdict == Verdict::Success {
            self.handled.fetch_add(1, Ordering::Relaxed);
        }
        if verdict != Verdict::Unavailable && self.watched.load(Ordering::Relaxed) == 0 {
            return verdict;
        }
        let mut deliveries = self.deliveries.lock();
        let counts_as = if verdict == Verdict::Unavailable {
            self.count(&mut deliveries, key)
        } else {
            deliveries.remove(&key);
            verdict
        };
        self.watched.store(deliveries.len(), Ordering::Relaxed);
        counts_as
    }

    fn count(&self, deliveries: &mut HashMap<DeliveryKey, UnavailableCount>, key: DeliveryKey) -> Verdict {
        let handled = self.handled.load(Ordering::Relaxed);
        if let Some(seen) = deliveries.get_mut(&key) {
            if handled > seen.handled {
                *seen = UnavailableCount { times: seen.times.saturating_add(1), handled };
                if seen.times >= MAX_TIMES {
                    return Verdict::Retry;
                }
            }
            return Verdict::Unavailable;
        }
        if deliveries.len() >= MAX_WATCHED
            && let Some(least) = deliveries.iter().min_by_key(|(_, seen)| seen.times).map(|(key, _)| *key)
        {
            deliveries.remove(&least);
        }
        deliveries.insert(key, UnavailableCount { times: 1, handled });
        Verdict::Unavailable
    }
}

/// The reason of an `unavailable` that counts as a `retry`.
#[must_use]
pub fn as_retry(reason: Option<String>) -> String {
    let why = format!(
        "it said {MAX_TIMES} times that it is unavailable while others of the binding were handled, which counts as a \
         retry"
    );
    reason.map_or_else(|| why.clone(), |reason| format!("{reason} ({why})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PositionId;
    use courier_core::message::Offset;

    fn key(offset: i64) -> DeliveryKey {
        DeliveryKey { position: PositionId(1), offset: Offset(offset) }
    }

    #[test]
    fn a_message_that_stops_its_binding_again_and_again_becomes_a_retry() {
        let alone = UnavailableAlone::default();
        for time in 1..MAX_TIMES {
            assert_eq!(alone.judged(key(1), Verdict::Unavailable), Verdict::Unavailable, "{time}");
            assert_eq!(alone.judged(key(2), Verdict::Success), Verdict::Success);
        }
        assert_eq!(alone.judged(key(1), Verdict::Unavailable), Verdict::Retry);
        assert_eq!(alone.judged(key(1), Verdict::Unavailable), Verdict::Unavailable, "nothing was handled since");
        alone.judged(key(2), Verdict::Success);
        assert_eq!(alone.judged(key(1), Verdict::Unavailable), Verdict::Retry, "and it goes on so");
        alone.judged(key(1), Verdict::Reject);
        assert_eq!(alone.judged(key(1), Verdict::Unavailable), Verdict::Unavailable, "a redrive begins anew");
    }

    #[test]
    fn a_service_that_is_down_stays_so_however_often_it_is_probed() {
        let alone = UnavailableAlone::default();
        for _ in 0..100 * MAX_TIMES {
            assert_eq!(alone.judged(key(1), Verdict::Unavailable), Verdict::Unavailable);
        }
    }

    #[test]
    fn what_is_watched_is_bounded() {
        let alone = UnavailableAlone::default();
        for offset in 0..2 * MAX_WATCHED as i64 {
            alone.judged(key(offset), Verdict::Unavailable);
        }
        assert_eq!(alone.deliveries.lock().len(), MAX_WATCHED);
    }
}
