//! Outboxes of senders.

use async_trait::async_trait;
use courier_core::status::State;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::accept::accept_in;
use super::columns::{Columns, json, now};
use super::error::{commit_fault, fault};
use super::identities::identity_columns;
use crate::store::outbox::{
    OutboxCount, OutboxNote, OutboxRow, OutboxRowRef, Outboxes, cause_from, fields_to_text, rows_from_text,
    rows_to_text,
};
use crate::store::shared::text::{clean, clean_opt};
use crate::store::{Accepted, Identity, NewMessage, StoreError};

async fn hold_shard(tx: &mut SqliteConnection, (shard, epoch): (i32, i64)) -> Result<(), StoreError> {
    let held = sqlx::query("SELECT 1 FROM relay_shard WHERE shard = ? AND epoch = ?")
        .bind(shard)
        .bind(epoch)
        .fetch_optional(tx)
        .await
        .map_err(fault)?;
    match held {
        Some(_) => Ok(()),
        None => Err(StoreError::Fenced(format!("relay shard {shard} has another holder"))),
    }
}

#[async_trait]
impl Outboxes for SqliteStore {
    async fn take_outbox(&self, shard: (i32, i64), messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
        let mut tx = self.connections.write().await?;
        hold_shard(&mut tx, shard).await?;
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

    async fn note_outbox(&self, shard: (i32, i64), note: &OutboxNote) -> Result<(), StoreError> {
        let fields = fields_to_text(note.cause.as_ref())?;
        let at = now().0;
        let mut tx = self.connections.write().await?;
        hold_shard(&mut tx, shard).await?;
        sqlx::query(
            "INSERT INTO outbox (name, node, shard, why, pending, oldest_at, cause_code, cause_fields, since, noted_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (name) DO UPDATE SET node = excluded.node, shard = excluded.shard, why = excluded.why,
                 pending = excluded.pending, oldest_at = excluded.oldest_at, cause_code = excluded.cause_code,
                 cause_fields = excluded.cause_fields,
                 since = CASE WHEN cause_code = excluded.cause_code THEN coalesce(since, excluded.since)
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
        .bind(note.cause.as_ref().map(|_| at))
        .bind(at)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        tx.commit().await.map_err(commit_fault)
    }

    async fn count_outbox(&self, shard: (i32, i64), count: &OutboxCount) -> Result<bool, StoreError> {
        let rows = rows_to_text(&count.rows)?;
        let mut tx = self.connections.write().await?;
        hold_shard(&mut tx, shard).await?;
        let counted = sqlx::query(
            "INSERT INTO outbox (name, node, shard, relayed, refused, counted, noted_at) VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (name) DO UPDATE SET relayed = relayed + excluded.relayed,
                 refused = refused + excluded.refused, counted = excluded.counted
             WHERE counted IS NOT excluded.counted",
        )
        .bind(clean(&count.name))
        .bind(clean(&count.node))
        .bind(shard.0)
        .bind(count.relayed)
        .bind(count.refused)
        .bind(rows)
        .bind(now().0)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(counted.rows_affected() > 0)
    }

    async fn counted_rows(&self, name: &str) -> Result<Vec<OutboxRowRef>, StoreError> {
        let found: Option<Option<String>> = sqlx::query_scalar("SELECT counted FROM outbox WHERE name = ?")
            .bind(clean(name))
            .fetch_optional(&self.connections.readers)
            .await
            .map_err(fault)?;
        found.flatten().map_or(Ok(Vec::new()), |rows| rows_from_text(&rows))
    }

    async fn outboxes(&self) -> Result<Vec<OutboxRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT name, node, shard, why, pending, oldest_at, cause_code, cause_fields, since, relayed, refused, noted_at
             FROM outbox ORDER BY name",
        )
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok(OutboxRow {
                    name: columns.take()?,
                    node: columns.take()?,
                    shard: columns.number()?,
                    why: columns.take()?,
                    pending: columns.take()?,
                    oldest_at: columns.time_option()?,
                    cause: cause_from(columns.take()?, columns.take::<Option<String>>()?.as_deref()),
                    since: columns.time_option()?,
                    relayed: columns.take()?,
                    refused: columns.take()?,
                    noted_at: columns.time()?,
                })
            })
            .collect()
    }
}
