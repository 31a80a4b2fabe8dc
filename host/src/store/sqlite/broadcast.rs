//! Listeners and their positions.

use async_trait::async_trait;
use courier_core::message::{Offset, Timestamp};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::claim::close_open;
use super::columns::{Columns, json, now, optional_json};
use super::error::{commit_fault, fault};
use super::groups::group_number;
use super::positions::record_lost;
use crate::store::broadcast::{AWAY_TOO_LONG, NOT_BOUND, SEEN_EVERY, SEEN_PARTS, UNHEARD};
use crate::store::shared::text::clean;
use crate::store::{
    DeliveryKey, Extent, Listen, ListenerRow, ListenerStore, Listening, PositionId, StoreError, UnheardRow,
};

#[async_trait]
impl ListenerStore for SqliteStore {
    async fn listen(&self, wish: &Listen) -> Result<Listening, StoreError> {
        let mut tx = self.connections.write().await?;
        let now = now();
        let group = group_number(&mut tx, &wish.group).await?;
        let gone = is_gone(&mut tx, group, wish, now).await?;
        if gone == Some(true) {
            // It may be away for too long without any host having ended it yet.
            end_listener(&mut tx, group, &wish.topic, &wish.node, AWAY_TOO_LONG, now).await?;
        }
        sqlx::query(
            "INSERT INTO listener (group_id, topic, node, registered_at, seen_at, forget) VALUES (?1, ?2, ?3, ?4, ?4, ?5)
             ON CONFLICT (group_id, topic, node) DO UPDATE SET
                 seen_at = excluded.seen_at, forget = excluded.forget, gone_at = NULL, gone_why = NULL",
        )
        .bind(group)
        .bind(clean(&wish.topic))
        .bind(clean(&wish.node))
        .bind(now.0)
        .bind(i64::try_from(wish.forget.as_micros()).unwrap_or(i64::MAX))
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        let mut listening = Listening { begun: gone != Some(false), missed: Vec::new() };
        for extent in &wish.partitions {
            if let Some(missed) = take_place(&mut tx, group, wish, gone, extent, now).await? {
                listening.missed.push(missed);
            }
        }
        tx.commit().await.map_err(commit_fault)?;
        Ok(listening)
    }

    async fn still_listening(&self, group: &str, node: &str) -> Result<Vec<String>, StoreError> {
        let mut tx = self.connections.write().await?;
        let group = group_number(&mut tx, group).await?;
        let now = now().0;
        let sql = "UPDATE listener SET seen_at = ?1 WHERE group_id = ?2 AND node = ?3 AND gone_at IS NULL \
                   AND seen_at <= ?1 - min(forget / ?4, ?5)";
        sqlx::query(sql)
            .bind(now)
            .bind(group)
            .bind(clean(node))
            .bind(SEEN_PARTS)
            .bind(i64::try_from(SEEN_EVERY.as_micros()).unwrap_or(i64::MAX))
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        let gone =
            sqlx::query_scalar("SELECT topic FROM listener WHERE group_id = ? AND node = ? AND gone_at IS NOT NULL")
                .bind(group)
                .bind(clean(node))
                .fetch_all(&mut *tx)
                .await
                .map_err(fault)?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(gone)
    }

    async fn listen_only(&self, node: &str, keep: &[(String, String)]) -> Result<Vec<ListenerRow>, StoreError> {
        let node = clean(node);
        let kept = |row: &ListenerRow| keep.iter().any(|(group, topic)| row.group == *group && row.topic == *topic);
        self.end_listeners(NOT_BOUND, |found, _| found.row.node == node && !kept(&found.row)).await
    }

    async fn forget_listeners(&self) -> Result<Vec<ListenerRow>, StoreError> {
        self.end_listeners(AWAY_TOO_LONG, |found, now| found.forget_at <= now).await
    }

    async fn listeners(&self) -> Result<Vec<ListenerRow>, StoreError> {
        let mut reader = self.connections.readers.acquire().await.map_err(fault)?;
        Ok(all(&mut reader, now()).await?.into_iter().map(|found| found.row).collect())
    }

    async fn judge_broadcasts(&self, limit: u32) -> Result<Vec<(String, String)>, StoreError> {
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
        // the partition was added after the listener.
        let rows = sqlx::query(
            "UPDATE message SET heard = EXISTS (
                 SELECT 1 FROM listener l LEFT JOIN position p
                     ON p.group_id = l.group_id AND p.topic = l.topic AND p.listener = l.node
                         AND p.partition = message.partition
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

    async fn unheard(
        &self,
        since: Timestamp,
        topics: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<UnheardRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, topic, created_at FROM message INDEXED BY message_unheard
             WHERE heard = 0 AND created_at >= ?1 AND (?3 IS NULL OR topic IN (SELECT value FROM json_each(?3)))
             ORDER BY created_at DESC LIMIT ?2",
        )
        .bind(since.0)
        .bind(limit)
        .bind(optional_json(topics)?)
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok(UnheardRow { id: columns.take()?, topic: columns.take()?, created_at: columns.time()? })
            })
            .collect()
    }
}

/// A listener, and the time from which its node is away for too long.
struct ListenerExpiry {
    row: ListenerRow,
    group: i64,
    forget_at: Timestamp,
}

async fn all(connection: &mut SqliteConnection, now: Timestamp) -> Result<Vec<ListenerExpiry>, StoreError> {
    let rows = sqlx::query(
        "SELECT l.group_id, l.seen_at + l.forget, g.name, l.topic, l.node, EXISTS (SELECT 1 FROM node n
                 WHERE n.name = l.node AND n.writer_id IS NOT NULL AND n.lease_until > ?),
             l.registered_at, l.seen_at, l.gone_at, l.gone_why
         FROM listener l JOIN consumer_group g ON g.id = l.group_id ORDER BY g.name, l.topic, l.node",
    )
    .bind(now.0)
    .fetch_all(connection)
    .await
    .map_err(fault)?;
    rows.iter().map(found).collect()
}

fn found(row: &SqliteRow) -> Result<ListenerExpiry, StoreError> {
    let mut columns = Columns::of(row);
    let (group, forget_at) = (columns.take()?, columns.time()?);
    let row = ListenerRow {
        group: columns.take()?,
        topic: columns.take()?,
        node: columns.take()?,
        live: columns.flag()?,
        registered_at: columns.time()?,
        seen_at: columns.time()?,
        gone: {
            let (at, why): (_, Option<String>) = (columns.time_option()?, columns.take()?);
            at.map(|at| (at, why.unwrap_or_default()))
        },
    };
    Ok(ListenerExpiry { row, group, forget_at })
}

impl SqliteStore {
    /// Ends the listeners that `ends` selects among those that have not ended.
    async fn end_listeners(
        &self,
        why: &str,
        ends: impl Fn(&ListenerExpiry, Timestamp) -> bool + Send,
    ) -> Result<Vec<ListenerRow>, StoreError> {
        let now = now();
        let ends = |found: &ListenerExpiry| found.row.gone.is_none() && ends(found, now);
        // Checked by a reader first: mostly nothing ends, and other writers need not wait.
        let mut reader = self.connections.readers.acquire().await.map_err(fault)?;
        if !all(&mut reader, now).await?.iter().any(ends) {
            return Ok(Vec::new());
        }
        drop(reader);
        let mut tx = self.connections.write().await?;
        let mut ended = Vec::new();
        for mut found in all(&mut tx, now).await?.into_iter().filter(ends) {
            end_listener(&mut tx, found.group, &found.row.topic, &found.row.node, why, now).await?;
            found.row.gone = Some((now, why.to_owned()));
            ended.push(found.row);
        }
        tx.commit().await.map_err(commit_fault)?;
        Ok(ended)
    }
}

/// Reads whether a listener has ended; `None` when it is unknown.
async fn is_gone(
    tx: &mut SqliteConnection,
    group: i64,
    wish: &Listen,
    now: Timestamp,
) -> Result<Option<bool>, StoreError> {
    let gone: Option<i64> = sqlx::query_scalar(
        "SELECT gone_at IS NOT NULL OR seen_at + forget <= ? FROM listener WHERE group_id = ? AND topic = ? AND node = ?",
    )
    .bind(now.0)
    .bind(group)
    .bind(clean(&wish.topic))
    .bind(clean(&wish.node))
    .fetch_optional(tx)
    .await
    .map_err(fault)?;
    Ok(gone.map(|gone| gone != 0))
}

/// Gives a listener its position in a partition, and returns the range that it missed.
async fn take_place(
    tx: &mut SqliteConnection,
    group: i64,
    wish: &Listen,
    gone: Option<bool>,
    extent: &Extent,
    now: Timestamp,
) -> Result<Option<(i32, Offset, Offset)>, StoreError> {
    let old = sqlx::query(
        "SELECT id, next FROM (
             SELECT id, next, gone FROM position WHERE group_id = ? AND topic = ? AND partition = ? AND listener = ?
             ORDER BY incarnation DESC LIMIT 1) WHERE NOT gone",
    )
    .bind(group)
    .bind(clean(&wish.topic))
    .bind(extent.partition)
    .bind(clean(&wish.node))
    .fetch_optional(&mut *tx)
    .await
    .map_err(fault)?;
    let anew = gone != Some(false) && !(gone == Some(true) && wish.catch_up);
    let Some(old) = old else {
        let start = if anew { extent.high } else { extent.low };
        sqlx::query(
            "INSERT INTO position (group_id, topic, partition, incarnation, listener, topic_id, next, heard_from, epoch)
             VALUES (?1, ?2, ?3, (SELECT coalesce(max(incarnation) + 1, 0) FROM position
                                  WHERE group_id = ?1 AND topic = ?2 AND partition = ?3 AND listener = ?4),
                     ?4, ?5, ?6, ?6, 0)",
        )
        .bind(group)
        .bind(clean(&wish.topic))
        .bind(extent.partition)
        .bind(clean(&wish.node))
        .bind(clean(&wish.topic_id))
        .bind(start.0)
        .execute(tx)
        .await
        .map_err(fault)?;
        return Ok(None);
    };
    let mut columns = Columns::of(&old);
    let (id, next): (i64, Offset) = (columns.take()?, columns.offset()?);
    if !anew || next >= extent.high {
        return Ok(None);
    }
    sqlx::query("UPDATE position SET next = ?1, heard_from = ?1, epoch = epoch + 1 WHERE id = ?2")
        .bind(extent.high.0)
        .bind(id)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
    record_lost(tx, PositionId(id), next, extent.high, AWAY_TOO_LONG, now).await?;
    Ok(Some((extent.partition, next, extent.high)))
}

/// Ends a listener: its epochs are raised, so that what its node still writes is refused,
/// and its open deliveries become final.
async fn end_listener(
    tx: &mut SqliteConnection,
    group: i64,
    topic: &str,
    node: &str,
    why: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE listener SET gone_at = ?, gone_why = ? WHERE group_id = ? AND topic = ? AND node = ? AND gone_at IS NULL",
    )
    .bind(now.0)
    .bind(why)
    .bind(group)
    .bind(clean(topic))
    .bind(clean(node))
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    let positions: Vec<i64> = sqlx::query_scalar(
        "UPDATE position SET epoch = epoch + 1 WHERE group_id = ? AND topic = ? AND listener = ? RETURNING id",
    )
    .bind(group)
    .bind(clean(topic))
    .bind(clean(node))
    .fetch_all(&mut *tx)
    .await
    .map_err(fault)?;
    for position in positions {
        close_open(tx, group, PositionId(position), why, now.0).await?;
    }
    Ok(())
}

/// Refuses a delivery whose listener has ended, since no owner could run it.
pub(super) async fn refuse_gone_listener(tx: &mut SqliteConnection, delivery: &DeliveryKey) -> Result<(), StoreError> {
    let gone: Option<String> = sqlx::query_scalar(
        "SELECT l.node FROM position p JOIN listener l
             ON l.group_id = p.group_id AND l.topic = p.topic AND l.node = p.listener
         WHERE p.id = ? AND l.gone_at IS NOT NULL",
    )
    .bind(delivery.position.0)
    .fetch_optional(tx)
    .await
    .map_err(fault)?;
    gone.map_or(Ok(()), |node| {
        Err(StoreError::Conflict(format!("{node:?}, which this broadcast was for, no longer listens")))
    })
}
