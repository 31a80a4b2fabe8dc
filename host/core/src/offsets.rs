//! Which offsets of a partition are finished, and how far the position may go.
//!
//! Offsets finish in any order; the position moves only over finished offsets
//! without a gap. Offsets are sparse, so the entries are kept by their offset
//! and never addressed by counting.

use std::collections::VecDeque;

use crate::message::Offset;

/// The offsets between the position and the highest one received.
#[derive(Clone, Debug)]
pub struct Offsets {
    position: Offset,
    next: Offset,
    /// Received offsets at or above the position, ascending, each with whether it
    /// is finished. The first one is unfinished.
    entries: VecDeque<(Offset, bool)>,
}

impl Offsets {
    /// The state of a partition from which nothing was received yet: everything
    /// below `position` is finished.
    #[must_use]
    pub fn new(position: Offset) -> Self {
        Self { position, next: position, entries: VecDeque::new() }
    }

    /// The position: every offset below it is finished.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.position
    }

    /// The smallest offset not yet received.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.next
    }

    /// The number of received offsets at or above the position.
    #[must_use]
    pub fn gap(&self) -> usize {
        self.entries.len()
    }

    /// Notes a received offset; returns whether it is new.
    ///
    /// Offsets between it and the one received before do not exist in the log:
    /// they are holes of transactions and compaction.
    pub fn receive(&mut self, offset: Offset, finished: bool) -> bool {
        if offset < self.next {
            return false;
        }
        self.next = offset.next();
        if finished && self.entries.is_empty() {
            self.position = self.next;
        } else {
            self.entries.push_back((offset, finished));
            self.advance();
        }
        true
    }

    /// Notes that the log holds no further record below `next`.
    pub fn reach(&mut self, next: Offset) {
        if next > self.next {
            self.next = next;
            self.advance();
        }
    }

    /// Marks an offset as finished. Does nothing for an offset that was never
    /// received or that lies below the position.
    pub fn finish(&mut self, offset: Offset) {
        if let Ok(at) = self.entries.binary_search_by_key(&offset, |entry| entry.0) {
            self.entries[at].1 = true;
            if at == 0 {
                self.advance();
            }
        }
    }

    fn advance(&mut self) {
        while let Some((offset, true)) = self.entries.front() {
            self.position = offset.next();
            self.entries.pop_front();
        }
        self.position = self.entries.front().map_or(self.next, |entry| entry.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_waits_for_the_first_hole() {
        let mut offsets = Offsets::new(Offset(10));
        for offset in [10, 11, 15] {
            assert!(offsets.receive(Offset(offset), false));
        }
        offsets.finish(Offset(11));
        offsets.finish(Offset(15));
        assert_eq!(offsets.position(), Offset(10));
        offsets.finish(Offset(10));
        assert_eq!(offsets.position(), Offset(16));
        assert_eq!(offsets.gap(), 0);
    }

    #[test]
    fn holes_of_the_log_do_not_hold_the_position() {
        let mut offsets = Offsets::new(Offset(0));
        offsets.receive(Offset(1_000_000), false);
        assert_eq!(offsets.position(), Offset(1_000_000), "nothing below exists in the log");
        offsets.finish(Offset(1_000_000));
        offsets.reach(Offset(1_000_007));
        assert_eq!(offsets.position(), Offset(1_000_007));
    }

    #[test]
    fn what_came_before_comes_to_nothing() {
        let mut offsets = Offsets::new(Offset(5));
        assert!(!offsets.receive(Offset(4), false));
        assert!(offsets.receive(Offset(5), true));
        assert!(!offsets.receive(Offset(5), false));
        offsets.finish(Offset(5));
        offsets.finish(Offset(99));
        assert_eq!((offsets.position(), offsets.next()), (Offset(6), Offset(6)));
    }
}
