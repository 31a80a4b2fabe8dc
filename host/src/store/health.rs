//! Whether the store can be used: `server/` watches it, and a writer that found it
//! away waits until it answers again.

use async_trait::async_trait;
use courier_core::message::Timestamp;

use super::StoreError;

/// A setting of the database that breaks a guarantee of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weakness {
    /// A stable name, for programs.
    pub code: &'static str,
    /// What is at risk and what to set, for people.
    pub sentence: String,
}

/// Tells whether the store can be used.
#[async_trait]
pub trait HealthStore: Send + Sync + 'static {
    /// Checks that the store answers and takes writes, and returns the time of its
    /// clock. `StaleSession` or `Refused` for one that can only be read.
    async fn ping(&self) -> Result<Timestamp, StoreError>;

    /// Lists the settings of the database that break a guarantee and that only a
    /// person can change.
    async fn weaknesses(&self) -> Result<Vec<Weakness>, StoreError> {
        Ok(Vec::new())
    }
}
