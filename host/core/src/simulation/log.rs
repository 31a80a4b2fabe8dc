//! A model of one partition's log: records with offsets that have holes.

use bytes::Bytes;

use super::chance::Chance;
use super::profile::{Ordering, Profile};
use crate::lanes::LaneKey;
use crate::message::Offset;

/// A record.
#[derive(Clone, Debug)]
pub struct Record {
    pub offset: Offset,
    pub lane: LaneKey,
    pub bytes: usize,
    /// Whether it is for the binding.
    pub wanted: bool,
}

/// The log.
#[derive(Clone, Debug)]
pub struct Log {
    pub records: Vec<Record>,
    pub end: Offset,
}

impl Log {
    pub fn new(chance: &mut Chance) -> Self {
        Self { records: Vec::new(), end: Offset(chance.pick(&[0, 7])) }
    }

    /// A producer appends a record, or an aborted transaction leaves a hole.
    pub fn append(&mut self, profile: &Profile, chance: &mut Chance) {
        if chance.percent(15) {
            self.end = Offset(self.end.0 + chance.between(1, 3));
        }
        let offset = self.end;
        let lane = match profile.ordering {
            Ordering::Whole => LaneKey::WholePartition,
            Ordering::Key if !chance.percent(10) => {
                LaneKey::Key(Bytes::from(vec![b'a' + chance.below(profile.keys) as u8]))
            }
            _ => LaneKey::Unkeyed(offset),
        };
        let bytes = chance.between(1, 10) as usize;
        self.records.push(Record { offset, lane, bytes, wanted: !chance.percent(5) });
        self.end = offset.next();
        if chance.percent(10) {
            self.end = Offset(self.end.0 + 1);
        }
    }

    /// The records from an offset on.
    pub fn from(&self, offset: Offset) -> &[Record] {
        &self.records[self.records.partition_point(|record| record.offset < offset)..]
    }

    /// The records below an offset.
    pub fn below(&self, offset: Offset) -> &[Record] {
        &self.records[..self.records.partition_point(|record| record.offset < offset)]
    }

    pub fn at(&self, offset: Offset) -> Option<&Record> {
        self.from(offset).first().filter(|record| record.offset == offset)
    }

    /// The earlier deliveries of a lane.
    pub fn before(&self, offset: Offset) -> impl Iterator<Item = &Record> {
        let lane = self.at(offset).map(|record| &record.lane);
        self.below(offset).iter().filter(move |record| record.wanted && Some(&record.lane) == lane)
    }
}
