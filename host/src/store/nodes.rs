//! Nodes and their leases. `server/` keeps the lease of this node, and the API
//! lists all of them.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::Timestamp;

use super::{Holder, Joined, NodeRow, StoreError, WriterId};

/// Keeps the leases on the names of nodes, and creates writers.
#[async_trait]
pub trait NodeStore: Send + Sync + 'static {
    /// Takes the lease on `node` for this process and creates its writer, with
    /// sequence 0. `Fenced` while another process holds a live lease on the name;
    /// the error says when that ends. A process that knows the holder to be dead
    /// ends its lease first, see [`NodeStore::evict`].
    async fn join(&self, node: &str, holder: &Holder, lease: Duration) -> Result<Joined, StoreError>;

    /// Reads which process holds a live lease on `node`, and until when.
    async fn holder(&self, node: &str) -> Result<Option<(Holder, Timestamp)>, StoreError>;

    /// Ends the lease on `node` at once if `holder` still has it, so that a host that
    /// was killed is ready again in seconds. `Conflict` when another process has it.
    async fn evict(&self, node: &str, holder: &Holder) -> Result<(), StoreError>;

    /// Extends the lease of `writer`. `Fenced` when another process took the name.
    async fn renew(&self, writer: WriterId, lease: Duration) -> Result<(), StoreError>;

    /// Ends the lease of `writer`, so that the name and its relay shards are free at
    /// once.
    async fn leave(&self, writer: WriterId) -> Result<(), StoreError>;

    /// Lists the nodes with their leases, live ones first.
    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError>;
}
