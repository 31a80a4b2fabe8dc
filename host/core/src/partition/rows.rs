//! How deliveries become rows: final rows, open rows, and the rows of the
//! followers of a waiting head.

use super::{Machine, To, Write};
use crate::lanes::{Item, LaneId};
use crate::message::Attempts;
use crate::status::State;

impl<D> Machine<D> {
    pub(super) fn write_final(&mut self, id: LaneId, item: &Item, to: To, attempts: Attempts, detail: D) {
        self.write(id, item, to, attempts, Some(detail));
        if item.has_row {
            self.unpark(item);
        } else {
            self.fresh = self.fresh.saturating_sub(1);
            self.fresh_bytes = self.fresh_bytes.saturating_sub(item.bytes);
        }
    }

    /// Takes a closed row off the counts of open rows.
    pub(super) fn unpark(&mut self, item: &Item) {
        self.parked = self.parked.saturating_sub(1);
        self.parked_bytes = self.parked_bytes.saturating_sub(item.bytes);
        if item.bytes == 0 {
            self.parked_bare = self.parked_bare.saturating_sub(1);
        }
    }

    /// Makes the item at `place` of a lane an open row, or changes its row.
    pub(super) fn write_open(&mut self, id: LaneId, place: usize, to: To, detail: Option<D>) {
        let mut item = self.lanes.get(id).queue[place].clone();
        let mut to = to;
        if let To::Open { due, held, keep_record, .. } = &mut to {
            (item.due, item.held) = (*due, *held);
            if !item.has_row {
                self.fresh = self.fresh.saturating_sub(1);
                self.fresh_bytes = self.fresh_bytes.saturating_sub(item.bytes);
                self.parked += 1;
                *keep_record = self.parked_bytes + item.bytes <= self.bounds.max_parked_bytes;
                if *keep_record {
                    self.parked_bytes += item.bytes;
                } else {
                    item.bytes = 0;
                    self.parked_bare += 1;
                }
            }
        }
        item.pending = Some(self.write(id, &item, to, item.attempts, detail));
        item.has_row = true;
        self.lanes.get(id).queue[place] = item;
    }

    fn write(&mut self, id: LaneId, item: &Item, to: To, attempts: Attempts, detail: Option<D>) -> u64 {
        let details = detail.into_iter().collect();
        let write = Write { offset: item.offset, had_row: item.has_row, to, attempts, details };
        let lane = self.lanes.get(id);
        let at = self.pending.push(lane.last_write, write, item);
        lane.last_write = Some(at);
        at
    }

    /// Makes every follower of a waiting head an open row, in order, so that the
    /// position can pass them.
    pub(super) fn park_followers(&mut self, id: LaneId) {
        let lane = self.lanes.get(id);
        let state = match lane.queue.front() {
            Some(head) if head.state == State::PushFail => State::PushFail,
            _ => State::Committed,
        };
        let rows = lane.queue.iter().rposition(|item| item.has_row);
        // Fresh items stand behind those that have rows. Only a fresh head that was
        // not started can stand before them, when a rerun of an older delivery was
        // requested meanwhile; it goes first.
        let fresh_head = rows.is_some() && !lane.queue[0].has_row;
        let first = rows.map_or(0, |at| at + 1);
        let open = |state| To::Open { state, due: None, held: false, keep_record: false };
        if fresh_head {
            self.write_open(id, 0, open(State::Committed), None);
        }
        for place in first..self.lanes.get(id).queue.len() {
            self.lanes.get(id).queue[place].state = state;
            self.write_open(id, place, open(state), None);
        }
    }
}
