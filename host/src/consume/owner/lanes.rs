//! Chooses the lane of a delivery.

use bytes::Bytes;
use courier_core::lanes::LaneKey;
use courier_core::message::Offset;
use courier_core::partition::OpenDelivery;

use crate::config::Ordering;
use crate::consume::attempt::binding::RunningBinding;
use crate::kafka::buffered::BufferedRecord;
use crate::store::OpenRow;

/// How the deliveries of a binding are assigned to lanes.
#[derive(Clone, Copy)]
pub struct LaneRule {
    ordering: Ordering,
    /// Whether duplicates of a message must share a lane.
    dedupes: bool,
}

impl LaneRule {
    /// The rule of a binding.
    pub fn of(bound: &RunningBinding) -> Self {
        Self { ordering: bound.binding.ordering, dedupes: bound.binding.dedupe.is_some() }
    }

    /// The lane of a new record.
    ///
    /// The id is read only where it matters: records arrive by the hundred
    /// thousand, and most need not be parsed yet.
    pub fn lane_of_record(self, buffered: &BufferedRecord) -> LaneKey {
        let id = || Bytes::copy_from_slice(buffered.message().id.as_bytes());
        self.lane(buffered.key().as_ref(), buffered.offset, id)
    }

    /// The lane of an open row.
    pub fn lane_of_row(self, row: &OpenRow) -> LaneKey {
        self.lane(row.key.as_ref(), row.offset, || Bytes::copy_from_slice(row.message_id.as_bytes()))
    }

    fn lane(self, key: Option<&Bytes>, offset: Offset, id: impl FnOnce() -> Bytes) -> LaneKey {
        match (self.ordering, key) {
            (Ordering::Partition, _) => LaneKey::WholePartition,
            (Ordering::Key, Some(key)) => LaneKey::Key(key.clone()),
            (Ordering::Key, None) | (Ordering::None, _) if self.dedupes => LaneKey::Message(id()),
            (Ordering::Key, None) | (Ordering::None, _) => LaneKey::Unkeyed(offset),
        }
    }

    /// An open row as the machine knows it.
    pub fn open(self, row: &OpenRow) -> OpenDelivery {
        OpenDelivery {
            offset: row.offset,
            lane: self.lane_of_row(row),
            state: row.state,
            due: row.next_attempt_at,
            held: row.held,
            attempts: row.attempts,
            bytes: row.record_bytes,
            give_up: row.give_up.is_some(),
        }
    }
}
