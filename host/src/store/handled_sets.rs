//! Handled sets: the deliveries that were HANDLED at the first attempt in a group
//! whose binding says `trace = "failures"`. Such a delivery has no row, but a bit in a
//! run-length set of its position.
//!
//! A settle appends one segment for each position and plugin version, in its
//! transaction, so that a delivery above the position is not run again after a crash.
//! A settle never changes a segment; [`HandledSetStore::compact_sets`] joins those of a
//! minute that has passed. So the node and version of a delivery are exact, and its
//! time lies in the window of its segment, which is no longer than [`WINDOW`] and one
//! batch.
//!
//! Any other outcome of a delivery is a row. A row goes before a bit of the same
//! offset, and readers look for it first.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::{Offset, Timestamp};
use courier_core::offset_runs::{OffsetRuns, SegmentError};
use courier_core::status::State;

use super::{Becomes, DeliveryFilter, DeliveryKey, Part, StoreError};

/// Segments of one node and version that begin in the same window are joined once it
/// has passed. The window is how exactly the time of a delivery is known, and a position
/// has one segment for each, unless its offsets span more than a segment can.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Segments that one transaction joins. It locks the position, and the settles of its
/// owner wait for it.
pub const COMPACTED_AT_ONCE: u32 = 2_000;
/// How many offsets after the wanted one a query reads segments for, since callers ask
/// for deliveries that lie side by side.
pub(super) const READ_AHEAD: i64 = 1_000;

/// Why one delivery of a handled set cannot run again by itself: its key, and with it
/// its lane, is known from its record alone.
pub(super) const IN_SET: &str = "the delivery was HANDLED at the first attempt and has no row, since its group keeps none \
     (trace = \"failures\"): run it again by its offset, with a redrive that has \"replay\": true, `partition`, \
     `from_offset` and `to_offset`";

/// What is known of a delivery that is in a handled set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandledAt {
    /// The node that handled it.
    pub node: Option<String>,
    /// The version that handled it.
    pub version: Option<String>,
    /// The first attempt of its segment began at this time, and its own no earlier.
    pub from: Timestamp,
    /// The last attempt of its segment ended at this time, and its own no later.
    pub to: Timestamp,
}

/// Reads and compacts handled sets, for the API and for `server/`.
#[async_trait]
pub trait HandledSetStore: Send + Sync {
    /// Reads what is known of each delivery that is in the handled set of its position,
    /// in the order of `keys`; `None` for any other. A row of the delivery goes before
    /// this.
    async fn handled_at(&self, keys: &[DeliveryKey]) -> Result<Vec<Option<HandledAt>>, StoreError>;

    /// Lists the groups that have handled sets of these topics, or of any: lists and
    /// searches do not find their deliveries.
    async fn groups_with_sets(&self, topics: Option<&[String]>) -> Result<Vec<String>, StoreError>;

    /// Joins segments of one position whose window has passed, and returns whether there
    /// were any.
    async fn compact_sets(&self) -> Result<bool, StoreError>;
}

/// A segment that a settle appends.
pub(super) struct NewSegment<'p> {
    pub(super) runs: OffsetRuns,
    pub(super) node: &'p str,
    pub(super) version: Option<&'p str>,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

impl<'p> NewSegment<'p> {
    /// Splits it into segments none of which spans too many offsets.
    fn into_segments(self) -> impl Iterator<Item = NewSegment<'p>> {
        let Self { runs, node, version, from, to } = self;
        runs.into_segments().into_iter().map(move |runs| NewSegment { runs, node, version, from, to })
    }
}

/// Collects the segments of a part: one for each node and version, unless the offsets
/// span more than a segment can.
pub(super) fn segments_of(part: &Part) -> Vec<NewSegment<'_>> {
    let mut sets: Vec<NewSegment<'_>> = Vec::new();
    for outcome in &part.outcomes {
        let Becomes::InHandledSet { settled_at } = outcome.to else { continue };
        let (node, version) = (&*outcome.node, outcome.version.as_deref());
        let began = outcome.started_at.unwrap_or(settled_at);
        let at = sets.iter().position(|set| set.node == node && set.version == version).unwrap_or_else(|| {
            sets.push(NewSegment { runs: OffsetRuns::default(), node, version, from: began, to: settled_at });
            sets.len() - 1
        });
        let set = &mut sets[at];
        set.runs.insert(outcome.offset);
        (set.from, set.to) = (set.from.min(began), set.to.max(settled_at));
    }
    sets.into_iter().flat_map(NewSegment::into_segments).collect()
}

/// A segment as it is stored: nodes and versions by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredSegment {
    pub(super) group: i64,
    pub(super) runs: OffsetRuns,
    pub(super) node: i64,
    pub(super) version: Option<i64>,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

/// The columns of a segment that are computed from its runs.
pub(super) struct EncodedRuns {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) deliveries: i64,
    pub(super) bytes: Vec<u8>,
}

impl EncodedRuns {
    /// Encodes the runs of one segment.
    pub(super) fn of(runs: &OffsetRuns) -> Result<Self, StoreError> {
        let bug = |error: SegmentError| StoreError::Bug(error.to_string());
        let bytes = runs.encode().map_err(bug)?;
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return Err(bug(SegmentError::Empty)) };
        Ok(Self { first: first.0, last: last.0, deliveries: runs.len().cast_signed(), bytes })
    }
}

/// Reads the runs of a stored segment.
pub(super) fn decode(first: i64, bytes: &[u8]) -> Result<OffsetRuns, StoreError> {
    OffsetRuns::decode(Offset(first), bytes).map_err(|error| StoreError::Bug(error.to_string()))
}

/// Rounds a time down to the start of its [`WINDOW`].
pub(super) fn window_of(time: Timestamp) -> i64 {
    let window = WINDOW.as_micros() as i64;
    time.0.div_euclid(window) * window
}

/// Merges the offsets at or above `from` of some segments.
pub(super) fn offsets_from(segments: Vec<OffsetRuns>, from: Offset) -> OffsetRuns {
    let mut all = OffsetRuns::default();
    for mut segment in segments {
        all.merge(&segment.split_off(from));
    }
    all
}

/// Whether deliveries of handled sets may match a filter: their group, topic and time
/// are known, and nothing of their messages.
pub(super) fn may_mean(filter: &DeliveryFilter) -> bool {
    let DeliveryFilter { type_name, key, fingerprint, message_id, .. } = filter;
    let names_message = type_name.is_some() || key.is_some() || fingerprint.is_some() || message_id.is_some();
    filter.state == Some(State::Handled) && !names_message
}

/// The deliveries of handled sets that a plan takes, by position and offset.
///
/// A plan's items run in its order, and the segments of one position overlap. So the
/// items of a position are sorted by their offsets; otherwise messages of one key would
/// run again in another order than they were sent in.
#[derive(Default)]
pub(super) struct PlannedSets {
    found: Vec<(i64, i64)>,
}

impl PlannedSets {
    /// Adds the offsets of a segment below the position's `next`, and returns false once
    /// there are more than `room`.
    pub(super) fn take(&mut self, position: i64, next: Offset, runs: &OffsetRuns, room: usize) -> bool {
        let below = runs.offsets().take_while(|offset| *offset < next);
        let free = (room + 1).saturating_sub(self.found.len());
        self.found.extend(below.take(free).map(|offset| (position, offset.0)));
        self.found.len() <= room
    }

    /// Returns positions and offsets of at most `room` of them, in the order in which
    /// they are to run, and whether there were more.
    pub(super) fn planned(mut self, room: usize) -> (Vec<(i64, i64)>, bool) {
        let more = self.found.len() > room;
        self.found.truncate(room);
        self.found.sort_unstable();
        (self.found, more)
    }
}

/// Joins the segments of one position that have the same node, version and
/// [`WINDOW`].
pub(super) fn join(segments: Vec<StoredSegment>) -> Vec<StoredSegment> {
    let mut joined: BTreeMap<(i64, i64, Option<i64>), StoredSegment> = BTreeMap::new();
    for segment in segments {
        let key = (window_of(segment.from), segment.node, segment.version);
        match joined.get_mut(&key) {
            Some(other) => {
                other.runs.merge(&segment.runs);
                (other.from, other.to) = (other.from.min(segment.from), other.to.max(segment.to));
            }
            None => {
                joined.insert(key, segment);
            }
        }
    }
    let in_segments = |segment: StoredSegment| {
        let StoredSegment { runs, group, node, version, from, to } = segment;
        runs.into_segments().into_iter().map(move |runs| StoredSegment { runs, group, node, version, from, to })
    };
    joined.into_values().flat_map(in_segments).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(offsets: std::ops::Range<i64>, version: i64, seconds: i64) -> StoredSegment {
        let from = Timestamp(seconds * 1_000_000);
        StoredSegment {
            group: 1,
            runs: offsets.step_by(2).map(Offset).collect(),
            node: 1,
            version: Some(version),
            from,
            to: Timestamp(from.0 + 500_000),
        }
    }

    #[test]
    fn segments_of_one_version_and_minute_are_joined() {
        let all = vec![segment(0..10, 1, 61), segment(1..10, 1, 70), segment(10..20, 2, 71), segment(30..40, 1, 120)];
        let offsets = |segments: &[StoredSegment]| {
            let mut offsets: Vec<i64> =
                segments.iter().flat_map(|one| one.runs.offsets().map(|at| at.0).collect::<Vec<_>>()).collect();
            offsets.sort_unstable();
            offsets
        };
        let joined = join(all.clone());
        assert_eq!(offsets(&joined), offsets(&all), "nothing is lost or made up");
        assert_eq!(joined.len(), 3);
        assert_eq!(joined[0].runs.runs().len(), 1, "what lies side by side is one run");
        assert_eq!((joined[0].from, joined[0].to), (Timestamp(61_000_000), Timestamp(70_500_000)));
        assert_eq!(join(joined.clone()), joined, "to join again changes nothing");
    }

    #[test]
    fn what_a_plan_takes_of_overlapping_segments_is_in_the_order_of_their_offsets() {
        let mut sets = PlannedSets::default();
        assert!(sets.take(7, Offset(100), &segment(0..6, 1, 1).runs, 10));
        assert!(sets.take(7, Offset(4), &segment(1..6, 1, 2).runs, 10));
        assert!(sets.take(3, Offset(100), &segment(50..52, 1, 3).runs, 10));
        assert_eq!(sets.planned(10), (vec![(3, 50), (7, 0), (7, 1), (7, 2), (7, 3), (7, 4)], false));
        let mut full = PlannedSets::default();
        assert!(!full.take(7, Offset(100), &segment(0..6, 1, 1).runs, 2));
        assert_eq!(full.planned(2), (vec![(7, 0), (7, 2)], true));
    }

    #[test]
    fn what_spans_more_than_a_segment_stays_apart() {
        let joined = join(vec![segment(0..10, 1, 1), segment(1_000_000..1_000_010, 1, 2)]);
        assert_eq!(joined.len(), 2);
        assert!(joined.iter().all(|one| EncodedRuns::of(&one.runs).is_ok()));
    }
}
