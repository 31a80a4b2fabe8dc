//! Accepting rows of outboxes.

use async_trait::async_trait;
use courier_core::status::State;

use super::SqliteStore;
use super::accept::accept_in;
use super::columns::{Columns, json};
use super::error::{commit_fault, fault};
use super::identities::identity_columns;
use crate::store::shared::outbox::hold_shard;
use crate::store::{Accepted, Identity, NewMessage, OutboxStore, StoreError};

#[async_trait]
impl OutboxStore for SqliteStore {
    async fn take_outbox(&self, shard: (i32, i64), messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
        let mut tx = self.connections.write().await?;
        hold_shard(&mut *tx, shard).await?;
        let answers = accept_in(&mut tx, messages).await?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(answers)
    }

    async fn ended(&self, messages: &[Identity]) -> Result<Vec<Option<State>>, StoreError> {
        let rows = sqlx::query(
            "SELECT coalesce(m.state, ?), coalesce(m.retrying, 0) FROM json_each(?) i LEFT JOIN message m
                 ON m.id = i.value ->> 0 AND m.source = i.value ->> 1 AND m.topic = i.value ->> 2
             ORDER BY i.key",
        )
        .bind(State::Committed.code())
        .bind(json(&messages.iter().map(identity_columns).collect::<Vec<_>>())?)
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        let ended = |row| {
            let mut columns = Columns::of(row);
            let (state, retrying) = (columns.state()?, columns.flag()?);
            Ok((!retrying).then_some(state))
        };
        rows.iter().map(ended).collect()
    }
}
