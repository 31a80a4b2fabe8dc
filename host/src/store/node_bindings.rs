//! Which nodes run which groups.
//!
//! Each node writes down what its configuration binds, so that every host can
//! tell a group that another node runs from one that nobody runs. What a node
//! whose lease ran out wrote down counts no more.

use async_trait::async_trait;

use super::StoreError;

/// A topic that a node's configuration binds for a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeBinding {
    pub group: String,
    pub topic: String,
    /// The types that the group takes of it; none means all.
    pub types: Option<Vec<String>>,
}

/// The verbs that concern what nodes bind.
#[async_trait]
pub trait NodeBindingStore {
    /// Replaces what `node` binds.
    async fn keep_bindings(&self, node: &str, bindings: &[NodeBinding]) -> Result<(), StoreError>;

    /// What the live nodes bind, in order and each once.
    async fn live_bindings(&self) -> Result<Vec<NodeBinding>, StoreError>;
}
