//! Partitions that a transaction of somebody else's producer holds back.
//!
//! Groups read what is committed, so a transaction that its producer neither
//! commits nor aborts stops them at its first record, however much is produced
//! behind it. To a group this looks as if nothing more came, and its lag is
//! none. It is told by the two ends of the log: what can be read stands still
//! while there is more.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use courier_core::message::Offset;

use crate::app::kafka_status::{PartitionKey, Stalled};

/// How long a transaction may be open before people are told. A producer's own
/// limit is a minute unless it asks for more.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// How often a partition that stands still is compared with the whole log.
const LOOK: Duration = Duration::from_secs(5);

/// What is known of each partition.
#[derive(Debug, Default)]
pub struct Stalls {
    seen: HashMap<PartitionKey, StalledSince>,
}

#[derive(Debug)]
struct StalledSince {
    at: Offset,
    looked: Option<Instant>,
    /// Since when there is more than can be read, and how much.
    more: Option<(Instant, i64)>,
}

impl Stalls {
    /// Takes note of where `place` can be read to. Answers whether the end of
    /// the whole log is wanted; see [`Stalls::whole`].
    pub fn readable(&mut self, now: Instant, place: &PartitionKey, at: Offset) -> bool {
        let standing = self.seen.entry(place.clone()).or_insert(StalledSince { at, looked: None, more: None });
        if standing.at != at {
            *standing = StalledSince { at, looked: None, more: None };
        }
        let wanted = standing.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK);
        if wanted {
            standing.looked = Some(now);
        }
        wanted
    }

    /// Takes note of where the whole log of `place` ends.
    pub fn whole(&mut self, now: Instant, place: &PartitionKey, end: Offset) {
        let Some(standing) = self.seen.get_mut(place) else { return };
        let more = end.0 - standing.at.0;
        standing.more = (more > 0).then(|| (standing.more.map_or(now, |(since, _)| since), more));
    }

    /// Forgets all but these partitions.
    pub fn keep(&mut self, places: &HashMap<PartitionKey, Offset>) {
        self.seen.retain(|place, _| places.contains_key(place));
    }

    /// The partitions that are held back, in their order.
    #[must_use]
    pub fn stalled(&self, now: Instant) -> Vec<Stalled> {
        let found = self.seen.iter().filter_map(|(place, standing)| {
            let (since, behind) = standing.more?;
            let since = now.duration_since(since);
            (since >= STALLED_AFTER).then(|| Stalled { place: place.clone(), at: standing.at, behind, since })
        });
        let mut found: Vec<_> = found.collect();
        found.sort_by(|a, b| a.place.cmp(&b.place));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_stands_still_while_there_is_more() {
        let (mut stalls, begun) = (Stalls::default(), Instant::now());
        let place = ("order".to_owned(), 3);
        let mut seen = |after_s: u64, readable: i64, end: i64| {
            let now = begun + Duration::from_secs(after_s);
            if stalls.readable(now, &place, Offset(readable)) {
                stalls.whole(now, &place, Offset(end));
            }
            stalls.stalled(now).first().map(|stalled| (stalled.at.0, stalled.behind, stalled.since.as_secs()))
        };
        assert_eq!(seen(0, 7, 7), None, "an idle partition");
        assert_eq!(seen(600, 7, 9), None, "a transaction has just begun, however long it was idle before");
        assert_eq!(seen(629, 7, 9), None);
        assert_eq!(seen(640, 7, 50), Some((7, 43, 40)));
        assert_eq!(seen(642, 7, 50), Some((7, 43, 42)), "not looked at again, and still held back");
        assert_eq!(seen(644, 51, 51), None, "committed");
        assert_eq!(seen(646, 60, 64), None, "the next transaction");
    }
}
