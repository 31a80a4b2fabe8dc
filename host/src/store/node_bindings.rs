//! Which nodes run which groups.
//!
//! Each node stores what its configuration binds, so that every host can tell a group
//! that another node runs from one that no node runs. The bindings of a node count
//! while its lease is live.

use async_trait::async_trait;

use super::StoreError;

/// A topic that a node's configuration binds for a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeBinding {
    pub group: String,
    pub topic: String,
    /// The types that the group takes of it; `None` means all.
    pub types: Option<Vec<String>>,
}

/// Stores what this node binds, which `server/` writes, and reads what all live nodes bind,
/// for the API and `consume/redrive.rs`.
#[async_trait]
pub trait NodeBindingStore {
    /// Replaces what `node` binds.
    async fn keep_bindings(&self, node: &str, bindings: &[NodeBinding]) -> Result<(), StoreError>;

    /// Lists what the live nodes bind, sorted and each binding once.
    async fn live_bindings(&self) -> Result<Vec<NodeBinding>, StoreError>;
}
