//! Outbound rows: what the hosts owe Kafka, and `publish/relay/` sends.

use async_trait::async_trait;
use bytes::Bytes;

use super::{ChosenPartition, Identity, OutboundRow, Relayed, StoreError};

/// The verbs of outbound rows.
#[async_trait]
pub trait OutboundStore: Send + Sync + 'static {
    /// Topics that have outbound rows, so that nothing overtakes them.
    async fn topics_with_outbound(&self) -> Result<Vec<String>, StoreError>;

    /// The first rows of the leased shards in id order, at most `limit` in
    /// all. A row that is not due yet (`held_until` in the future) hides the
    /// rows behind it that have the same topic and key. Of the topics in
    /// `waiting` only rows are answered that were never tried.
    async fn outbound(
        &self,
        shards: &[(i32, i64)],
        limit: u32,
        waiting: &[String],
    ) -> Result<Vec<OutboundRow>, StoreError>;

    /// Stores the partitions chosen for rows, before they are produced there.
    async fn choose_partitions(&self, shards: &[(i32, i64)], chosen: &[ChosenPartition]) -> Result<(), StoreError>;

    /// Whether other hosts may write rows beside this one.
    fn is_shared(&self) -> bool {
        true
    }

    /// Those of `lanes` (topics with raw keys) that have unsent rows, on any
    /// host, by their places in the list.
    async fn unsent_lanes(&self, lanes: &[(String, Bytes)]) -> Result<Vec<usize>, StoreError>;

    /// What became of outbound rows, under the epochs of their shards: taken
    /// by Kafka (the row goes, its message is COMMITTED; inserted when it has
    /// no row yet), undelivered (SEND_FAIL, not retrying; the row is kept among
    /// the undelivered ones) or to be tried again at a time (SEND_FAIL and
    /// retrying, when listed). Rows of shards whose epoch moved on are left alone.
    async fn relayed(&self, shards: &[(i32, i64)], results: &[Relayed]) -> Result<(), StoreError>;

    /// Sends a SEND_FAIL message again that has its whole body in the store.
    /// `Conflict` for one that a person cancelled: it would go before it is
    /// due.
    async fn resend(&self, message: &Identity) -> Result<(), StoreError>;
}
