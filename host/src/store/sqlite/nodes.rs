//! Leases on the names of nodes, and the writers behind them.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::Timestamp;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::columns::{Columns, expect_rows, now};
use super::error::{commit_fault, fault};
use crate::store::shared::text::clean;
use crate::store::{Holder, Joined, NodeRow, NodeStore, StoreError, WriterId};

#[async_trait]
impl NodeStore for SqliteStore {
    async fn join(&self, node: &str, holder: &Holder, lease: Duration) -> Result<Joined, StoreError> {
        let node = clean(node);
        let mut tx = self.connections.write().await?;
        let now = now();
        let before = sqlx::query("SELECT writer_id, incarnation, pid, lease_until FROM node WHERE name = ?")
            .bind(node.as_ref())
            .fetch_optional(&mut *tx)
            .await
            .map_err(fault)?;
        if let Some(row) = before {
            let mut columns = Columns::of(&row);
            let (writer, incarnation): (Option<i64>, String) = (columns.take()?, columns.take()?);
            let (pid, until): (i64, Timestamp) = (columns.take()?, columns.time()?);
            if writer.is_some() && until > now && incarnation != holder.incarnation {
                let left = until.since(now).as_secs_f64();
                return Err(StoreError::Fenced(format!(
                    "the node name {node:?} is taken: process {pid} holds it for another {left:.1} s unless it leaves"
                )));
            }
            if let Some(writer) = writer {
                free_shards(&mut tx, WriterId(writer)).await?;
            }
        }
        let writer: i64 = sqlx::query_scalar("INSERT INTO writer (node, joined_at) VALUES (?, ?) RETURNING id")
            .bind(node.as_ref())
            .bind(now.0)
            .fetch_one(&mut *tx)
            .await
            .map_err(fault)?;
        sqlx::query(
            "INSERT INTO node (name, writer_id, incarnation, boot, pid, started, joined_at, lease_until)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (name) DO UPDATE SET
                 writer_id = excluded.writer_id, incarnation = excluded.incarnation, boot = excluded.boot,
                 pid = excluded.pid, started = excluded.started, joined_at = excluded.joined_at,
                 lease_until = excluded.lease_until",
        )
        .bind(node.as_ref())
        .bind(writer)
        .bind(&holder.incarnation)
        .bind(&holder.boot)
        .bind(holder.pid)
        .bind(holder.started.cast_signed())
        .bind(now.0)
        .bind(now.after(lease).0)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(Joined { writer: WriterId(writer), now })
    }

    async fn holder(&self, node: &str) -> Result<Option<(Holder, Timestamp)>, StoreError> {
        let row = sqlx::query(
            "SELECT incarnation, boot, pid, started, lease_until FROM node
             WHERE name = ? AND writer_id IS NOT NULL AND lease_until > ?",
        )
        .bind(clean(node))
        .bind(now().0)
        .fetch_optional(&self.connections.readers)
        .await
        .map_err(fault)?;
        row.map(|row| {
            let mut columns = Columns::of(&row);
            let holder = Holder {
                incarnation: columns.take()?,
                boot: columns.take()?,
                pid: columns.number()?,
                started: columns.take::<i64>()?.cast_unsigned(),
            };
            Ok((holder, columns.time()?))
        })
        .transpose()
    }

    async fn evict(&self, node: &str, holder: &Holder) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        // Only the process that the caller found dead loses the name: another one may have
        // taken it since.
        let writer: Option<i64> = sqlx::query_scalar(
            "SELECT writer_id FROM node
             WHERE name = ? AND incarnation = ? AND boot = ? AND pid = ? AND started = ? AND writer_id IS NOT NULL",
        )
        .bind(clean(node))
        .bind(&holder.incarnation)
        .bind(&holder.boot)
        .bind(holder.pid)
        .bind(holder.started.cast_signed())
        .fetch_optional(&mut *tx)
        .await
        .map_err(fault)?;
        let Some(writer) = writer else {
            return Err(StoreError::Conflict(format!("the node name {node:?} is not held by that process any more")));
        };
        end_lease(&mut tx, WriterId(writer)).await?;
        tx.commit().await.map_err(commit_fault)
    }

    async fn renew(&self, writer: WriterId, lease: Duration) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let renewed = sqlx::query("UPDATE node SET lease_until = ? WHERE writer_id = ?")
            .bind(now().after(lease).0)
            .bind(writer.0)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        if renewed.rows_affected() == 0 {
            return Err(StoreError::Fenced("another process took the name of this node".to_owned()));
        }
        tx.commit().await.map_err(commit_fault)
    }

    async fn leave(&self, writer: WriterId) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        // A name that another process took is no error: a process that stops has no use for
        // it.
        end_lease(&mut tx, writer).await?;
        tx.commit().await.map_err(commit_fault)
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT name, joined_at, lease_until, writer_id IS NOT NULL AND lease_until > ?1 AS live
             FROM node ORDER BY live DESC, name",
        )
        .bind(now().0)
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok(NodeRow {
                    name: columns.take()?,
                    joined_at: columns.time()?,
                    lease_until: columns.time()?,
                    live: columns.flag()?,
                })
            })
            .collect()
    }
}

/// Frees the name and the relay shards of `writer`, if it has any.
async fn end_lease(connection: &mut SqliteConnection, writer: WriterId) -> Result<(), StoreError> {
    let ended = sqlx::query("UPDATE node SET writer_id = NULL, lease_until = ? WHERE writer_id = ?")
        .bind(now().0)
        .bind(writer.0)
        .execute(&mut *connection)
        .await
        .map_err(fault)?;
    if ended.rows_affected() > 0 {
        expect_rows("ending a node's lease", 1, ended.rows_affected())?;
    }
    free_shards(connection, writer).await
}

/// Frees the relay shards of `writer`, so that the next relay can take them at once. The
/// epochs stay: the next holder raises them, and what the former one still writes is refused.
async fn free_shards(connection: &mut SqliteConnection, writer: WriterId) -> Result<(), StoreError> {
    sqlx::query("UPDATE relay_shard SET writer_id = NULL, lease_until = 0 WHERE writer_id = ?")
        .bind(writer.0)
        .execute(connection)
        .await
        .map_err(fault)?;
    Ok(())
}
