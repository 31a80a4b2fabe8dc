//! The verbs of topics that change, which the API has no use for.

use async_trait::async_trait;
use courier_core::message::Offset;

use super::fake_store::{FakeStore, absent};
use crate::store::{Growth, Incarnations, StoreError, TopicOfGroup};

#[async_trait]
impl Incarnations for FakeStore {
    async fn end_vanished(&self, _: &TopicOfGroup<'_>, _: Option<&str>, _: i32) -> Result<Vec<i32>, StoreError> {
        absent()
    }

    async fn growth(&self, _: &TopicOfGroup<'_>, _: i32) -> Result<Growth, StoreError> {
        absent()
    }

    async fn keep_growth(&self, _: &TopicOfGroup<'_>, _: i32, _: i32, _: &[(i32, Offset)]) -> Result<(), StoreError> {
        absent()
    }
}
