//! What [`shared::broadcast`](crate::store::shared::broadcast) leaves to SQLite.

use async_trait::async_trait;
use courier_core::message::Offset;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::claim::close_open;
use super::columns::{Columns, json, now};
use super::error::{commit_fault, fault};
use super::positions::record_lost;
use crate::store::broadcast::UNHEARD;
use crate::store::shared::broadcast::ListenerDialect;
use crate::store::{PositionId, StoreError};

#[async_trait]
impl ListenerDialect for SqliteStore {
    const LOCK_POSITION: &'static str = "SELECT id, next FROM (
             SELECT id, next, gone FROM position WHERE group_id = $1 AND topic = $2 AND partition = $3 AND listener = $4
             ORDER BY incarnation DESC LIMIT 1) WHERE NOT gone";

    const INSERT_POSITION: &'static str =
        "INSERT INTO position (group_id, topic, partition, incarnation, listener, topic_id, next, heard_from, epoch)
         VALUES ($1, $2, $3, (SELECT coalesce(max(incarnation) + 1, 0) FROM position
                              WHERE group_id = $1 AND topic = $2 AND partition = $3 AND listener = $4),
                 $4, $5, $6, $6, 0)";

    const UNHEARD: &'static str =
        "SELECT id, topic, created_at FROM message INDEXED BY message_unheard WHERE heard = 0 AND created_at >= $1";

    async fn close_open(
        connection: &mut SqliteConnection,
        group: i64,
        position: PositionId,
        why: &str,
    ) -> Result<(), StoreError> {
        close_open(connection, group, position, why, now().0).await
    }

    async fn record_lost(
        connection: &mut SqliteConnection,
        position: PositionId,
        from: Offset,
        to: Offset,
        why: &str,
    ) -> Result<(), StoreError> {
        record_lost(connection, position, from, to, why, now()).await
    }

    async fn judge(&self, limit: u32) -> Result<Vec<(String, String)>, StoreError> {
        // Mostly there is nothing to examine, and other writers need not wait for that.
        let unjudged = "SELECT seq FROM message INDEXED BY message_unjudged
             WHERE kind = 'broadcast' AND heard IS NULL AND state = 2 AND partition IS NOT NULL ORDER BY seq LIMIT ?";
        let due: Vec<i64> =
            sqlx::query_scalar(unjudged).bind(limit).fetch_all(&self.connections.readers).await.map_err(fault)?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.connections.write().await?;
        // A listener without a position in the partition begins at its first offset, since
        // the partition was added after the listener. What it heard of a former topic of
        // the name does not count.
        let rows = sqlx::query(
            "UPDATE message SET heard = EXISTS (
                 SELECT 1 FROM listener l LEFT JOIN position p
                     ON p.group_id = l.group_id AND p.topic = l.topic AND p.listener = l.node
                         AND p.partition = message.partition AND NOT p.gone
                         AND NOT EXISTS (SELECT 1 FROM position n
                                         WHERE n.group_id = p.group_id AND n.topic = p.topic
                                             AND n.partition = p.partition AND n.listener = p.listener
                                             AND n.incarnation > p.incarnation)
                 WHERE l.topic = message.topic AND coalesce(p.heard_from, 0) <= message.offset
                     AND (l.gone_at IS NULL OR p.next > message.offset))
             WHERE seq IN (SELECT value FROM json_each(?)) AND heard IS NULL AND state = 2
             RETURNING seq, id, topic, heard",
        )
        .bind(json(&due)?)
        .fetch_all(&mut *tx)
        .await
        .map_err(fault)?;
        let mut unheard = Vec::new();
        for row in &rows {
            let mut columns = Columns::of(row);
            let (seq, id, topic): (i64, String, String) = (columns.take()?, columns.take()?, columns.take()?);
            if !columns.flag()? {
                sqlx::query("UPDATE message SET reason = ? WHERE seq = ?")
                    .bind(UNHEARD)
                    .bind(seq)
                    .execute(&mut *tx)
                    .await
                    .map_err(fault)?;
                unheard.push((id, topic));
            }
        }
        tx.commit().await.map_err(commit_fault)?;
        Ok(unheard)
    }
}
