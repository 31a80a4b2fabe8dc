//! How deliveries become rows: final rows, open rows, and the rows of the
//! followers of a waiting head.

use super::{DeliveryWrite, Machine, NewState};
use crate::lanes::{LaneEntry, LaneId};
use crate::message::Attempts;
use crate::status::State;

impl<D> Machine<D> {
    pub(super) fn write_final(&mut self, id: LaneId, entry: &LaneEntry, to: NewState, attempts: Attempts, detail: D) {
        self.write(id, entry, to, attempts, Some(detail));
        if entry.has_row {
            self.unpark(entry);
        } else {
            self.in_memory = self.in_memory.saturating_sub(1);
            self.in_memory_bytes = self.in_memory_bytes.saturating_sub(entry.bytes);
        }
    }

    /// Takes a closed row off the counts of open rows.
    pub(super) fn unpark(&mut self, entry: &LaneEntry) {
        self.parked = self.parked.saturating_sub(1);
        self.parked_bytes = self.parked_bytes.saturating_sub(entry.bytes);
        if entry.bytes == 0 {
            self.parked_bare = self.parked_bare.saturating_sub(1);
        }
    }

    /// Makes the entry at `place` of a lane an open row, or changes its row.
    pub(super) fn write_open(&mut self, id: LaneId, place: usize, to: NewState, detail: Option<D>) {
        let mut entry = self.lanes.get(id).queue[place].clone();
        let mut to = to;
        if let NewState::Open { due, held, keep_record, .. } = &mut to {
            (entry.due, entry.held) = (*due, *held);
            if !entry.has_row {
                self.in_memory = self.in_memory.saturating_sub(1);
                self.in_memory_bytes = self.in_memory_bytes.saturating_sub(entry.bytes);
                self.parked += 1;
                *keep_record = self.parked_bytes + entry.bytes <= self.bounds.max_parked_bytes;
                if *keep_record {
                    self.parked_bytes += entry.bytes;
                } else {
                    entry.bytes = 0;
                    self.parked_bare += 1;
                }
            }
        }
        entry.pending = Some(self.write(id, &entry, to, entry.attempts, detail));
        entry.has_row = true;
        self.lanes.get(id).queue[place] = entry;
    }

    fn write(&mut self, id: LaneId, entry: &LaneEntry, to: NewState, attempts: Attempts, detail: Option<D>) -> u64 {
        let details = detail.into_iter().collect();
        let write = DeliveryWrite { offset: entry.offset, had_row: entry.has_row, to, attempts, details };
        let lane = self.lanes.get(id);
        let at = self.pending.push(lane.last_write, write, entry);
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
        let rows = lane.queue.iter().rposition(|entry| entry.has_row);
        // Entries in memory stand behind those that have rows. Only a head in memory
        // that was not started can stand before them, when a rerun of an older delivery
        // was requested meanwhile; it goes first.
        let head_in_memory = rows.is_some() && !lane.queue[0].has_row;
        let first = rows.map_or(0, |at| at + 1);
        let open = |state| NewState::Open { state, due: None, held: false, keep_record: false };
        if head_in_memory {
            self.write_open(id, 0, open(State::Committed), None);
        }
        for place in first..self.lanes.get(id).queue.len() {
            self.lanes.get(id).queue[place].state = state;
            self.write_open(id, place, open(state), None);
        }
    }
}
