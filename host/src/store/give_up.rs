//! Giving open deliveries up.
//!
//! A person's word is a mark on the open row, which the owner of its partition
//! finds as it finds a request to run (see [`OpenRowStore::asked`](super::OpenRowStore::asked)).
//! The owner ends the delivery in its lane's turn, under its epoch; nobody else
//! writes an outcome.

use async_trait::async_trait;

use super::{DeliveryKey, StoreError};

/// What a person said of a delivery that is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GiveUp {
    pub reason: String,
    /// Whether its record goes to the dead letters.
    pub dead_letter: bool,
}

/// The verb that gives deliveries up.
#[async_trait]
pub trait GiveUpStore {
    /// Marks an open delivery as given up; a later request to run it takes the
    /// mark off. `Conflict` for one that is final or in its first flight,
    /// `NotFound` for an unknown one.
    async fn give_up(&self, delivery: &DeliveryKey, give_up: &GiveUp) -> Result<(), StoreError>;
}
