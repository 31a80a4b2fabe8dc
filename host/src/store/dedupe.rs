//! Which messages a group has handled: what a deduping binding asks before it
//! runs a delivery.

use std::time::Duration;

use async_trait::async_trait;

use super::{SourceHash, StoreError};

/// Ids that one question may have.
pub const MAX_IDS: usize = 256;

/// Who handled a message.
#[derive(Clone, Debug)]
pub struct HandledBy {
    pub group: String,
    /// The topic that the messages were published on.
    pub topic: String,
    /// The node for broadcasts, of which every node of the group handles its
    /// own; none for events.
    pub listener: Option<String>,
}

/// What tells a message from others of its topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SameTopic {
    pub id: String,
    /// Its source. A delivery from before sources were kept matches any.
    pub source: SourceHash,
}

/// The verb that concerns duplicates.
#[async_trait]
pub trait DedupeStore {
    /// Whether the handler of `who` handled each message within the window
    /// before now, by the store's clock; at most [`MAX_IDS`]. What was dropped
    /// as a duplicate was not handled then, so that the window does not move
    /// with each of them.
    async fn handled_within(
        &self,
        who: &HandledBy,
        messages: &[SameTopic],
        window: Duration,
    ) -> Result<Vec<bool>, StoreError>;
}
