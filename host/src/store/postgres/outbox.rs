//! Accepting rows of outboxes.

use async_trait::async_trait;
use courier_core::status::State;
use sqlx::postgres::PgRow;

use super::accept::accept_in;
use super::columns::{PgRowExt, state};
use super::error::at_statement;
use super::identities::IdentityColumns;
use super::{PostgresStore, bounded, commit};
use crate::store::shared::outbox::hold_shard;
use crate::store::{Accepted, Identity, NewMessage, OutboxStore, StoreError};

#[async_trait]
impl OutboxStore for PostgresStore {
    async fn take_outbox(&self, shard: (i32, i64), messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
        bounded(async {
            let mut tx = self.begin_tx().await?;
            hold_shard(&mut *tx, shard).await?;
            let answers = accept_in(&mut tx, messages).await?;
            commit(tx).await?;
            Ok(answers)
        })
        .await
    }

    async fn ended(&self, messages: &[Identity]) -> Result<Vec<Option<State>>, StoreError> {
        let columns: IdentityColumns = messages.iter().collect();
        let ended = sqlx::query(
            "SELECT coalesce(m.state, 2::smallint) AS state, coalesce(m.retrying, false) AS retrying
             FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS i (id, source, topic, place)
             LEFT JOIN message m ON m.id = i.id AND m.source = i.source AND m.topic = i.topic
             ORDER BY i.place",
        )
        .bind(&columns.id)
        .bind(&columns.source)
        .bind(&columns.topic)
        .fetch_all(&self.pool);
        let rows = bounded(async { ended.await.map_err(at_statement) }).await?;
        let ended = |row: &PgRow| {
            let state = state(row.take("state")?)?;
            Ok((!row.take::<bool>("retrying")?).then_some(state))
        };
        rows.iter().map(ended).collect()
    }
}
