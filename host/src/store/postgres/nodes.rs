//! Leases on the names of nodes, and the writers behind them.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::Timestamp;
use sqlx::postgres::{PgConnection, PgRow};

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, bounded, commit, micros, prompt};
use crate::store::shared::text::clean;
use crate::store::{Holder, Joined, NodeRow, NodeStore, StoreError, WriterId};

#[async_trait]
impl NodeStore for PostgresStore {
    async fn join(&self, node: &str, holder: &Holder, lease: Duration) -> Result<Joined, StoreError> {
        bounded(join(self, node, holder, lease)).await
    }

    async fn holder(&self, node: &str) -> Result<Option<(Holder, Timestamp)>, StoreError> {
        bounded(holder(self, node)).await
    }

    async fn evict(&self, node: &str, holder: &Holder) -> Result<(), StoreError> {
        bounded(evict(self, node, holder)).await
    }

    async fn renew(&self, writer: WriterId, lease: Duration) -> Result<(), StoreError> {
        prompt(renew(self, writer, lease)).await
    }

    async fn leave(&self, writer: WriterId) -> Result<(), StoreError> {
        bounded(leave(self, writer)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        bounded(nodes(self)).await
    }
}

async fn join(store: &PostgresStore, node: &str, holder: &Holder, lease: Duration) -> Result<Joined, StoreError> {
    let node_id = store.words.id(&store.pool, node).await?;
    let mut tx = store.begin_tx().await?;
    let writer: i64 =
        sqlx::query("INSERT INTO writer (node, node_id, created_at) VALUES ($1, $2, courier_now()) RETURNING id")
            .bind(clean(node))
            .bind(node_id)
            .fetch_one(&mut *tx)
            .await
            .map_err(at_statement)?
            .take(0)?;
    // One statement takes the name or finds it taken: of two processes that start at once,
    // the second waits here for the first and then finds its lease.
    let taken = sqlx::query(
        "INSERT INTO node AS n (name, writer_id, incarnation, boot, pid, started, joined_at, lease_until)
         SELECT $1, $2, $3, $4, $5, $6, now.at, now.at + $7 FROM (SELECT courier_now() AS at) AS now
         ON CONFLICT (name) DO UPDATE SET
             writer_id = excluded.writer_id, incarnation = excluded.incarnation, boot = excluded.boot,
             pid = excluded.pid, started = excluded.started, joined_at = excluded.joined_at,
             lease_until = excluded.lease_until
         WHERE n.lease_until <= courier_now() OR n.incarnation = excluded.incarnation
         RETURNING joined_at",
    )
    .bind(clean(node))
    .bind(writer)
    .bind(clean(&holder.incarnation))
    .bind(clean(&holder.boot))
    .bind(i64::from(holder.pid))
    .bind(holder.started.cast_signed())
    .bind(micros(lease))
    .fetch_optional(&mut *tx)
    .await
    .map_err(at_statement)?;
    let Some(row) = taken else {
        let until: Option<i64> = sqlx::query("SELECT lease_until - courier_now() FROM node WHERE name = $1")
            .bind(clean(node))
            .fetch_optional(&mut *tx)
            .await
            .map_err(at_statement)?
            .map(|row| row.take(0))
            .transpose()?;
        let seconds = until.unwrap_or(0).max(0) / 1_000_000 + 1;
        return Err(StoreError::Fenced(format!(
            "another process runs as node {node:?}; its lease ends in {seconds} s unless it is renewed"
        )));
    };
    let now = row.time("joined_at")?;
    // The shards that the name's former process leased are free for the next relay at
    // once.
    sqlx::query(
        "UPDATE relay_shard SET writer_id = NULL, lease_until = 0
         WHERE writer_id IN (SELECT id FROM writer WHERE node = $1 AND id <> $2)",
    )
    .bind(clean(node))
    .bind(writer)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    commit(tx).await?;
    Ok(Joined { writer: WriterId(writer), now })
}

async fn holder(store: &PostgresStore, node: &str) -> Result<Option<(Holder, Timestamp)>, StoreError> {
    let row = sqlx::query(
        "SELECT incarnation, boot, pid, started, lease_until FROM node WHERE name = $1 AND lease_until > courier_now()",
    )
    .bind(clean(node))
    .fetch_optional(&store.pool)
    .await
    .map_err(at_statement)?;
    row.map(|row| Ok((holder_of(&row)?, row.time("lease_until")?))).transpose()
}

fn holder_of(row: &PgRow) -> Result<Holder, StoreError> {
    Ok(Holder {
        incarnation: row.take("incarnation")?,
        boot: row.take("boot")?,
        pid: u32::try_from(row.take::<i64>("pid")?).unwrap_or(0),
        started: row.take::<i64>("started")?.cast_unsigned(),
    })
}

async fn evict(store: &PostgresStore, node: &str, holder: &Holder) -> Result<(), StoreError> {
    let mut tx = store.begin_tx().await?;
    // Only the process that the caller found dead loses the name: another one may have
    // taken it since.
    let writer: Option<i64> = sqlx::query(
        "SELECT writer_id FROM node WHERE name = $1 AND incarnation = $2 AND writer_id IS NOT NULL FOR UPDATE",
    )
    .bind(clean(node))
    .bind(clean(&holder.incarnation))
    .fetch_optional(&mut *tx)
    .await
    .map_err(at_statement)?
    .map(|row| row.take(0))
    .transpose()?;
    let Some(writer) = writer else {
        return Err(StoreError::Conflict(format!("the name of node {node:?} is not held by that process any more")));
    };
    end_lease(&mut tx, WriterId(writer)).await?;
    commit(tx).await
}

/// Extends a lease. One that ran out and that no process took is extended too: its process
/// was slow, and still has the name.
async fn renew(store: &PostgresStore, writer: WriterId, lease: Duration) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE node SET lease_until = courier_now() + $2 WHERE writer_id = $1")
        .bind(writer.0)
        .bind(micros(lease))
        .execute(&store.pool)
        .await
        .map_err(at_statement)?;
    if done.rows_affected() == 1 {
        return Ok(());
    }
    Err(StoreError::Fenced(format!("writer {} no longer holds the lease on its node's name", writer.0)))
}

async fn leave(store: &PostgresStore, writer: WriterId) -> Result<(), StoreError> {
    let mut tx = store.begin_tx().await?;
    end_lease(&mut tx, writer).await?;
    commit(tx).await
}

/// Frees the name and the relay shards of a process that stops or is dead. The epochs of
/// the shards stay: the next holder raises them, and what the former one still writes is
/// refused.
async fn end_lease(tx: &mut PgConnection, writer: WriterId) -> Result<(), StoreError> {
    for free in [
        "UPDATE node SET lease_until = least(lease_until, courier_now()), writer_id = NULL WHERE writer_id = $1",
        "UPDATE relay_shard SET writer_id = NULL, lease_until = 0 WHERE writer_id = $1",
    ] {
        sqlx::query(free).bind(writer.0).execute(&mut *tx).await.map_err(at_statement)?;
    }
    Ok(())
}

async fn nodes(store: &PostgresStore) -> Result<Vec<NodeRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT name, joined_at, lease_until, lease_until > courier_now() AS live FROM node ORDER BY live DESC, name",
    )
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let row = |row: &PgRow| {
        Ok(NodeRow {
            name: row.take("name")?,
            joined_at: row.time("joined_at")?,
            lease_until: row.time("lease_until")?,
            live: row.take("live")?,
        })
    };
    rows.iter().map(row).collect()
}
