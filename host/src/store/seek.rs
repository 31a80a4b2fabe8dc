//! Moving positions, and what an owner must hear of it.
//!
//! A seek moves the position and counts its epoch up in one transaction, so
//! that whatever the present owner still writes is refused. The owner sees the
//! newer epoch, asks Kafka whether it is the owner, and claims again.

use async_trait::async_trait;
use courier_core::message::Offset;

use super::{OpenRow, PositionId, StoreError};

/// Finished deliveries that one seek may mark to run again. They become open
/// rows in one transaction, and open rows of a partition are bounded.
pub const MAX_SOUGHT: u32 = 100_000;

/// A position that is to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeekMove {
    pub position: PositionId,
    /// Where to.
    pub to: Offset,
}

/// The verbs of seeks and sweeps.
#[async_trait]
pub trait SeekStore {
    /// Moves positions, all or none, and answers where each was. Backward, the
    /// finished deliveries from `to` on are asked for (see
    /// [`RerunStore::ask`](super::RerunStore::ask)); forward, what lies between is
    /// recorded as a range that was skipped. `Conflict` when a position is of
    /// a topic that was created anew, or more than [`MAX_SOUGHT`] finished
    /// deliveries would run again.
    async fn seek(&self, moves: &[SeekMove], why: &str) -> Result<Vec<Offset>, StoreError>;

    /// The epochs of positions now.
    async fn epochs(&self, positions: &[PositionId]) -> Result<Vec<(PositionId, i64)>, StoreError>;

    /// Open rows of a position behind `after`, by offset, at most `limit`.
    async fn open_page(&self, position: PositionId, after: Offset, limit: u32) -> Result<Vec<OpenRow>, StoreError>;
}
