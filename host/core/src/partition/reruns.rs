//! Deliveries that run or end because they have an open row: rows of the claim,
//! reruns that people request, and rows that wait for an older partition.

use super::{Action, Machine, OpenDelivery, Phase};
use crate::lanes::{Head, LaneEntry, LaneKey};
use crate::message::{Offset, Timestamp};

impl<D> Machine<D> {
    pub(super) fn row_gone(&mut self, offset: Offset, now: Timestamp, actions: &mut Vec<Action<D>>) {
        let Some(id) = self.came_back(offset) else { return };
        if self.lanes.get(id).queue.front().is_some_and(|entry| entry.asked) {
            // A rerun was requested since, so the row may exist again.
            self.lanes.set_head(id, Head::Waiting(now));
            return self.due(now, actions);
        }
        if let Some(entry) = self.lanes.get(id).queue.pop_front() {
            self.unpark(&entry);
        }
        if self.lanes.get(id).queue.is_empty() {
            self.lanes.close(id);
        } else {
            self.advance_lane(id, now, actions);
        }
    }

    /// Whether an outcome of this delivery is decided and not yet written.
    pub(super) fn is_decided(&self, offset: Offset) -> bool {
        let under_way = self.in_flight.iter().flat_map(|batch| &batch.writes);
        under_way.chain(self.pending.writes()).any(|write| write.offset == offset)
    }

    /// Ends waiting heads that were given up. No handler runs for them, so neither
    /// the retry's time nor a closed gate holds them back.
    pub(super) fn give_up_heads(&mut self, actions: &mut Vec<Action<D>>) {
        if self.phase != Phase::Consuming {
            return;
        }
        while let Some(id) = self.lanes.first_given_up() {
            self.dispatch(id, actions);
        }
    }

    pub(super) fn rerun_requested(&mut self, open: OpenDelivery, now: Timestamp, actions: &mut Vec<Action<D>>) {
        if self.phase != Phase::Consuming {
            return;
        }
        let running = self.running.get(&open.offset).copied();
        let id = running.or_else(|| self.lanes.find(&open.lane));
        let place = id.and_then(|id| self.lanes.get(id).queue.iter().position(|entry| entry.offset == open.offset));
        match id.zip(place) {
            Some((id, place)) => {
                let lane = self.lanes.get(id);
                let head = lane.head;
                let entry = &mut lane.queue[place];
                // The latest request counts: a rerun cancels an earlier giving up.
                entry.give_up = open.give_up;
                if !open.give_up {
                    (entry.held, entry.due) = (false, Some(now));
                }
                // The row's attempts may be older than what is decided here, or newer than
                // those of an earlier request.
                if open.attempts.invoked >= entry.attempts.invoked {
                    entry.attempts = open.attempts;
                }
                // A follower waits for those before it.
                if place == 0 && head == Head::Running {
                    entry.asked = true;
                } else if place == 0 && open.give_up {
                    self.lanes.set_head(id, head);
                } else if place == 0 && head != Head::Blocked {
                    self.lanes.set_head(id, Head::Waiting(now));
                }
            }
            // Only once the outcome is durable can the store say whether the request
            // came before or after it.
            None if self.is_decided(open.offset) => {
                self.deferred_reruns.retain(|earlier| earlier.offset != open.offset);
                self.deferred_reruns.push(open);
            }
            // A newer owner made this row, since its record did not come here and the
            // claim did not contain it: the newer owner runs it.
            None if self.wants(open.offset) => {}
            None => self.add_row(OpenDelivery { due: Some(now), held: false, ..open }),
        }
        self.due(now, actions);
    }

    /// Adds an open row that this machine did not know.
    pub(super) fn add_row(&mut self, open: OpenDelivery) {
        self.parked += 1;
        self.parked_bytes += open.bytes;
        self.parked_bare += usize::from(open.bytes == 0);
        let entry = LaneEntry {
            offset: open.offset,
            attempts: open.attempts,
            bytes: open.bytes,
            has_row: true,
            pending: None,
            due: open.due,
            state: open.state,
            held: open.held,
            asked: false,
            give_up: open.give_up,
        };
        if let Some(id) = self.lanes.find(&open.lane) {
            // Behind the rows and before what has no row: the order among settled
            // deliveries is free, but a row must not be parked a second time.
            let queue = &mut self.lanes.get(id).queue;
            let place = queue.iter().rposition(|entry| entry.has_row).map_or(queue.len().min(1), |at| at + 1);
            queue.insert(place, entry);
        } else {
            let head = if self.blocked.contains(&open.lane) { Head::Blocked } else { waiting(&entry) };
            self.lanes.open(open.lane, head, entry);
        }
    }

    /// Lets a lane go on that waited for deliveries of its key in an older partition.
    pub(super) fn unblocked(&mut self, lane: &LaneKey, now: Timestamp, actions: &mut Vec<Action<D>>) {
        if !self.blocked.remove(lane) {
            return;
        }
        if let Some(id) = self.lanes.find(lane)
            && self.lanes.get(id).head == Head::Blocked
            && let Some(entry) = self.lanes.get(id).queue.front()
        {
            let head = waiting(entry);
            self.lanes.set_head(id, head);
        }
        self.due(now, actions);
    }
}

/// The state of a head that comes from its row; a head without a time of its
/// own is due at once.
fn waiting(entry: &LaneEntry) -> Head {
    if entry.held { Head::Held } else { Head::Waiting(entry.due.unwrap_or(Timestamp(0))) }
}
