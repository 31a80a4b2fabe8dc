//! Order: the lanes of one partition.
//!
//! A lane is a queue of deliveries of which only the head may run. When the
//! head waits for a retry the lane is parked: what stands behind it waits in
//! the store, and other lanes flow.

use std::collections::{BTreeSet, HashMap, VecDeque};

use bytes::Bytes;

use crate::message::{Attempts, Offset, Timestamp};
use crate::status::State;

/// The key of a lane: deliveries with equal keys keep their order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LaneKey {
    /// The messages with this raw key (`ordering = "key"`).
    Key(Bytes),
    /// One record: it has no key, or `ordering = "none"`.
    Unkeyed(Offset),
    /// The messages with this id: records without an order of their own, of which
    /// only one is to be handled (`dedupe`).
    Message(Bytes),
    /// The whole partition (`ordering = "partition"`).
    WholePartition,
}

/// A delivery in its lane.
#[derive(Clone, Debug)]
pub struct LaneEntry {
    /// The offset of its record.
    pub offset: Offset,
    /// Its attempts so far.
    pub attempts: Attempts,
    /// The bytes of its record that are held for it.
    pub bytes: usize,
    /// Whether the store has an open row for it, or a write that makes one is
    /// on its way and ahead of any later write about it.
    pub has_row: bool,
    /// The number of its last write that is not yet sent.
    pub(crate) pending: Option<u64>,
    /// The due time of its row; it matters once the delivery is the head.
    pub(crate) due: Option<Timestamp>,
    pub(crate) state: State,
    pub(crate) held: bool,
    /// Whether a rerun was requested since it was dispatched.
    pub(crate) asked: bool,
    /// Whether a person gave it up: in its turn it ends without an attempt.
    pub(crate) give_up: bool,
}

impl LaneEntry {
    pub(crate) fn new(offset: Offset, bytes: usize) -> Self {
        Self {
            offset,
            attempts: Attempts::default(),
            bytes,
            has_row: false,
            pending: None,
            due: None,
            state: State::Committed,
            held: false,
            asked: false,
            give_up: false,
        }
    }
}

/// The state of a lane's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The head runs.
    Running,
    /// The head waits for a time; the lane is parked.
    Waiting(Timestamp),
    /// The head waits for a person; the lane is parked.
    Held,
    /// The head waits for deliveries of its key in an older partition; the lane is
    /// parked.
    Blocked,
}

/// Whether a given-up head may end now. A head that is blocked by an older
/// partition waits until nothing is open there.
fn may_end_given_up(head: Head) -> bool {
    matches!(head, Head::Waiting(_) | Head::Held)
}

/// The index of a lane in [`Lanes`]; it is reused once the lane is empty.
pub type LaneId = usize;

#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) key: LaneKey,
    pub(crate) head: Head,
    pub(crate) queue: VecDeque<LaneEntry>,
    /// The number of the last write about a delivery of this lane.
    pub(crate) last_write: Option<u64>,
}

/// The lanes of a partition that hold deliveries.
#[derive(Debug, Default)]
pub struct Lanes {
    slots: Vec<Option<Lane>>,
    free: Vec<LaneId>,
    by_key: HashMap<LaneKey, LaneId>,
    due: BTreeSet<(Timestamp, LaneId)>,
    /// Those of them whose heads wait because their handlers could not run.
    pushed_back: BTreeSet<(Timestamp, LaneId)>,
    /// Lanes whose waiting heads were given up.
    given_up: BTreeSet<LaneId>,
}

impl Lanes {
    /// The lane with this key, if it holds a delivery.
    pub(crate) fn find(&self, key: &LaneKey) -> Option<LaneId> {
        self.by_key.get(key).copied()
    }

    /// Opens a lane that holds only its head.
    pub(crate) fn open(&mut self, key: LaneKey, head: Head, entry: LaneEntry) -> LaneId {
        let given_up = entry.give_up && may_end_given_up(head);
        let is_pushed_back = entry.state == State::PushFail;
        let lane = Lane { key: key.clone(), head, queue: VecDeque::from([entry]), last_write: None };
        let id = if let Some(id) = self.free.pop() {
            self.slots[id] = Some(lane);
            id
        } else {
            self.slots.push(Some(lane));
            self.slots.len() - 1
        };
        // A lane of one record is looked up by key only when a rerun of a waiting
        // row is requested; a running delivery is found by its offset.
        if !matches!(key, LaneKey::Unkeyed(_)) || head != Head::Running {
            self.by_key.insert(key, id);
        }
        self.index(id, head, is_pushed_back);
        if given_up {
            self.given_up.insert(id);
        }
        id
    }

    /// The lane. Ids come from this struct and end only in `close`, so an unknown
    /// id is a bug.
    pub(crate) fn get(&mut self, id: LaneId) -> &mut Lane {
        self.slots[id].as_mut().expect("a lane id outlives its lane only by a bug")
    }

    /// Sets the state of the head, and updates the index of due lanes and of lanes
    /// whose heads were given up.
    pub(crate) fn set_head(&mut self, id: LaneId, head: Head) {
        let lane = self.get(id);
        let before = std::mem::replace(&mut lane.head, head);
        let is_pushed_back = lane.queue.front().is_some_and(|entry| entry.state == State::PushFail);
        self.unindex(id, before);
        self.index(id, head, is_pushed_back);
        let lane = self.get(id);
        let given_up = may_end_given_up(head) && lane.queue.front().is_some_and(|entry| entry.give_up);
        if given_up {
            self.given_up.insert(id);
        } else {
            self.given_up.remove(&id);
        }
        let lane = self.get(id);
        if let LaneKey::Unkeyed(offset) = lane.key
            && head != Head::Running
        {
            self.by_key.insert(LaneKey::Unkeyed(offset), id);
        }
    }

    /// Removes an empty lane.
    pub(crate) fn close(&mut self, id: LaneId) {
        if let Some(lane) = self.slots[id].take() {
            self.unindex(id, lane.head);
            self.given_up.remove(&id);
            self.by_key.remove(&lane.key);
            self.free.push(id);
        }
    }

    /// When the next lane is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The lane that is due by `now`, the longest waiting first. The lane stays in
    /// the index until its head changes.
    pub(crate) fn first_due(&mut self, now: Timestamp) -> Option<LaneId> {
        self.due.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// The lanes that are due by `now`, the longest waiting first.
    pub(crate) fn all_due(&self, now: Timestamp) -> impl Iterator<Item = LaneId> {
        self.due.iter().take_while(move |(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// The delivery at the front of a lane.
    pub(crate) fn head_offset(&self, id: LaneId) -> Option<Offset> {
        self.slots[id].as_ref()?.queue.front().map(|entry| entry.offset)
    }

    /// A lane whose waiting head was given up.
    pub(crate) fn first_given_up(&self) -> Option<LaneId> {
        self.given_up.first().copied()
    }

    /// The lanes whose heads wait because their handlers could not run, the longest
    /// waiting first.
    pub(crate) fn pushed_back(&self) -> impl Iterator<Item = LaneId> {
        self.pushed_back.iter().map(|(_, id)| *id)
    }

    fn index(&mut self, id: LaneId, head: Head, is_pushed_back: bool) {
        if let Head::Waiting(at) = head {
            self.due.insert((at, id));
            if is_pushed_back {
                self.pushed_back.insert((at, id));
            }
        }
    }

    fn unindex(&mut self, id: LaneId, head: Head) {
        if let Head::Waiting(at) = head {
            self.due.remove(&(at, id));
            self.pushed_back.remove(&(at, id));
        }
    }
}
