//! Groups: their totals, and their pauses as the API sets them and `consume/`
//! obeys them.

use async_trait::async_trait;

use super::{GroupTotals, StoreError};

/// The verbs of groups.
#[async_trait]
pub trait GroupStore: Send + Sync + 'static {
    /// Open deliveries by group and state, and what the groups' counters say.
    async fn totals(&self) -> Result<Vec<GroupTotals>, StoreError>;

    /// Pauses (with who said so) or resumes a group by the API.
    async fn set_paused(&self, group: &str, why: Option<&str>) -> Result<(), StoreError>;

    /// Groups paused by the API and why.
    async fn paused(&self) -> Result<Vec<(String, String)>, StoreError>;
}
