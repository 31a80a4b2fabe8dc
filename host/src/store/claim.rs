//! Becoming the owner of a partition: what `consume/consumer/` asks for.

use async_trait::async_trait;
use courier_core::message::Offset;

use super::{ClaimRequest, Claimed, PositionId, StoreError};

/// The verbs of claims.
#[async_trait]
pub trait ClaimStore: Send + Sync + 'static {
    /// Stores where a group starts in a topic it has no position in yet: one
    /// row for each partition, epoch 0. Does nothing when any position of
    /// (group, topic) exists. `topic_id` is Kafka's id of the topic.
    async fn begin(&self, group: &str, topic: &str, topic_id: &str, starts: &[(i32, Offset)])
    -> Result<(), StoreError>;

    /// Makes `writer` the owner of a partition: epoch + 1. Reads what the new
    /// owner must know. A partition without a position starts at `fallback`
    /// (incarnation 0). When the topic's id changed or the log ends before the
    /// position, a new incarnation begins where [`Renewal`](super::Renewal) says: a lost range
    /// is recorded, and what lay open in the old one and is not in the log any
    /// more is finally HANDLE_FAIL.
    async fn claim(&self, claim: &ClaimRequest) -> Result<Claimed, StoreError>;

    /// Records that offsets were lost to retention and moves the position to
    /// `to` under the epoch; `Fenced` when the epoch is older.
    async fn skip_lost(
        &self,
        position: PositionId,
        epoch: i64,
        from: Offset,
        to: Offset,
        why: &str,
    ) -> Result<(), StoreError>;
}
