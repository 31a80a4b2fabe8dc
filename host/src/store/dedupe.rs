//! Which messages a group has handled. A binding that drops duplicates asks this
//! before it runs a delivery.

use std::time::Duration;

use async_trait::async_trait;

use super::{SourceHash, StoreError};

/// Messages that one call may ask about: a bound on the statement's parameters.
pub const MAX_IDS: usize = 256;

/// The handler that is asked about.
#[derive(Clone, Debug)]
pub struct HandledBy {
    pub group: String,
    /// The topic that the messages were published on.
    pub topic: String,
    /// The node for broadcasts, of which every node of the group handles its
    /// own; none for events.
    pub listener: Option<String>,
}

/// A message within a topic: its id and source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SameTopic {
    pub id: String,
    /// Its source. A delivery from before sources were kept matches any.
    pub source: SourceHash,
}

/// Finds duplicates, for the owners in `consume/owner/`.
#[async_trait]
pub trait DedupeStore {
    /// Finds, for each of at most [`MAX_IDS`] messages, whether the handler of `who`
    /// handled it within the `window` before now. A delivery that was dropped as a
    /// duplicate does not count as handled: otherwise each duplicate would extend the
    /// window.
    async fn handled_within(
        &self,
        who: &HandledBy,
        messages: &[SameTopic],
        window: Duration,
    ) -> Result<Vec<bool>, StoreError>;
}
