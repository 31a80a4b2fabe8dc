//! Giving open deliveries up.
//!
//! A person's decision is a mark on the open row. The owner of its partition finds the
//! mark as it finds a requested rerun, see [`OpenRowStore::asked`](super::OpenRowStore::asked),
//! and ends the delivery in its lane's turn and under its epoch, since nobody but the
//! owner writes an outcome.

use async_trait::async_trait;

use super::{DeliveryKey, StoreError};

/// A person's decision to give a delivery up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GiveUp {
    pub reason: String,
    /// Whether its record goes to the dead letters.
    pub dead_letter: bool,
}

/// Gives deliveries up, for the API.
#[async_trait]
pub trait GiveUpStore {
    /// Marks an open delivery as given up. A later request to run it removes the mark.
    /// `Conflict` for a delivery that is final or whose first attempt has not ended,
    /// `NotFound` for an unknown one.
    async fn give_up(&self, delivery: &DeliveryKey, give_up: &GiveUp) -> Result<(), StoreError>;
}
