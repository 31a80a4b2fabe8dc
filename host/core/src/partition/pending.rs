//! The outcomes that wait to be sent, in the order in which they were decided.

use std::collections::VecDeque;

use super::vocabulary::{To, Write};
use crate::lanes::Item;

/// Outcomes not yet sent.
///
/// One that a later outcome of the same delivery replaced leaves `None`, so
/// that the numbers of those behind it stay what they are.
#[derive(Debug)]
pub(super) struct Pending<D> {
    slots: VecDeque<Option<Write<D>>>,
    /// The running number of the first slot.
    from: u64,
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

    pub(super) fn writes(&self) -> impl Iterator<Item = &Write<D>> {
        self.slots.iter().flatten()
    }

    /// The writes of the next batch.
    pub(super) fn take_batch(&mut self, most: usize) -> Vec<Write<D>> {
        let mut writes = Vec::with_capacity(self.slots.len().min(most));
        while writes.len() < most
            && let Some(slot) = self.slots.pop_front()
        {
            self.from += 1;
            writes.extend(slot);
        }
        writes
    }

    /// Appends a write about an item and answers its number. It takes the place
    /// of an unsent one about the same delivery and stands at the end, so that
    /// no batch can carry it without what was decided before it.
    pub(super) fn push(&mut self, item: &Item, to: To, number: u32, counted: u32, detail: Option<D>) -> u64 {
        let earlier = item
            .pending
            .and_then(|number| number.checked_sub(self.from))
            .and_then(|at| self.slots.get_mut(usize::try_from(at).ok()?)?.take());
        let (had_row, mut details, kept) = match earlier {
            Some(earlier) => {
                let kept = matches!(earlier.to, To::Open { keep_record: true, .. });
                (earlier.had_row, earlier.details, kept)
            }
            None => (item.has_row, Vec::new(), false),
        };
        let to = match to {
            To::Open { state, due, held, keep_record } => {
                To::Open { state, due, held, keep_record: keep_record || kept }
            }
            done => done,
        };
        details.extend(detail);
        self.slots.push_back(Some(Write { offset: item.offset, had_row, to, number, counted, details }));
        self.from + self.slots.len() as u64 - 1
    }
}
