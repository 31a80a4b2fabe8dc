//! Totals of groups, which the API and the metrics show, and pauses of groups,
//! which the API sets and `server/` passes to the consumers.

use async_trait::async_trait;

use super::{GroupTotals, StoreError};

/// Reads the totals of groups, and pauses and resumes them.
#[async_trait]
pub trait GroupStore: Send + Sync + 'static {
    /// Counts the open deliveries of each group by state, and reads the counters of
    /// final ones.
    async fn totals(&self) -> Result<Vec<GroupTotals>, StoreError>;

    /// Pauses a group, with who paused it and why, or resumes it for `None`.
    async fn set_paused(&self, group: &str, why: Option<&str>) -> Result<(), StoreError>;

    /// Lists the groups that are paused, and why.
    async fn paused(&self) -> Result<Vec<(String, String)>, StoreError>;
}
