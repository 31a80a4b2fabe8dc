//! Outboxes of senders.

use async_trait::async_trait;
use courier_core::status::State;
use sqlx::postgres::{PgConnection, PgRow};

use super::accept::accept_in;
use super::columns::{PgRowExt, state};
use super::error::at_statement;
use super::identities::IdentityColumns;
use super::{PostgresStore, bounded, commit};
use crate::store::outbox::{
    OutboxCount, OutboxNote, OutboxRow, OutboxRowRef, Outboxes, cause_from, fields_to_text, rows_from_text,
    rows_to_text,
};
use crate::store::shared::text::{clean, clean_opt};
use crate::store::{Accepted, Identity, NewMessage, StoreError};

/// Holds the shard's lease against a new holder until the transaction ends.
async fn hold_shard(tx: &mut PgConnection, (shard, epoch): (i32, i64)) -> Result<(), StoreError> {
    let held = sqlx::query("SELECT 1 FROM relay_shard WHERE shard = $1 AND epoch = $2 FOR SHARE")
        .bind(shard)
        .bind(epoch)
        .fetch_optional(tx)
        .await
        .map_err(at_statement)?;
    match held {
        Some(_) => Ok(()),
        None => Err(StoreError::Fenced(format!("relay shard {shard} has another holder"))),
    }
}

#[async_trait]
impl Outboxes for PostgresStore {
    async fn take_outbox(&self, shard: (i32, i64), messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
        bounded(async {
            let mut tx = self.begin_tx().await?;
            hold_shard(&mut tx, shard).await?;
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

    async fn note_outbox(&self, shard: (i32, i64), note: &OutboxNote) -> Result<(), StoreError> {
        let fields = fields_to_text(note.cause.as_ref())?;
        bounded(async {
            let mut tx = self.begin_tx().await?;
            hold_shard(&mut tx, shard).await?;
            sqlx::query(
                "INSERT INTO outbox AS o (name, node, shard, why, pending, oldest_at, cause_code, cause_fields, since,
                     noted_at)
                 SELECT $1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $7 IS NOT NULL THEN now.at END, now.at
                 FROM (SELECT courier_now() AS at) AS now
                 ON CONFLICT (name) DO UPDATE SET node = excluded.node, shard = excluded.shard, why = excluded.why,
                     pending = excluded.pending, oldest_at = excluded.oldest_at, cause_code = excluded.cause_code,
                     cause_fields = excluded.cause_fields,
                     since = CASE WHEN o.cause_code = excluded.cause_code THEN coalesce(o.since, excluded.since)
                         ELSE excluded.since END,
                     noted_at = excluded.noted_at",
            )
            .bind(clean(&note.name))
            .bind(clean(&note.node))
            .bind(shard.0)
            .bind(clean_opt(note.why.as_deref()))
            .bind(note.pending)
            .bind(note.oldest_at.map(|at| at.0))
            .bind(clean_opt(note.cause.as_ref().map(|cause| cause.code.as_str())))
            .bind(clean_opt(fields.as_deref()))
            .execute(&mut *tx)
            .await
            .map_err(at_statement)?;
            commit(tx).await
        })
        .await
    }

    async fn count_outbox(&self, shard: (i32, i64), count: &OutboxCount) -> Result<bool, StoreError> {
        let rows = rows_to_text(&count.rows)?;
        bounded(async {
            let mut tx = self.begin_tx().await?;
            hold_shard(&mut tx, shard).await?;
            let counted = sqlx::query(
                "INSERT INTO outbox AS o (name, node, shard, relayed, refused, counted, noted_at)
                 VALUES ($1, $2, $3, $4, $5, $6, courier_now())
                 ON CONFLICT (name) DO UPDATE SET relayed = o.relayed + excluded.relayed,
                     refused = o.refused + excluded.refused, counted = excluded.counted
                 WHERE o.counted IS DISTINCT FROM excluded.counted",
            )
            .bind(clean(&count.name))
            .bind(clean(&count.node))
            .bind(shard.0)
            .bind(count.relayed)
            .bind(count.refused)
            .bind(rows)
            .execute(&mut *tx)
            .await
            .map_err(at_statement)?;
            commit(tx).await?;
            Ok(counted.rows_affected() > 0)
        })
        .await
    }

    async fn counted_rows(&self, name: &str) -> Result<Vec<OutboxRowRef>, StoreError> {
        let counted = sqlx::query_scalar("SELECT counted FROM outbox WHERE name = $1").bind(clean(name));
        let found = counted.fetch_optional(&self.pool);
        let found: Option<Option<String>> = bounded(async { found.await.map_err(at_statement) }).await?;
        found.flatten().map_or(Ok(Vec::new()), |rows| rows_from_text(&rows))
    }

    async fn outboxes(&self) -> Result<Vec<OutboxRow>, StoreError> {
        let all = sqlx::query(
            "SELECT name, node, shard, why, pending, oldest_at, cause_code, cause_fields, since, relayed, refused, noted_at
             FROM outbox ORDER BY name",
        )
        .fetch_all(&self.pool);
        let rows = bounded(async { all.await.map_err(at_statement) }).await?;
        rows.iter()
            .map(|row| {
                Ok(OutboxRow {
                    name: row.take("name")?,
                    node: row.take("node")?,
                    shard: row.take("shard")?,
                    why: row.take("why")?,
                    pending: row.take("pending")?,
                    oldest_at: row.time_opt("oldest_at")?,
                    cause: cause_from(row.take("cause_code")?, row.take::<Option<String>>("cause_fields")?.as_deref()),
                    since: row.time_opt("since")?,
                    relayed: row.take("relayed")?,
                    refused: row.take("refused")?,
                    noted_at: row.time("noted_at")?,
                })
            })
            .collect()
    }
}
