//! What the host asks of the store itself: `server/` watches it, and whoever
//! found it away asks until it is back.

use async_trait::async_trait;
use courier_core::message::Timestamp;

use super::StoreError;

/// A setting of the store that takes from what it promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weakness {
    /// Names the sort, for programs.
    pub code: &'static str,
    /// What is at risk and what to set, for people.
    pub sentence: String,
}

/// Whether the store can be used.
#[async_trait]
pub trait HealthStore: Send + Sync + 'static {
    /// Whether the store answers and takes writes: one that can only be read
    /// is `StaleSession` or `Refused`. Answers the store's clock.
    async fn ping(&self) -> Result<Timestamp, StoreError>;

    /// Settings of the store that take from what it promises and that only a
    /// person can change; none where all is well.
    async fn weaknesses(&self) -> Result<Vec<Weakness>, StoreError> {
        Ok(Vec::new())
    }
}
