//! The verbs of [`FakeStore`] for changed topics, copied records and duplicates,
//! which the API does not use.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Offset;
use courier_core::retention::NearEnd;

use super::fake_store::{FakeStore, absent};
use crate::store::{
    Copies, DedupeStore, Endangered, Growth, HandledBy, IncarnationStore, PositionId, RecordCopyStore, SameTopic,
    SeenLogEnd, StoreError, TopicOfGroup,
};

#[async_trait]
impl IncarnationStore for FakeStore {
    async fn end_vanished(&self, _: &TopicOfGroup<'_>, _: Option<&str>, _: i32) -> Result<Vec<i32>, StoreError> {
        absent()
    }

    async fn growth(&self, _: &TopicOfGroup<'_>, _: i32) -> Result<Growth, StoreError> {
        absent()
    }

    async fn keep_growth(&self, _: &TopicOfGroup<'_>, _: i32, _: i32, _: &[(i32, Offset)]) -> Result<(), StoreError> {
        absent()
    }

    async fn keep_log_ends(&self, _: &[SeenLogEnd]) -> Result<(), StoreError> {
        absent()
    }
}

#[async_trait]
impl RecordCopyStore for FakeStore {
    async fn endangered(&self, _: PositionId, _: &NearEnd, _: u32) -> Result<Endangered, StoreError> {
        absent()
    }

    async fn copies(&self, _: PositionId) -> Result<Copies, StoreError> {
        absent()
    }

    async fn copy_records(&self, _: PositionId, _: i64, _: &[(Offset, Bytes)], _: u64) -> Result<usize, StoreError> {
        absent()
    }
}

#[async_trait]
impl DedupeStore for FakeStore {
    async fn handled_within(&self, _: &HandledBy, _: &[SameTopic], _: Duration) -> Result<Vec<bool>, StoreError> {
        absent()
    }
}
