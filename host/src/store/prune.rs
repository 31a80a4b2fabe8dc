//! Retention: what the pruning task of `server/` asks for.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;

/// The verb of retention.
#[async_trait]
pub trait PruneStore: Send + Sync + 'static {
    /// Removes what is older than `retention`: at most a chunk a call; answers
    /// whether more may be left. Never touches open deliveries.
    async fn prune(&self, retention: Duration) -> Result<bool, StoreError>;
}
