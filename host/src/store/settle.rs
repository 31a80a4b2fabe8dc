//! Writing outcomes: what the writer in `consume/settle/` uses.

use async_trait::async_trait;

use super::{Part, Settled, StoreError, WriterId};

/// Writes what became of deliveries.
#[async_trait]
pub trait SettleStore: Send + Sync + 'static {
    /// Writes the outcomes of `parts` in one transaction, as sequence `sequence` of
    /// `writer`, which is its current sequence plus one.
    ///
    /// The positions are locked first, in key order and under their epochs. A part
    /// whose position has a newer epoch is left out and reported as stale. `Data`
    /// means that nothing was written. After `CommitUnknown` the caller reads
    /// [`SettleStore::sequence`] to learn whether the transaction committed.
    async fn settle(&self, writer: WriterId, sequence: i64, parts: &[Part]) -> Result<Settled, StoreError>;

    /// Reads the sequence of the last settle of `writer` that committed.
    async fn sequence(&self, writer: WriterId) -> Result<i64, StoreError>;
}
