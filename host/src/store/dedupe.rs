//! Which messages a group has handled: what a deduping binding asks before it
//! runs a delivery.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;

/// Ids that one question may have.
pub const MAX_IDS: usize = 256;

/// The verb that concerns duplicates.
#[async_trait]
pub trait Dedupe {
    /// Whether the group handled each message within the window before now, by
    /// the store's clock; at most [`MAX_IDS`]. What was dropped as a duplicate
    /// was not handled then, so that the window does not move with each of
    /// them. `listener` is the node for broadcasts, of which every node of the
    /// group handles its own, and none for events.
    async fn handled_within(
        &self,
        group: &str,
        listener: Option<&str>,
        ids: &[String],
        window: Duration,
    ) -> Result<Vec<bool>, StoreError>;
}
