//! Moving positions, and what owners read to notice it.
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

/// A position and the offset that it moves to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeekMove {
    pub position: PositionId,
    pub to: Offset,
}

/// Moves positions for the API, and reads what owners in `consume/` check their state
/// against.
#[async_trait]
pub trait SeekStore {
    /// Moves positions, all or none, and returns where each was. A move backward requests
    /// reruns of the finished deliveries from `to` on, as
    /// [`RerunStore::ask`](super::RerunStore::ask) does. A move forward records the range
    /// that it skips. `Conflict` when a position is of a topic that was created anew, or
    /// more than [`MAX_SOUGHT`] finished deliveries would run again.
    async fn seek(&self, moves: &[SeekMove], why: &str) -> Result<Vec<Offset>, StoreError>;

    /// Reads the present epochs of positions.
    async fn epochs(&self, positions: &[PositionId]) -> Result<Vec<(PositionId, i64)>, StoreError>;

    /// Lists the open rows of a position after the offset `after`, by offset, at most
    /// `limit`.
    async fn open_page(&self, position: PositionId, after: Offset, limit: u32) -> Result<Vec<OpenRow>, StoreError>;
}
