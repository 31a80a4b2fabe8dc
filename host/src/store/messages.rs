//! Messages of the send side as the API reads them.

use async_trait::async_trait;

use super::{Identity, Listing, MessageFilter, MessageRow, Page, StoreError};

/// Reads messages of the send side.
#[async_trait]
pub trait MessageStore: Send + Sync + 'static {
    /// Lists messages, newest first.
    async fn messages(&self, filter: &MessageFilter, page: &Page) -> Result<Listing<MessageRow>, StoreError>;

    /// Lists the messages with this id, on these topics or on all, newest first, at
    /// most [`MAX_SAME_ID`](super::MAX_SAME_ID). An id that only records of other
    /// producers have is not found.
    async fn messages_with_id(&self, id: &str, topics: Option<&[String]>) -> Result<Vec<MessageRow>, StoreError>;

    /// Reads the message of an identity.
    async fn message_of(&self, message: &Identity) -> Result<Option<MessageRow>, StoreError>;

    /// Reads the newest message with this id.
    async fn message(&self, id: &str) -> Result<Option<MessageRow>, StoreError> {
        Ok(self.messages_with_id(id, None).await?.into_iter().next())
    }
}
