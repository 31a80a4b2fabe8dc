//! Records of open deliveries that are copied into the store before Kafka
//! removes them.
//!
//! Past a bound an open row keeps only the coordinates of its record. Its owner
//! looks which of these records are near their end and copies them, up to a
//! bound of their own, in the order of their offsets.

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::{Offset, Timestamp};
use courier_core::retention::NearEnd;

use super::{PositionId, StoreError};

/// Open deliveries of a position whose records only Kafka has, and not for long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endangered {
    /// The first of them, ascending.
    pub first: Vec<Offset>,
    /// How many there are.
    pub count: u64,
    /// The last one; none when there is none.
    pub last: Option<Offset>,
    /// Kafka's time of the oldest one.
    pub oldest: Option<Timestamp>,
}

/// What is copied for a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// How many open deliveries have a copy.
    pub count: u64,
    /// The bytes of these copies.
    pub bytes: u64,
}

/// The verbs of records that are copied.
#[async_trait]
pub trait RecordCopyStore {
    /// The open deliveries of a position that are near their end and whose
    /// records are not in the store; the first `limit` of them by offset.
    async fn endangered(&self, position: PositionId, near: &NearEnd, limit: u32) -> Result<Endangered, StoreError>;

    /// What is copied for a position.
    async fn copies(&self, position: PositionId) -> Result<Copies, StoreError>;

    /// Copies records of open deliveries under the epoch, in their order, as
    /// long as the copies of the position stay within `max_copied_bytes`;
    /// answers how many of them need nothing more. A delivery that ended
    /// meanwhile, or whose record is in the store, is passed over. `Fenced`
    /// when the epoch is older.
    async fn copy_records(
        &self,
        position: PositionId,
        epoch: i64,
        records: &[(Offset, Bytes)],
        max_copied_bytes: u64,
    ) -> Result<usize, StoreError>;
}

/// The records that fit beside what is copied already.
pub(super) fn fitting(copied_bytes: i64, records: &[(Offset, Bytes)], max_copied_bytes: u64) -> &[(Offset, Bytes)] {
    let sizes = records.iter().map(|(_, record)| record.len() as u64);
    let copied_bytes = u64::try_from(copied_bytes).unwrap_or_default();
    &records[..courier_core::retention::fitting(copied_bytes, sizes, max_copied_bytes)]
}

/// Why nothing is copied for an owner that is none any more.
pub(super) fn fenced(position: PositionId, epoch: i64) -> StoreError {
    StoreError::Fenced(format!("position {} has another epoch than {epoch}", position.0))
}
