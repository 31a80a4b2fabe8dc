//! The outcomes that are not yet sent, in the order in which they were decided.

use std::collections::VecDeque;

use super::vocabulary::{DeliveryWrite, NewState};
use crate::lanes::LaneEntry;

/// Outcomes not yet sent.
///
/// However they are cut into batches, the store must see the outcomes of a lane
/// in their order, and each delivery at most once in a batch. An outcome merges
/// with an unsent one of the same delivery only when that is the last outcome
/// of its lane; otherwise both go out, in two batches. Were a head's outcome
/// moved behind the rows of its followers, a crash between two batches would
/// leave rows behind a head that has none, and the next owner would begin with
/// them.
#[derive(Debug)]
pub(super) struct Pending<D> {
    /// An outcome that merged into a later one leaves `None`, so that the numbers
    /// of the slots behind it do not change.
    slots: VecDeque<Option<Unsent<D>>>,
    /// The number of the first slot.
    from: u64,
}

#[derive(Debug)]
struct Unsent<D> {
    write: DeliveryWrite<D>,
    /// The outcome of the same delivery that goes out in an earlier batch.
    after: Option<u64>,
}

impl<D> Default for Pending<D> {
    fn default() -> Self {
        Self { slots: VecDeque::new(), from: 0 }
    }
}

impl<D> Pending<D> {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn writes(&self) -> impl Iterator<Item = &DeliveryWrite<D>> {
        self.slots.iter().flatten().map(|unsent| &unsent.write)
    }

    /// Takes the writes of the next batch, at most `most`.
    pub(super) fn take_batch(&mut self, most: usize) -> Vec<DeliveryWrite<D>> {
        let mut writes = Vec::with_capacity(self.slots.len().min(most));
        let first = self.from;
        let fits = |slot: &mut Option<Unsent<D>>| {
            slot.as_ref().and_then(|unsent| unsent.after).is_none_or(|earlier| earlier < first)
        };
        while writes.len() < most
            && let Some(slot) = self.slots.pop_front_if(fits)
        {
            self.from += 1;
            writes.extend(slot.map(|unsent| unsent.write));
        }
        writes
    }

    /// Appends a write about an entry and returns its number. `last` is the number
    /// of the last write about its lane.
    pub(super) fn push(&mut self, last: Option<u64>, write: DeliveryWrite<D>, entry: &LaneEntry) -> u64 {
        let waiting = entry.pending.filter(|number| *number >= self.from);
        let slot = waiting.and_then(|number| self.slots.get_mut(usize::try_from(number - self.from).ok()?));
        let unsent = match slot.filter(|_| waiting == last).and_then(Option::take) {
            Some(earlier) => earlier.taken_in(write),
            None => Unsent { write, after: waiting },
        };
        self.slots.push_back(Some(unsent));
        self.from + self.slots.len() as u64 - 1
    }
}

impl<D> Unsent<D> {
    /// Merges the earlier outcome into the later one.
    fn taken_in(self, later: DeliveryWrite<D>) -> Self {
        let Self { write: earlier, after } = self;
        let kept = matches!(earlier.to, NewState::Open { keep_record: true, .. });
        let to = match later.to {
            NewState::Open { state, due, held, keep_record } => {
                NewState::Open { state, due, held, keep_record: keep_record || kept }
            }
            done => done,
        };
        let mut details = earlier.details;
        details.extend(later.details);
        Self { write: DeliveryWrite { had_row: earlier.had_row, to, details, ..later }, after }
    }
}
