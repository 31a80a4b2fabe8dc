//! Becoming the owner of a partition: what `consume/consumer/` asks for.

use async_trait::async_trait;
use courier_core::message::Offset;

use super::{ClaimRequest, Claimed, PositionId, StoreError};

/// Makes a writer the owner of a partition, and moves the positions it owns.
#[async_trait]
pub trait ClaimStore: Send + Sync + 'static {
    /// Stores where a group starts in a topic that it has no position in: one row
    /// for each partition, with epoch 0. Does nothing when a position of (group,
    /// topic) exists. `topic_id` is Kafka's id of the topic.
    async fn begin(&self, group: &str, topic: &str, topic_id: &str, starts: &[(i32, Offset)])
    -> Result<(), StoreError>;

    /// Makes `writer` the owner of a partition by raising its epoch, and returns
    /// what the new owner must know. A partition without a position starts at
    /// `fallback`, as incarnation 0.
    ///
    /// When the topic's id changed or the log ends before the position, a new
    /// incarnation begins where [`Renewal`](super::Renewal) says. A lost range is
    /// recorded then, and an open delivery of the old incarnation whose record the
    /// log no longer has becomes HANDLE_FAIL for good.
    async fn claim(&self, claim: &ClaimRequest) -> Result<Claimed, StoreError>;

    /// Records that retention removed the offsets from `from` to `to`, and moves
    /// the position to `to`. `Fenced` when the position has a newer epoch.
    async fn skip_lost(
        &self,
        position: PositionId,
        epoch: i64,
        from: Offset,
        to: Offset,
        why: &str,
    ) -> Result<(), StoreError>;
}
