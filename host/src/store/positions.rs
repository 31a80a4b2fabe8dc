//! Positions as the API and `server/` read them.

use async_trait::async_trait;

use super::{LostRange, LostRangeFilter, PositionRow, StoreError};

/// Reads positions and the ranges that they lost.
#[async_trait]
pub trait PositionStore: Send + Sync + 'static {
    /// Lists the positions of all groups, of their current incarnations alone.
    async fn positions(&self) -> Result<Vec<PositionRow>, StoreError>;

    /// Lists lost ranges, newest first, at most `limit`.
    async fn lost_ranges(&self, filter: &LostRangeFilter, limit: u32) -> Result<Vec<LostRange>, StoreError>;
}
