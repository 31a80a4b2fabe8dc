//! Taking messages in: what the message writer in `publish/` uses.

use async_trait::async_trait;

use super::{Accepted, NewMessage, RefusedMessage, SentMessage, StoreError, UnsentMessage};

/// Stores messages that senders hand in, and what became of direct sends.
#[async_trait]
pub trait AcceptStore: Send + Sync + 'static {
    /// Stores messages in one transaction and in their order, and returns what
    /// became of each:
    /// - A new [`Identity`](super::Identity) inserts the message row, and its
    ///   outbound row or the row of a delayed message if it has one: `New`.
    /// - A known identity with the same content digest is `Same`, with the row
    ///   that is stored; with another digest it is `Other`.
    /// - An identity that a prepared transaction holds is `Reserved`.
    ///
    /// A message that was refused for a fault of its own makes room for a
    /// corrected one.
    async fn accept(&self, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError>;

    /// Records that Kafka took messages that were sent directly: they become
    /// COMMITTED with partition and offset, and their outbound rows are deleted.
    async fn sent(&self, sent: &[SentMessage]) -> Result<(), StoreError>;

    /// Hands direct sends that did not succeed to the relay: their outbound rows
    /// are due at once, and the messages become SEND_FAIL with `retrying`.
    async fn release_outbound(&self, messages: &[UnsentMessage]) -> Result<(), StoreError>;

    /// Records direct sends that Kafka refused for ever and whose senders are told
    /// so. Their outbound rows are deleted, and the messages become SEND_FAIL as if
    /// they had been refused before they were sent, so that a corrected message is
    /// accepted in their place.
    async fn refuse_outbound(&self, messages: &[RefusedMessage]) -> Result<(), StoreError>;
}
