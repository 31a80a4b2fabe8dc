//! Running a delivery again because a person asked through the API.

use async_trait::async_trait;

use super::{DeliveryKey, StoreError};

/// Requests reruns of deliveries.
#[async_trait]
pub trait RerunStore: Send + Sync + 'static {
    /// Requests that a delivery runs again now.
    /// - An open delivery becomes due. One that waits behind its lane's head is
    ///   marked and keeps its turn.
    /// - A final delivery becomes an open row in the same transaction. A failed one
    ///   stays HANDLE_FAIL until its next outcome; a handled one is COMMITTED.
    ///
    /// Attempts and their numbers are kept, and `counted` starts at 0. `Conflict` for
    /// a delivery whose first attempt has not ended or whose topic was created anew,
    /// `NotFound` for an unknown one.
    async fn ask(&self, delivery: &DeliveryKey) -> Result<(), StoreError>;
}
