//! Writing outcomes: what the writer in `consume/settle/` uses.

use async_trait::async_trait;

use super::{Part, Settled, StoreError, WriterId};

/// The verbs of the settle writer.
#[async_trait]
pub trait SettleStore: Send + Sync + 'static {
    /// Writes the outcomes of `parts` in one transaction, as sequence
    /// `sequence` of `writer` (the writer's current sequence + 1).
    ///
    /// Locks the positions by (group, topic, partition, epoch) in key order
    /// first; parts whose position was not returned are left out and reported
    /// as stale. `Data` means that nothing was written; `CommitUnknown` that
    /// [`SettleStore::sequence`] tells.
    async fn settle(&self, writer: WriterId, sequence: i64, parts: &[Part]) -> Result<Settled, StoreError>;

    /// The sequence of the last settle of `writer` that committed.
    async fn sequence(&self, writer: WriterId) -> Result<i64, StoreError>;
}
