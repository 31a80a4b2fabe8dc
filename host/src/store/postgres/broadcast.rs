//! What [`shared::broadcast`](crate::store::shared::broadcast) leaves to PostgreSQL.

use async_trait::async_trait;
use courier_core::message::Offset;
use sqlx::PgConnection;

use super::PostgresStore;
use super::claim::close_open;
use super::columns::{PgRowExt, group_id};
use super::error::at_statement;
use super::positions::insert_lost;
use crate::store::broadcast::UNHEARD;
use crate::store::shared::broadcast::ListenerDialect;
use crate::store::{PositionId, StoreError};

#[async_trait]
impl ListenerDialect for PostgresStore {
    const LOCK_POSITION: &'static str = "SELECT id, next FROM position
         WHERE group_id = $1 AND topic = $2 AND partition = $3 AND listener = $4 AND current FOR UPDATE";

    const INSERT_POSITION: &'static str =
        "INSERT INTO position (group_id, topic, partition, incarnation, listener, topic_id, next, heard_from, epoch,
             current)
         VALUES ($1, $2, $3, (SELECT coalesce(max(incarnation) + 1, 0) FROM position
                              WHERE group_id = $1 AND topic = $2 AND partition = $3 AND listener = $4),
                 $4, $5, $6, $6, 0, true)";

    const UNHEARD: &'static str = "SELECT id, topic, created_at FROM message WHERE heard = false AND created_at >= $1";

    async fn close_open(
        connection: &mut PgConnection,
        group: i64,
        position: PositionId,
        why: &str,
    ) -> Result<(), StoreError> {
        close_open(connection, group_id(group)?, position.0, None, why).await.map(drop)
    }

    async fn record_lost(
        connection: &mut PgConnection,
        position: PositionId,
        from: Offset,
        to: Offset,
        why: &str,
    ) -> Result<(), StoreError> {
        insert_lost(connection, position.0, from.0, to.0, why).await
    }

    async fn judge(&self, limit: u32) -> Result<Vec<(String, String)>, StoreError> {
        // A listener without a position in the partition begins at its first offset, since the
        // partition was added after the listener.
        let rows = sqlx::query(
            "WITH due AS (
                 SELECT id, source, topic, partition, kafka_offset FROM message
                 WHERE kind = 'broadcast' AND heard IS NULL AND state = 2 AND partition IS NOT NULL
                 ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED
             ), judged AS (
                 SELECT d.id, d.source, d.topic, EXISTS (
                     SELECT FROM listener l LEFT JOIN position p
                         ON p.group_id = l.group_id AND p.topic = l.topic AND p.listener = l.node
                             AND p.partition = d.partition AND p.current
                     WHERE l.topic = d.topic AND coalesce(p.heard_from, 0) <= d.kafka_offset
                         AND (l.gone_at IS NULL OR p.next > d.kafka_offset)) AS heard
                 FROM due d
             )
             UPDATE message m SET heard = j.heard, reason = CASE WHEN j.heard THEN m.reason ELSE $2 END
             FROM judged j WHERE m.id = j.id AND m.source = j.source AND m.topic = j.topic RETURNING m.id, m.topic, j.heard",
        )
        .bind(i64::from(limit))
        .bind(UNHEARD)
        .fetch_all(&self.pool)
        .await
        .map_err(at_statement)?;
        let mut unheard = Vec::new();
        for row in &rows {
            if !row.take::<bool>("heard")? {
                unheard.push((row.take("id")?, row.take("topic")?));
            }
        }
        Ok(unheard)
    }
}
