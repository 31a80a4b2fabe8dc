//! Positions as the API and `server/` read them.

use async_trait::async_trait;

use super::{LostRange, LostRangeFilter, PositionRow, StoreError};

/// The verbs that read positions.
#[async_trait]
pub trait PositionStore: Send + Sync + 'static {
    /// Positions of all groups, current incarnations only.
    async fn positions(&self) -> Result<Vec<PositionRow>, StoreError>;

    /// Lost ranges, newest first, at most `limit`.
    async fn lost_ranges(&self, filter: &LostRangeFilter, limit: u32) -> Result<Vec<LostRange>, StoreError>;
}
