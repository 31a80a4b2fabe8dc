//! The key/value state of groups: what their handlers keep.
//!
//! Writes come with a settle and commit with it. What a group holds is counted
//! as it is written, so that a handler can be told that its group is full
//! before it does more work.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::StoreError;

/// What the state of a group holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateUsage {
    /// Values that are there.
    pub keys: u64,
    /// Bytes of their keys and of them.
    pub bytes: u64,
}

/// The verbs of kept state.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// The value a group's handlers stored under `key`, unless it was written
    /// longer than `max_age` ago.
    async fn state_value(&self, group: &str, key: &str, max_age: Option<Duration>)
    -> Result<Option<Bytes>, StoreError>;

    /// The value a group's handlers stored under `key`, however old it is.
    async fn state_get(&self, group: &str, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.state_value(group, key, None).await
    }

    /// What the state of a group holds, forgotten values included until they
    /// are removed.
    async fn state_usage(&self, group: &str) -> Result<StateUsage, StoreError>;

    /// Removes values of a group that were written longer than `max_age` ago: at
    /// most a chunk a call. Answers whether more may be left.
    async fn forget_state(&self, group: &str, max_age: Duration) -> Result<bool, StoreError>;
}
