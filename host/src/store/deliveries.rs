//! Deliveries and their attempts as the API reads them.

use async_trait::async_trait;

use super::{AttemptRow, DeliveryFilter, DeliveryKey, DeliveryRow, Listing, Page, StoreError};

/// Reads deliveries and their attempts.
#[async_trait]
pub trait DeliveryStore: Send + Sync + 'static {
    /// Lists deliveries, open and final, newest first.
    async fn deliveries(&self, filter: &DeliveryFilter, page: &Page) -> Result<Listing<DeliveryRow>, StoreError>;

    /// Reads one delivery with its record.
    async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError>;

    /// Reads the attempts of deliveries, by number, in the order of `keys`.
    async fn attempts(&self, keys: &[DeliveryKey]) -> Result<Vec<Vec<AttemptRow>>, StoreError>;
}
