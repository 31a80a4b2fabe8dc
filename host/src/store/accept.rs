//! Taking messages in: what the message writer in `publish/` uses.

use async_trait::async_trait;

use super::{Accepted, NewMessage, RefusedMessage, SentMessage, StoreError, UnsentMessage};

/// The verbs of the message writer.
#[async_trait]
pub trait AcceptStore: Send + Sync + 'static {
    /// Takes messages of senders, in one transaction and in order. For each:
    /// a new [`Identity`](super::Identity) inserts its message row (and its outbound row, when
    /// it has one, or in its place the row of a delayed message) and answers
    /// `New`; a known one answers `Same` with the row when the content digest
    /// equals, else `Other`; one that a prepared transaction holds answers
    /// `Reserved`. A message that was refused for what was wrong with it makes
    /// room for a corrected one.
    async fn accept(&self, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError>;

    /// Kafka took messages that were sent directly: state COMMITTED with
    /// partition and offset, outbound rows (if any) deleted.
    async fn sent(&self, sent: &[SentMessage]) -> Result<(), StoreError>;

    /// Direct sends that did not succeed: their outbound rows are the relay's
    /// from now on, and the messages SEND_FAIL with `retrying`.
    async fn release_outbound(&self, messages: &[UnsentMessage]) -> Result<(), StoreError>;

    /// Direct sends that Kafka refused for ever and whose senders are told so:
    /// their outbound rows go, and the messages are SEND_FAIL as if they had
    /// been refused before they were sent, so that a corrected one is taken in
    /// their place.
    async fn refuse_outbound(&self, messages: &[RefusedMessage]) -> Result<(), StoreError>;
}
