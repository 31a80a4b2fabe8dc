//! The key/value state of groups. [`settle`](super::settle) writes the values, and triggers
//! count them.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, bounded, micros, prompt};
use crate::store::shared::text::clean;
use crate::store::{StateStore, StateUsage, StoreError};

/// Most values that one call removes.
const CHUNK_ROWS: i64 = 2_000;

#[async_trait]
impl StateStore for PostgresStore {
    async fn state_value(
        &self,
        group: &str,
        key: &str,
        max_age: Option<Duration>,
    ) -> Result<Option<Bytes>, StoreError> {
        prompt(async {
            let Some(group_id) = self.groups.find_id(&self.pool, group).await? else { return Ok(None) };
            let row = sqlx::query(
                "SELECT value FROM state
                 WHERE group_id = $1 AND key = $2 AND ($3 IS NULL OR written_at >= courier_now() - $3)",
            )
            .bind(group_id)
            .bind(clean(key))
            .bind(max_age.map(micros))
            .fetch_optional(&self.pool)
            .await
            .map_err(at_statement)?;
            row.map_or(Ok(None), |row| row.bytes("value"))
        })
        .await
    }

    async fn state_usage(&self, group: &str) -> Result<StateUsage, StoreError> {
        prompt(async {
            let Some(group_id) = self.groups.find_id(&self.pool, group).await? else {
                return Ok(StateUsage::default());
            };
            let row = sqlx::query(
                "SELECT coalesce(sum(keys), 0)::bigint AS keys, coalesce(sum(bytes), 0)::bigint AS bytes
                 FROM state_usage WHERE group_id = $1",
            )
            .bind(group_id)
            .fetch_one(&self.pool)
            .await
            .map_err(at_statement)?;
            let count = |count: i64| u64::try_from(count).unwrap_or(0);
            Ok(StateUsage { keys: count(row.take("keys")?), bytes: count(row.take("bytes")?) })
        })
        .await
    }

    async fn forget_state(&self, group: &str, max_age: Duration) -> Result<bool, StoreError> {
        bounded(async {
            let Some(group_id) = self.groups.find_id(&self.pool, group).await? else { return Ok(false) };
            // A row that a settle has locked is being written and no longer old: there is
            // no need to wait for it.
            let removed = sqlx::query(
                "DELETE FROM state WHERE group_id = $1 AND key = ANY (ARRAY (
                     SELECT key FROM state WHERE group_id = $1 AND written_at < courier_now() - $2
                     LIMIT $3 FOR UPDATE SKIP LOCKED))",
            )
            .bind(group_id)
            .bind(micros(max_age))
            .bind(CHUNK_ROWS)
            .execute(&self.pool)
            .await
            .map_err(at_statement)?;
            Ok(i64::try_from(removed.rows_affected()).unwrap_or(CHUNK_ROWS) >= CHUNK_ROWS)
        })
        .await
    }
}
