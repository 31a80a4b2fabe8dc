//! Retention: what the pruning task of `server/` asks for.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;

/// Removes what retention no longer keeps.
#[async_trait]
pub trait PruneStore: Send + Sync + 'static {
    /// Removes rows older than `retention`, at most a chunk a call, and returns whether
    /// more may be left. Open deliveries are never removed.
    async fn prune(&self, retention: Duration) -> Result<bool, StoreError>;
}
