//! Leases on relay shards: what `publish/relay/` holds while it sends.

use std::time::Duration;

use async_trait::async_trait;

use super::{StoreError, WriterId};

/// Leases relay shards.
#[async_trait]
pub trait ShardStore: Send + Sync + 'static {
    /// Leases relay shards, of which there are [`SHARDS`](super::SHARDS), for `writer`:
    /// renews those that it has, takes free or expired ones until it has `want`, and
    /// frees those beyond the first `want` unless they are among `kept`. Returns the
    /// shards that it holds, ascending, with their epochs.
    async fn lease_shards(
        &self,
        writer: WriterId,
        want: u32,
        kept: &[i32],
        lease: Duration,
    ) -> Result<Vec<(i32, i64)>, StoreError>;
}
