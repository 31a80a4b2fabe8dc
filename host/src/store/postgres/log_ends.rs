//! The ends of logs when a host last read them.

use courier_core::message::{Kind, Offset};
use sqlx::PgConnection;

use super::PostgresStore;
use super::columns::PgRowExt;
use super::error::at_statement;
use crate::store::shared::text::clean;
use crate::store::{SeenLogEnd, StoreError};

pub(super) async fn keep(store: &PostgresStore, ends: &[SeenLogEnd]) -> Result<(), StoreError> {
    // In the order of the key: two hosts that lock rows in different orders
    // would wait for each other.
    let mut ends: Vec<&SeenLogEnd> = ends.iter().collect();
    ends.sort_unstable();
    let topics: Vec<String> = ends.iter().map(|seen| clean(&seen.log_topic).into_owned()).collect();
    let partitions: Vec<i32> = ends.iter().map(|seen| seen.partition).collect();
    let ids: Vec<String> = ends.iter().map(|seen| clean(&seen.topic_id).into_owned()).collect();
    let offsets: Vec<i64> = ends.iter().map(|seen| seen.end.0).collect();
    sqlx::query(
        "INSERT INTO log_end (topic, partition, topic_id, log_end, seen_at)
         SELECT topic, partition, topic_id, log_end, courier_now()
         FROM unnest($1::text[], $2::integer[], $3::text[], $4::bigint[]) AS seen (topic, partition, topic_id, log_end)
         ON CONFLICT (topic, partition, topic_id) DO UPDATE
             SET log_end = excluded.log_end, seen_at = excluded.seen_at WHERE excluded.log_end > log_end.log_end",
    )
    .bind(&topics)
    .bind(&partitions)
    .bind(&ids)
    .bind(&offsets)
    .execute(&store.pool)
    .await
    .map_err(at_statement)?;
    Ok(())
}

/// Reads the end of the log of a position when a host last read it. The stored end of a log
/// that lost its end is lowered to `shortened_to`, from where the log grows again.
pub(super) async fn seen_log_end(
    tx: &mut PgConnection,
    position: i64,
    shortened_to: Option<Offset>,
) -> Result<Option<Offset>, StoreError> {
    let row = sqlx::query("SELECT topic, partition, topic_id, listener <> '' AS hears FROM position WHERE id = $1")
        .bind(position)
        .fetch_one(&mut *tx)
        .await
        .map_err(at_statement)?;
    let kind = if row.take("hears")? { Kind::Broadcast } else { Kind::Event };
    let topic: String = row.take("topic")?;
    let (log_topic, partition, topic_id) =
        (kind.log_topic(&topic), row.take::<i32>("partition")?, row.take::<String>("topic_id")?);
    let seen = sqlx::query("SELECT log_end FROM log_end WHERE topic = $1 AND partition = $2 AND topic_id = $3")
        .bind(log_topic.as_ref())
        .bind(partition)
        .bind(&topic_id)
        .fetch_optional(&mut *tx)
        .await
        .map_err(at_statement)?;
    if let Some(shortened_to) = shortened_to {
        sqlx::query(
            "UPDATE log_end SET log_end = least(log_end, $4) WHERE topic = $1 AND partition = $2 AND topic_id = $3",
        )
        .bind(log_topic.as_ref())
        .bind(partition)
        .bind(&topic_id)
        .bind(shortened_to.0)
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
    }
    seen.map(|row| row.offset("log_end")).transpose()
}
