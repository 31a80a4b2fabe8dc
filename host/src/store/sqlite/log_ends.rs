//! The ends of logs when a host last read them.

use courier_core::message::{Kind, Offset};
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::columns::now;
use super::error::{commit_fault, fault};
use crate::store::shared::text::clean;
use crate::store::{PositionId, SeenLogEnd, StoreError};

impl SqliteStore {
    pub(super) async fn write_log_ends(&self, ends: &[SeenLogEnd]) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        for seen in ends {
            sqlx::query(
                "INSERT INTO log_end (topic, partition, topic_id, log_end, seen_at) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (topic, partition, topic_id) DO UPDATE
                     SET log_end = excluded.log_end, seen_at = excluded.seen_at
                     WHERE excluded.log_end > log_end.log_end",
            )
            .bind(clean(&seen.log_topic))
            .bind(seen.partition)
            .bind(clean(&seen.topic_id))
            .bind(seen.end.0)
            .bind(now().0)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        }
        tx.commit().await.map_err(commit_fault)
    }
}

/// Reads the end of the log of a position when a host last read it. The stored end of a log
/// that lost its end is lowered to `shortened_to`, from where the log grows again.
pub(super) async fn seen_log_end(
    tx: &mut SqliteConnection,
    position: PositionId,
    shortened_to: Option<Offset>,
) -> Result<Option<Offset>, StoreError> {
    let of_position: Option<(String, i32, String, i64)> =
        sqlx::query_as("SELECT topic, partition, topic_id, listener <> '' FROM position WHERE id = ?")
            .bind(position.0)
            .fetch_optional(&mut *tx)
            .await
            .map_err(fault)?;
    let Some((topic, partition, topic_id, hears)) = of_position else { return Ok(None) };
    let kind = if hears != 0 { Kind::Broadcast } else { Kind::Event };
    let log_topic = kind.log_topic(&topic);
    let end: Option<i64> =
        sqlx::query_scalar("SELECT log_end FROM log_end WHERE topic = ? AND partition = ? AND topic_id = ?")
            .bind(log_topic.as_ref())
            .bind(partition)
            .bind(&topic_id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(fault)?;
    if let Some(shortened_to) = shortened_to {
        sqlx::query("UPDATE log_end SET log_end = min(log_end, ?) WHERE topic = ? AND partition = ? AND topic_id = ?")
            .bind(shortened_to.0)
            .bind(log_topic.as_ref())
            .bind(partition)
            .bind(&topic_id)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
    }
    Ok(end.map(Offset))
}
