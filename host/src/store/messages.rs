//! Messages of the send side as the API reads them.

use async_trait::async_trait;

use super::{Identity, Listing, MessageFilter, MessageRow, Page, StoreError};

/// The verbs that read messages.
#[async_trait]
pub trait MessageStore: Send + Sync + 'static {
    /// Messages of the send side, newest first.
    async fn messages(&self, filter: &MessageFilter, page: &Page) -> Result<Listing<MessageRow>, StoreError>;

    /// The messages of the send side with this id, on these topics or on all,
    /// newest first, at most [`MAX_SAME_ID`](super::MAX_SAME_ID); none for an id that only foreign
    /// records have.
    async fn messages_with_id(&self, id: &str, topics: Option<&[String]>) -> Result<Vec<MessageRow>, StoreError>;

    /// A message of the send side.
    async fn message_of(&self, message: &Identity) -> Result<Option<MessageRow>, StoreError>;

    /// The newest message of the send side with this id.
    async fn message(&self, id: &str) -> Result<Option<MessageRow>, StoreError> {
        Ok(self.messages_with_id(id, None).await?.into_iter().next())
    }
}
