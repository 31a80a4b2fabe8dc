//! A set of offsets as runs: adjacent offsets share one entry.
//!
//! A group that keeps no rows of deliveries handled at the first attempt keeps
//! their offsets in such a set. It is stored in segments that span at most
//! [`MAX_SPAN`] offsets: a reader that looks for one offset knows how far
//! before it the first offset of its segment can lie, and a segment of any
//! shape stays small.

use crate::message::Offset;

/// The most offsets from the first of a segment to its last, both included.
pub const MAX_SPAN: i64 = 65_536;
/// The most bytes of an encoded segment: the version, and at most one byte for
/// each offset, since each number of the encoding stands for at least as many
/// offsets as it takes bytes.
pub const MAX_ENCODED_BYTES: usize = 1 + MAX_SPAN as usize;

/// The version of the encoding, its first byte.
const VERSION: u8 = 1;

/// Offsets from `first` to below `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRun {
    /// The first offset.
    pub first: Offset,
    /// The offset after the last one.
    pub end: Offset,
}

impl OffsetRun {
    fn len(self) -> u64 {
        self.end.0.abs_diff(self.first.0)
    }
}

/// A set of offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetRuns {
    /// Ascending, not empty, and neither overlapping nor adjacent.
    runs: Vec<OffsetRun>,
}

/// Why bytes are no segment, or why a set cannot be encoded as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentError {
    /// There are no offsets.
    Empty,
    /// The bytes are of a version that this program does not know.
    Version(u8),
    /// The bytes end within a number, or with a gap.
    Truncated,
    /// A number is zero, or is encoded in more bytes than it needs.
    Malformed,
    /// The offsets span more than [`MAX_SPAN`].
    TooWide,
}

impl std::fmt::Display for SegmentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => write!(f, "a segment of handled offsets is empty"),
            Self::Version(version) => write!(f, "a segment of handled offsets has the unknown version {version}"),
            Self::Truncated => write!(f, "a segment of handled offsets ends too early"),
            Self::Malformed => write!(f, "a segment of handled offsets holds a run that is none"),
            Self::TooWide => write!(f, "a segment of handled offsets spans more than {MAX_SPAN} offsets"),
        }
    }
}

impl std::error::Error for SegmentError {}

impl OffsetRuns {
    /// Whether the set has no offsets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The number of offsets.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|run| run.len()).sum()
    }

    /// The smallest offset.
    #[must_use]
    pub fn first(&self) -> Option<Offset> {
        self.runs.first().map(|run| run.first)
    }

    /// The largest offset.
    #[must_use]
    pub fn last(&self) -> Option<Offset> {
        self.runs.last().map(|run| Offset(run.end.0 - 1))
    }

    /// The runs, ascending.
    #[must_use]
    pub fn runs(&self) -> &[OffsetRun] {
        &self.runs
    }

    /// Every offset, ascending.
    pub fn offsets(&self) -> impl Iterator<Item = Offset> + '_ {
        self.runs.iter().flat_map(|run| (run.first.0..run.end.0).map(Offset))
    }

    /// Whether an offset is in the set.
    #[must_use]
    pub fn contains(&self, offset: Offset) -> bool {
        let at = self.runs.partition_point(|run| run.end <= offset);
        self.runs.get(at).is_some_and(|run| run.first <= offset)
    }

    /// Adds an offset.
    pub fn insert(&mut self, offset: Offset) {
        // The first run that ends at the offset or behind it: the only one that can
        // contain the offset or end right before it.
        let at = self.runs.partition_point(|run| run.end < offset);
        match self.runs.get_mut(at) {
            Some(run) if offset.next() == run.first => run.first = offset,
            Some(run) if run.first <= offset => {
                if run.end == offset {
                    run.end = offset.next();
                    self.join_with_next(at);
                }
            }
            _ => self.runs.insert(at, OffsetRun { first: offset, end: offset.next() }),
        }
    }

    fn join_with_next(&mut self, at: usize) {
        if let Some(next) = self.runs.get(at + 1).copied()
            && self.runs[at].end == next.first
        {
            self.runs[at].end = next.end;
            self.runs.remove(at + 1);
        }
    }

    /// Adds all offsets of another set.
    pub fn merge(&mut self, other: &Self) {
        let mut all = std::mem::take(&mut self.runs);
        all.extend_from_slice(&other.runs);
        all.sort_unstable_by_key(|run| run.first);
        for run in all {
            match self.runs.last_mut() {
                Some(last) if run.first <= last.end => last.end = last.end.max(run.end),
                _ => self.runs.push(run),
            }
        }
    }

    /// Removes the offsets at or above `at` and returns them.
    #[must_use]
    pub fn split_off(&mut self, at: Offset) -> Self {
        let cut = self.runs.partition_point(|run| run.end <= at);
        let mut runs = self.runs.split_off(cut);
        if let Some(run) = runs.first_mut()
            && run.first < at
        {
            self.runs.push(OffsetRun { first: run.first, end: at });
            run.first = at;
        }
        Self { runs }
    }

    /// Removes the offsets from `from` to below `to` and returns them.
    pub fn remove(&mut self, from: Offset, to: Offset) -> Self {
        let mut removed = self.split_off(from);
        let kept = removed.split_off(to);
        self.merge(&kept);
        removed
    }

    /// Cuts the set into sets that each span at most [`MAX_SPAN`] offsets.
    #[must_use]
    pub fn into_segments(mut self) -> Vec<Self> {
        let mut segments = Vec::with_capacity(1);
        while let Some(first) = self.first() {
            let rest = self.split_off(Offset(first.0.saturating_add(MAX_SPAN)));
            segments.push(std::mem::replace(&mut self, rest));
        }
        segments
    }

    /// The encoding of a segment without its first offset: the version, then in
    /// turn the length of a run and of the gap behind it, as LEB128 (seven bits in
    /// a byte, the lowest ones first).
    ///
    /// # Errors
    /// When the set is empty or spans more than [`MAX_SPAN`].
    pub fn encode(&self) -> Result<Vec<u8>, SegmentError> {
        let (Some(first), Some(last)) = (self.first(), self.last()) else { return Err(SegmentError::Empty) };
        if last.0.saturating_sub(first.0) >= MAX_SPAN {
            return Err(SegmentError::TooWide);
        }
        let mut bytes = vec![VERSION];
        let mut end = first;
        for run in &self.runs {
            if run.first > end {
                push_number(&mut bytes, run.first.0.abs_diff(end.0));
            }
            push_number(&mut bytes, run.len());
            end = run.end;
        }
        Ok(bytes)
    }

    /// Decodes the segment that begins with the offset `first`.
    ///
    /// # Errors
    /// When the bytes are not the encoding of a segment.
    pub fn decode(first: Offset, bytes: &[u8]) -> Result<Self, SegmentError> {
        let (version, mut rest) = bytes.split_first().ok_or(SegmentError::Empty)?;
        if *version != VERSION {
            return Err(SegmentError::Version(*version));
        }
        let (mut runs, mut at, mut span) = (Vec::new(), first, 0);
        while !rest.is_empty() {
            if !runs.is_empty() {
                (at, span) = advance(at, span, take_number(&mut rest)?)?;
            }
            let begins = at;
            (at, span) = advance(at, span, take_number(&mut rest)?)?;
            runs.push(OffsetRun { first: begins, end: at });
        }
        if runs.is_empty() { Err(SegmentError::Empty) } else { Ok(Self { runs }) }
    }
}

impl FromIterator<Offset> for OffsetRuns {
    fn from_iter<I: IntoIterator<Item = Offset>>(offsets: I) -> Self {
        let mut runs = Self::default();
        offsets.into_iter().for_each(|offset| runs.insert(offset));
        runs
    }
}

/// Moves `by` offsets on in a segment of which `span` offsets are passed.
fn advance(at: Offset, span: i64, by: i64) -> Result<(Offset, i64), SegmentError> {
    let span = span + by;
    if span > MAX_SPAN {
        return Err(SegmentError::TooWide);
    }
    Ok((Offset(at.0.checked_add(by).ok_or(SegmentError::TooWide)?), span))
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Reads the next number. Three bytes hold every number up to [`MAX_SPAN`].
fn take_number(rest: &mut &[u8]) -> Result<i64, SegmentError> {
    let mut number = 0;
    for shift in [0, 7, 14] {
        let (byte, left) = rest.split_first().ok_or(SegmentError::Truncated)?;
        *rest = left;
        number |= i64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            // A last byte of zero means a number that is zero or that takes more bytes
            // than it needs; both are refused, so that a set has one encoding.
            return if *byte == 0 { Err(SegmentError::Malformed) } else { Ok(number) };
        }
    }
    Err(SegmentError::TooWide)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::simulation::chance::Chance;

    fn set(offsets: &[i64]) -> OffsetRuns {
        offsets.iter().copied().map(Offset).collect()
    }

    fn offsets(runs: &OffsetRuns) -> Vec<i64> {
        runs.offsets().map(|offset| offset.0).collect()
    }

    /// Checks the invariants of a set, and that it equals its model.
    fn check(runs: &OffsetRuns, model: &BTreeSet<i64>) {
        assert_eq!(offsets(runs), model.iter().copied().collect::<Vec<_>>());
        assert_eq!(runs.len(), model.len() as u64);
        assert_eq!(runs.first(), model.first().copied().map(Offset));
        assert_eq!(runs.last(), model.last().copied().map(Offset));
        assert!(runs.runs().iter().all(|run| run.first < run.end), "no run is empty: {runs:?}");
        assert!(runs.runs().windows(2).all(|two| two[0].end < two[1].first), "no run touches the next: {runs:?}");
        for offset in -2..130 {
            assert_eq!(runs.contains(Offset(offset)), model.contains(&offset), "{offset} in {runs:?}");
        }
    }

    #[test]
    fn what_lies_side_by_side_is_one_run() {
        let runs = set(&[5, 3, 4, 9, 7, 8]);
        assert_eq!(
            runs.runs(),
            [OffsetRun { first: Offset(3), end: Offset(6) }, OffsetRun { first: Offset(7), end: Offset(10) }]
        );
        assert_eq!(runs.encode().unwrap(), [VERSION, 3, 1, 3]);
    }

    /// Random operations on thousands of sets, compared with a set that keeps each
    /// offset.
    #[test]
    fn a_set_of_runs_is_a_set() {
        for seed in 0..2_000 {
            let mut chance = Chance::new(seed);
            let (mut runs, mut model) = (OffsetRuns::default(), BTreeSet::new());
            for _ in 0..chance.below(40) {
                let (from, to) = (chance.between(0, 120), chance.between(0, 120));
                match chance.below(6) {
                    0 => {
                        let other: BTreeSet<i64> = (0..chance.below(20)).map(|_| chance.between(0, 120)).collect();
                        runs.merge(&other.iter().copied().map(Offset).collect());
                        model.extend(other);
                    }
                    1 => {
                        let removed = runs.remove(Offset(from), Offset(to));
                        let gone: BTreeSet<i64> = model.iter().copied().filter(|at| (from..to).contains(at)).collect();
                        model.retain(|at| !gone.contains(at));
                        check(&removed, &gone);
                    }
                    2 => {
                        let above = runs.split_off(Offset(from));
                        check(&above, &model.split_off(&from));
                    }
                    _ => {
                        runs.insert(Offset(from));
                        model.insert(from);
                    }
                }
                check(&runs, &model);
            }
            if let Some(first) = runs.first() {
                let bytes = runs.encode().unwrap();
                assert!(bytes.len() <= MAX_ENCODED_BYTES);
                assert_eq!(OffsetRuns::decode(first, &bytes).unwrap(), runs);
            }
        }
    }

    #[test]
    fn segments_hold_what_the_set_held_and_keep_to_their_bounds() {
        for seed in 0..50 {
            let mut chance = Chance::new(seed);
            let (mut at, mut all) = (chance.between(0, i64::MAX / 2), Vec::new());
            for _ in 0..400 {
                let most = chance.pick(&[1, 3, 200, 70_000]);
                at += chance.between(1, most);
                all.push(at);
            }
            let mut joined = OffsetRuns::default();
            for segment in set(&all).into_segments() {
                let (first, last) = (segment.first().unwrap(), segment.last().unwrap());
                assert!(last.0 - first.0 < MAX_SPAN);
                let bytes = segment.encode().unwrap();
                assert_eq!(OffsetRuns::decode(first, &bytes).unwrap(), segment);
                joined.merge(&segment);
            }
            assert_eq!(offsets(&joined), all);
        }
    }

    #[test]
    fn the_widest_segments_fit_into_their_bound() {
        let dense: OffsetRuns = (0..MAX_SPAN).map(Offset).collect();
        assert_eq!(dense.encode().unwrap().len(), 4);
        let holes: OffsetRuns = (0..MAX_SPAN).step_by(2).map(Offset).collect();
        assert_eq!(holes.encode().unwrap().len(), MAX_ENCODED_BYTES - 1);
        let mut wide = set(&[0, MAX_SPAN]);
        assert_eq!(wide.encode(), Err(SegmentError::TooWide));
        assert_eq!(wide.clone().into_segments(), [set(&[0]), set(&[MAX_SPAN])]);
        wide.remove(Offset(0), Offset(1));
        assert!(wide.encode().is_ok());
    }

    #[test]
    fn bytes_that_are_no_segment_are_refused() {
        let refused = |bytes: &[u8]| OffsetRuns::decode(Offset(7), bytes).unwrap_err();
        assert_eq!(refused(&[]), SegmentError::Empty);
        assert_eq!(refused(&[VERSION]), SegmentError::Empty);
        assert_eq!(refused(&[2, 1]), SegmentError::Version(2));
        assert_eq!(refused(&[VERSION, 1, 1]), SegmentError::Truncated, "it ends with a gap");
        assert_eq!(refused(&[VERSION, 0x80]), SegmentError::Truncated);
        assert_eq!(refused(&[VERSION, 0]), SegmentError::Malformed);
        assert_eq!(refused(&[VERSION, 0x81, 0]), SegmentError::Malformed, "a number is longer than it need be");
        assert_eq!(refused(&[VERSION, 0xff, 0xff, 0xff, 1]), SegmentError::TooWide);
        assert_eq!(refused(&[VERSION, 0xff, 0xff, 0x7f]), SegmentError::TooWide);
        assert_eq!(OffsetRuns::decode(Offset(i64::MAX), &[VERSION, 2]), Err(SegmentError::TooWide));
        // No bytes make the decoder panic or return more than a segment may hold.
        for seed in 0..20_000 {
            let mut chance = Chance::new(seed);
            let bytes: Vec<u8> =
                std::iter::once(VERSION).chain((0..chance.below(12)).map(|_| (chance.next() & 0xff) as u8)).collect();
            if let Ok(runs) = OffsetRuns::decode(Offset(7), &bytes) {
                assert!(runs.last().unwrap().0 - 7 < MAX_SPAN);
                assert_eq!(runs.encode().unwrap(), bytes, "one set has one encoding");
            }
        }
    }
}
