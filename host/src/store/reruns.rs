//! Running a delivery again because a person asked through the API.

use async_trait::async_trait;

use super::{DeliveryKey, StoreError};

/// The verb of reruns.
#[async_trait]
pub trait RerunStore: Send + Sync + 'static {
    /// Asks that a delivery runs again now. An open one becomes due; a final
    /// one becomes an open row in one transaction, and leaves the final rows:
    /// a failed one stays HANDLE_FAIL until its next outcome, a handled one is
    /// COMMITTED; attempts and their numbers are kept, `counted` starts at 0. One that waits behind its lane's head is marked
    /// and goes on waiting. `Conflict` for one that is running its first
    /// flight or whose topic was created anew, `NotFound` for an unknown one.
    async fn ask(&self, delivery: &DeliveryKey) -> Result<(), StoreError>;
}
