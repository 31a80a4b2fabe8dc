//! Nodes and their leases. `server/` keeps the lease of this node, and the API
//! lists all of them.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::Timestamp;

use super::{Holder, Joined, NodeRow, StoreError, WriterId};

/// The verbs of nodes and of their writers.
#[async_trait]
pub trait NodeStore: Send + Sync + 'static {
    /// Takes the lease on `node` for this process and creates its writer with
    /// sequence 0. A live lease of another process under the same name is
    /// `Fenced` and names when it ends, unless that process left by
    /// [`NodeStore::leave`]. `same_machine_pid_dead` is true when the caller knows
    /// that the earlier holder (see [`Holder`]) is dead: then its lease is
    /// taken over at once (a restart after kill -9 must be ready in seconds).
    async fn join(&self, node: &str, holder: &Holder, lease: Duration) -> Result<Joined, StoreError>;

    /// Who holds the lease on `node` now, if anybody does.
    async fn holder(&self, node: &str) -> Result<Option<(Holder, Timestamp)>, StoreError>;

    /// Drops the lease of `node` whatever its age and frees its relay shards,
    /// if `holder` still has it; `Conflict` when it does not.
    async fn evict(&self, node: &str, holder: &Holder) -> Result<(), StoreError>;

    /// Extends the lease; `Fenced` when another process took the name.
    async fn renew(&self, writer: WriterId, lease: Duration) -> Result<(), StoreError>;

    /// Ends the lease, so that the name is free at once.
    async fn leave(&self, writer: WriterId) -> Result<(), StoreError>;

    /// Nodes with their leases, live ones first.
    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError>;
}
