//! What [`shared::nodes`](crate::store::shared::nodes) leaves to PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, commit, micros, prompt};
use crate::store::shared::nodes::NodeDialect;
use crate::store::shared::text::clean;
use crate::store::{Holder, Joined, StoreError, WriterId};

#[async_trait]
impl NodeDialect for PostgresStore {
    async fn take_name(&self, node: &str, holder: &Holder, lease: Duration) -> Result<Joined, StoreError> {
        let node_id = self.words.id(&self.pool, node).await?;
        let mut tx = self.begin_tx().await?;
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

    async fn extend_lease(&self, writer: WriterId, lease: Duration) -> Result<bool, StoreError> {
        prompt(async {
            let renewed = sqlx::query("UPDATE node SET lease_until = courier_now() + $2 WHERE writer_id = $1")
                .bind(writer.0)
                .bind(micros(lease))
                .execute(&self.pool)
                .await
                .map_err(at_statement)?;
            Ok(renewed.rows_affected() == 1)
        })
        .await
    }
}
