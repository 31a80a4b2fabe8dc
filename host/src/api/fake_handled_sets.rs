//! Handled sets of the fake store.

use std::collections::HashMap;

use async_trait::async_trait;

use super::fake_store::{FakeStore, absent};
use crate::store::{DeliveryKey, HandledAt, HandledSetStore, StoreError};

/// The handled sets of a world.
#[derive(Default)]
pub struct FakeSets {
    /// The groups that have a set.
    pub groups: Vec<String>,
    /// The deliveries in the sets.
    pub handled: HashMap<DeliveryKey, HandledAt>,
}

#[async_trait]
impl HandledSetStore for FakeStore {
    async fn handled_at(&self, keys: &[DeliveryKey]) -> Result<Vec<Option<HandledAt>>, StoreError> {
        let world = self.read()?;
        Ok(keys.iter().map(|key| world.sets.handled.get(key).cloned()).collect())
    }

    async fn groups_with_sets(&self, _: Option<&[String]>) -> Result<Vec<String>, StoreError> {
        Ok(self.read()?.sets.groups.clone())
    }

    async fn compact_sets(&self) -> Result<bool, StoreError> {
        absent()
    }
}
