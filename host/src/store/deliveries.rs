//! Deliveries and their attempts as the API reads them.

use async_trait::async_trait;

use super::{AttemptRow, DeliveryFilter, DeliveryKey, DeliveryRow, Listing, Page, StoreError};

/// The verbs that read deliveries.
#[async_trait]
pub trait DeliveryStore: Send + Sync + 'static {
    /// Deliveries, open and final, newest first.
    async fn deliveries(&self, filter: &DeliveryFilter, page: &Page) -> Result<Listing<DeliveryRow>, StoreError>;

    /// One delivery.
    async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError>;

    /// The attempts of deliveries, by number, in the order of `keys`.
    async fn attempts(&self, keys: &[DeliveryKey]) -> Result<Vec<Vec<AttemptRow>>, StoreError>;
}
