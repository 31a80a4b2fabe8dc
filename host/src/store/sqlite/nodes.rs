//! What [`shared::nodes`](crate::store::shared::nodes) leaves to SQLite.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::Timestamp;

use super::SqliteStore;
use super::columns::{Columns, now};
use super::error::{commit_fault, fault};
use crate::store::shared::nodes::{NodeDialect, free_shards};
use crate::store::shared::text::clean;
use crate::store::{Holder, Joined, StoreError, WriterId};

#[async_trait]
impl NodeDialect for SqliteStore {
    async fn take_name(&self, node: &str, holder: &Holder, lease: Duration) -> Result<Joined, StoreError> {
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
                free_shards(&mut *tx, WriterId(writer)).await?;
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

    async fn extend_lease(&self, writer: WriterId, lease: Duration) -> Result<bool, StoreError> {
        let mut tx = self.connections.write().await?;
        let renewed = sqlx::query("UPDATE node SET lease_until = ? WHERE writer_id = ?")
            .bind(now().after(lease).0)
            .bind(writer.0)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(renewed.rows_affected() > 0)
    }
}
