//! Records of open deliveries that are copied into the store before Kafka
//! removes them.
//!
//! Past a bound an open row keeps only the coordinates of its record. Its owner finds
//! the records that Kafka removes soon and copies them in the order of their offsets,
//! up to a bound of their own.

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use courier_core::retention::NearEnd;

use super::{PositionId, StoreError};

/// Open deliveries of a position whose records only Kafka has and removes soon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endangered {
    /// The first of them, ascending.
    pub first: Vec<Offset>,
    /// How many there are.
    pub count: u64,
    /// The offset of the last one, if there is any.
    pub last: Option<Offset>,
    /// Kafka's time of the oldest one, if there is any.
    pub oldest: Option<Timestamp>,
}

/// The copies of a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// How many open deliveries have a copy.
    pub count: u64,
    /// The bytes of these copies.
    pub bytes: u64,
}

/// Copies records into the store, for the owners in `consume/owner/`.
#[async_trait]
pub trait RecordCopyStore {
    /// Finds the open deliveries of a position whose records Kafka removes soon and
    /// that the store does not have, the first `limit` by offset.
    async fn endangered(&self, position: PositionId, near: &NearEnd, limit: u32) -> Result<Endangered, StoreError>;

    /// Counts the copies of a position.
    async fn copies(&self, position: PositionId) -> Result<Copies, StoreError>;

    /// Copies records of open deliveries in their order, as long as the copies of the
    /// position stay within `max_copied_bytes`, and returns how many of `records` are
    /// done. A delivery that ended meanwhile, or whose record is in the store already,
    /// is done too. `Fenced` when the position has a newer epoch.
    async fn copy_records(
        &self,
        position: PositionId,
        epoch: i64,
        records: &[(Offset, Bytes)],
        max_copied_bytes: u64,
    ) -> Result<usize, StoreError>;
}

/// Takes the records that fit beside those that are copied already.
pub(super) fn fitting(copied_bytes: i64, records: &[(Offset, Bytes)], max_copied_bytes: u64) -> &[(Offset, Bytes)] {
    let sizes = records.iter().map(|(_, record)| record.len() as u64);
    let copied_bytes = u64::try_from(copied_bytes).unwrap_or_default();
    &records[..courier_core::retention::fitting(copied_bytes, sizes, max_copied_bytes)]
}

/// The error for an owner whose position has a newer epoch.
pub(super) fn fenced(position: PositionId, epoch: i64) -> StoreError {
    StoreError::Fenced(format!("position {} has another epoch than {epoch}", position.0))
}
