//! Recording what became of outbound rows.

use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::columns::{json, now};
use super::error::{commit_fault, fault};
use super::shards::held_shards;
use crate::store::shared::text::clean;
use crate::store::{RelayResult, Relayed, StoreError};

impl SqliteStore {
    pub(super) async fn settle_relayed(&self, shards: &[(i32, i64)], results: &[Relayed]) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let held = held_shards(&mut tx, shards).await?;
        let (mut taken, mut undelivered, mut later) = (Vec::new(), Vec::new(), Vec::new());
        let now = now();
        for result in results.iter().filter(|result| held.contains(&result.shard)) {
            match &result.result {
                RelayResult::Taken { partition, offset } => taken.push((result.id, *partition, *offset)),
                RelayResult::Undelivered { code, reason } => undelivered.push((result.id, clean(reason), *code)),
                RelayResult::Later { reason, wait, unknown_from } => {
                    let from = unknown_from.map(|from| from.0);
                    later.push((result.id, now.after(*wait), clean(reason), from));
                }
            }
        }
        settle_taken(&mut tx, &taken).await?;
        settle_undelivered(&mut tx, &undelivered).await?;
        settle_later(&mut tx, &later).await?;
        tx.commit().await.map_err(commit_fault)
    }
}

/// Writes the message rows of outbound rows that changed. The one parameter is a JSON list of
/// [id of the outbound row, partition, offset, reason]. A message that a handler published gets
/// its row here. A message that has a place already keeps it: it was sent twice, and people have
/// seen the first place.
macro_rules! message_rows {
    ($state:literal, $retrying:literal, $record:literal) => {
        concat!(
            "INSERT INTO message (id, key, source, topic, type_name, kind, time, created_at, state, reason, retrying,
                 partition, offset, shard, record)
             SELECT o.message_id, o.key, o.source, coalesce(o.published_on, o.topic), o.type_name, 'event', o.created_at, o.created_at, ",
            $state,
            ", c.value ->> 3, ",
            $retrying,
            ", c.value ->> 1, c.value ->> 2, o.shard, ",
            $record,
            " FROM json_each(?) c JOIN outbound o ON o.id = c.value ->> 0 WHERE o.listed = 1
             ON CONFLICT (id, source, topic) DO UPDATE SET
                 state = excluded.state, reason = excluded.reason, retrying = excluded.retrying,
                 partition = excluded.partition, offset = excluded.offset, shard = excluded.shard,
                 record = excluded.record
             WHERE message.partition IS NULL"
        )
    };
}

async fn settle_taken(tx: &mut SqliteConnection, taken: &[(i64, i32, Offset)]) -> Result<(), StoreError> {
    if taken.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = taken.iter().map(|(id, partition, offset)| (id, partition, offset.0, None::<&str>)).collect();
    let rows = json(&rows)?;
    debug_assert_eq!(State::Committed.code(), 2);
    sqlx::query(message_rows!("2", "0", "NULL")).bind(&rows).execute(&mut *tx).await.map_err(fault)?;
    remove(tx, &rows).await
}

async fn settle_undelivered(
    tx: &mut SqliteConnection,
    undelivered: &[(i64, std::borrow::Cow<'_, str>, &'static str)],
) -> Result<(), StoreError> {
    if undelivered.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> =
        undelivered.iter().map(|(id, reason, code)| (id, None::<i32>, None::<i64>, reason, code)).collect();
    let rows = json(&rows)?;
    debug_assert_eq!(State::SendFail.code(), 1);
    sqlx::query(
        "INSERT INTO undelivered (shard, message_id, topic, type_name, source, key, record, listed, group_name,
             published_on, code, reason, tries, created_at, kept_at)
         SELECT o.shard, o.message_id, o.topic, o.type_name, o.source, o.key, o.record, o.listed, o.group_name,
             o.published_on, c.value ->> 4, c.value ->> 3, o.tries + 1, o.created_at, ?
         FROM json_each(?) c JOIN outbound o ON o.id = c.value ->> 0 ORDER BY o.id",
    )
    .bind(now().0)
    .bind(&rows)
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    // The message keeps the record too, so that a person can send either of the two again.
    sqlx::query(message_rows!("1", "0", "o.record")).bind(&rows).execute(&mut *tx).await.map_err(fault)?;
    remove(tx, &rows).await
}

async fn settle_later(
    tx: &mut SqliteConnection,
    later: &[(i64, Timestamp, std::borrow::Cow<'_, str>, Option<i64>)],
) -> Result<(), StoreError> {
    if later.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = later.iter().map(|(id, _, reason, _)| (id, None::<i32>, None::<i64>, reason)).collect();
    sqlx::query(message_rows!("1", "1", "NULL")).bind(json(&rows)?).execute(&mut *tx).await.map_err(fault)?;
    let rows: Vec<_> = later.iter().map(|(id, until, _, from)| (id, until.0, from)).collect();
    // A row that is gone was sent directly after all, and needs no other try.
    sqlx::query(
        "UPDATE outbound SET tries = tries + 1, held_until = l.value ->> 1, unknown_from = l.value ->> 2
         FROM json_each(?) l WHERE outbound.id = l.value ->> 0",
    )
    .bind(json(&rows)?)
    .execute(tx)
    .await
    .map_err(fault)?;
    Ok(())
}

/// Deletes outbound rows. A row that is gone already was sent directly at the same time, because
/// its hold ran out. Its message is then twice in Kafka with the same id, as after a crash.
async fn remove(tx: &mut SqliteConnection, rows: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM outbound WHERE id IN (SELECT value ->> 0 FROM json_each(?))")
        .bind(rows)
        .execute(tx)
        .await
        .map_err(fault)?;
    Ok(())
}
