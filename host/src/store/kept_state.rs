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
    /// How many values there are.
    pub keys: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
}

/// Reads the state of groups for their handlers, and removes old values.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// Reads the value of `key`, unless it was written longer than `max_age` ago.
    async fn state_value(&self, group: &str, key: &str, max_age: Option<Duration>)
    -> Result<Option<Bytes>, StoreError>;

    /// Reads the value of `key`, however old it is.
    async fn state_get(&self, group: &str, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.state_value(group, key, None).await
    }

    /// Reads what the state of a group holds. A value that is too old counts until it is
    /// removed.
    async fn state_usage(&self, group: &str) -> Result<StateUsage, StoreError>;

    /// Removes values of a group that were written longer than `max_age` ago, at most a
    /// chunk a call, and returns whether more may be left.
    async fn forget_state(&self, group: &str, max_age: Duration) -> Result<bool, StoreError>;
}
