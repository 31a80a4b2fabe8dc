//! The key/value state of groups. [`settle`](super::settle) writes the values, and triggers
//! count them.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::SqliteStore;
use super::columns::{Columns, now};
use super::error::{commit_fault, fault};
use crate::store::shared::text::clean;
use crate::store::{StateStore, StateUsage, StoreError};

/// Most values that one call removes.
const CHUNK_ROWS: i64 = 2_000;

/// The time before which a value is too old.
fn cutoff(max_age: Duration) -> i64 {
    now().0.saturating_sub(i64::try_from(max_age.as_micros()).unwrap_or(i64::MAX))
}

#[async_trait]
impl StateStore for SqliteStore {
    async fn state_value(
        &self,
        group: &str,
        key: &str,
        max_age: Option<Duration>,
    ) -> Result<Option<Bytes>, StoreError> {
        let value: Option<Vec<u8>> = sqlx::query_scalar(
            "SELECT s.value FROM state_value s JOIN consumer_group g ON g.id = s.group_id
             WHERE g.name = ? AND s.key = ? AND s.written_at >= ?",
        )
        .bind(clean(group))
        .bind(clean(key))
        .bind(max_age.map_or(i64::MIN, cutoff))
        .fetch_optional(&self.connections.readers)
        .await
        .map_err(fault)?;
        Ok(value.map(Bytes::from))
    }

    async fn state_usage(&self, group: &str) -> Result<StateUsage, StoreError> {
        let row = sqlx::query(
            "SELECT u.keys, u.bytes FROM state_usage u JOIN consumer_group g ON g.id = u.group_id WHERE g.name = ?",
        )
        .bind(clean(group))
        .fetch_optional(&self.connections.readers)
        .await
        .map_err(fault)?;
        let Some(row) = row else { return Ok(StateUsage::default()) };
        let mut columns = Columns::of(&row);
        Ok(StateUsage { keys: columns.number()?, bytes: columns.number()? })
    }

    async fn forget_state(&self, group: &str, max_age: Duration) -> Result<bool, StoreError> {
        let mut tx = self.connections.write().await?;
        let removed = sqlx::query(
            "DELETE FROM state_value WHERE (group_id, key) IN (
                 SELECT s.group_id, s.key FROM state_value s JOIN consumer_group g ON g.id = s.group_id
                 WHERE g.name = ? AND s.written_at < ? LIMIT ?)",
        )
        .bind(clean(group))
        .bind(cutoff(max_age))
        .bind(CHUNK_ROWS)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(i64::try_from(removed.rows_affected()).unwrap_or(CHUNK_ROWS) >= CHUNK_ROWS)
    }
}
