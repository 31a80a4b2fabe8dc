//! Outbound rows, which are records that a host has still to send to Kafka. The
//! relay in `publish/relay/` sends them.

use async_trait::async_trait;
use bytes::Bytes;

use super::{ChosenPartition, Identity, LeftOut, OutboundRow, Relayed, StoreError};

/// Reads and settles outbound rows.
#[async_trait]
pub trait OutboundStore: Send + Sync + 'static {
    /// Lists the topics that have outbound rows, so that a direct send does not
    /// overtake them.
    async fn topics_with_outbound(&self) -> Result<Vec<String>, StoreError>;

    /// Reads the first rows of the leased shards in the order of their ids, at most
    /// `limit` in all, and besides the first row of each partition that is tried with one
    /// row. A row that is not due yet (`held_until` lies in the future) is not returned, nor
    /// are the rows that `left_out` names; each of them hides the rows behind it that have
    /// the same topic and key.
    async fn outbound(
        &self,
        shards: &[(i32, i64)],
        limit: u32,
        left_out: &LeftOut,
    ) -> Result<Vec<OutboundRow>, StoreError>;

    /// Stores the partitions chosen for rows before they are produced there. `Fenced`
    /// when a shard of them has a newer epoch.
    async fn choose_partitions(&self, shards: &[(i32, i64)], chosen: &[ChosenPartition]) -> Result<(), StoreError>;

    /// Whether other hosts may write rows beside this one.
    fn is_shared(&self) -> bool {
        true
    }

    /// Finds which of `lanes` (topics with raw keys) have unsent rows of any host, and
    /// returns their indexes in the list.
    async fn unsent_lanes(&self, lanes: &[(String, Bytes)]) -> Result<Vec<usize>, StoreError>;

    /// Records what became of outbound rows, under the epochs of their shards. Rows of
    /// a shard with a newer epoch are left alone.
    /// - Taken by Kafka: the row is deleted, and its message is COMMITTED. A message
    ///   that a handler published gets its row now.
    /// - Undelivered: the row moves to the undelivered ones, and its message is
    ///   SEND_FAIL without `retrying`.
    /// - To be tried again: the row is held until then, and its message, if people
    ///   see it, is SEND_FAIL with `retrying`.
    async fn relayed(&self, shards: &[(i32, i64)], results: &[Relayed]) -> Result<(), StoreError>;

    /// Sends a SEND_FAIL message again whose body is in the store. `Conflict` for one
    /// that a person cancelled, since it would be sent before it is due.
    async fn resend(&self, message: &Identity) -> Result<(), StoreError>;
}
