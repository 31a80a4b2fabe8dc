//! Retention: removing old rows, a chunk at a time.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::Timestamp;
use courier_core::status::State;
use sqlx::{SqliteConnection, SqlitePool};

use super::SqliteStore;
use super::columns::{Columns, json, now};
use super::error::{commit_fault, fault};
use crate::store::minutes::MINUTES_KEPT;
use crate::store::redrive::PLAN_KEPT;
use crate::store::shared::half::abandon_unreachable;
use crate::store::{PruneStore, StoreError};

/// Most rows of each kind that one call removes. Settles wait for it meanwhile, so a chunk
/// takes about as long as a settle.
const CHUNK_ROWS: usize = 2_000;

#[async_trait]
impl PruneStore for SqliteStore {
    async fn prune(&self, retention: Duration) -> Result<bool, StoreError> {
        let age = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
        let before = Timestamp(now().0.saturating_sub(age));
        let messages = old_messages(&self.connections.readers, before).await?;
        let mut tx = self.connections.write().await?;
        let deliveries = prune_deliveries(&mut tx, before).await?;
        prune_slots(&mut tx, before).await?;
        let sets = super::handled_sets::prune(&mut tx, before, CHUNK_ROWS).await?;
        let messages = prune_messages(&mut tx, &messages).await?;
        let halves = prune_halves(&mut tx, before).await?;
        let plans_kept = i64::try_from(PLAN_KEPT.as_micros()).unwrap_or(i64::MAX);
        let plans_before = before.max(Timestamp(now().0.saturating_sub(plans_kept)));
        let redrives = super::redrive::prune(&mut tx, before, plans_before, CHUNK_ROWS).await?;
        prune_centre(&mut tx, before).await?;
        prune_writers(&mut tx, before).await?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(deliveries || sets || messages || halves || redrives)
    }
}

/// Removes final rows with their attempts and records. Nothing of an open delivery is found,
/// since it has no final row. A row at or above its position stays however old it is: without
/// it a claim would run its record again.
async fn prune_deliveries(tx: &mut SqliteConnection, before: Timestamp) -> Result<bool, StoreError> {
    let groups: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM consumer_group").fetch_all(&mut *tx).await.map_err(fault)?;
    let mut room = CHUNK_ROWS;
    for group in groups {
        let old = sqlx::query(
            "SELECT d.position, d.offset, d.day FROM delivery d INDEXED BY delivery_time
             WHERE d.group_id = ? AND d.settled_at < ?
                 AND NOT EXISTS (SELECT 1 FROM position p WHERE p.id = d.position AND d.offset >= p.next
                     AND NOT EXISTS (SELECT 1 FROM position newer WHERE newer.group_id = p.group_id
                         AND newer.topic = p.topic AND newer.partition = p.partition
                         AND newer.listener = p.listener AND newer.incarnation > p.incarnation))
             ORDER BY d.settled_at LIMIT ?",
        )
        .bind(group)
        .bind(before.0)
        .bind(super::slices::rows(room))
        .fetch_all(&mut *tx)
        .await
        .map_err(fault)?;
        let old: Vec<(i64, i64, i64)> = old
            .iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok((columns.take()?, columns.take()?, columns.take()?))
            })
            .collect::<Result<_, StoreError>>()?;
        if !old.is_empty() {
            remove(tx, group, &json(&old)?).await?;
        }
        room -= old.len();
        if room == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn remove(tx: &mut SqliteConnection, group: i64, old: &str) -> Result<(), StoreError> {
    const STATEMENTS: [&str; 3] = [
        "DELETE FROM attempt WHERE (position, offset) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))",
        "DELETE FROM kept_record WHERE (position, offset) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))",
        "DELETE FROM delivery WHERE (position, offset, day)
             IN (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?))",
    ];
    // `failed` counts the deliveries that are failed now, without those that were removed.
    sqlx::query(
        "UPDATE counter SET failed = counter.failed - gone.count
         FROM (SELECT d.node, count(*) AS count
               FROM json_each(?) o CROSS JOIN delivery d
               ON d.position = o.value ->> 0 AND d.offset = o.value ->> 1 AND d.day = o.value ->> 2
               WHERE d.state = ? GROUP BY d.node) AS gone
         WHERE group_id = ? AND counter.node = gone.node",
    )
    .bind(old)
    .bind(State::HandleFail.code())
    .bind(group)
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    for statement in STATEMENTS {
        sqlx::query(statement).bind(old).execute(&mut *tx).await.map_err(fault)?;
    }
    Ok(())
}

/// Removes slots without rows, so that look-ups do not search them. The first one stays, since
/// every time has to fall in a slot, and so does the newest.
async fn prune_slots(tx: &mut SqliteConnection, before: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM slot WHERE start_at > (SELECT min(start_at) FROM slot) AND last_at < ?
             AND start_at < (SELECT max(start_at) FROM slot)
             AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.slot = slot.start_at)",
    )
    .bind(before.0)
    .execute(tx)
    .await
    .map_err(fault)?;
    Ok(())
}

/// Finds old messages, except those that have still to be sent and those that are not due yet.
/// The age of a delayed one counts from the time at which it was due. A reader finds them,
/// since many waiting messages may be older than the retention and are skipped.
async fn old_messages(readers: &SqlitePool, before: Timestamp) -> Result<Vec<i64>, StoreError> {
    sqlx::query_scalar(
        "SELECT m.seq FROM message m INDEXED BY message_time
         WHERE m.created_at < ?1 AND m.retrying = 0 AND coalesce(m.deliver_at, 0) < ?1
             AND NOT EXISTS (SELECT 1 FROM outbound o WHERE o.message_id = m.id AND o.source = m.source
                 AND coalesce(o.published_on, o.topic) = m.topic)
             AND NOT EXISTS (SELECT 1 FROM delayed d
                 WHERE d.message_id = m.id AND d.source = m.source AND d.published_on = m.topic)
         ORDER BY m.created_at LIMIT ?2",
    )
    .bind(before.0)
    .bind(super::slices::rows(CHUNK_ROWS))
    .fetch_all(readers)
    .await
    .map_err(fault)
}

/// Removes the messages that were found, except those that were sent again meanwhile.
async fn prune_messages(tx: &mut SqliteConnection, old: &[i64]) -> Result<bool, StoreError> {
    if old.is_empty() {
        return Ok(false);
    }
    sqlx::query(
        "DELETE FROM message WHERE seq IN (SELECT value FROM json_each(?)) AND retrying = 0
             AND NOT EXISTS (SELECT 1 FROM outbound o WHERE o.message_id = message.id AND o.source = message.source
                 AND coalesce(o.published_on, o.topic) = message.topic)",
    )
    .bind(json(&old)?)
    .execute(tx)
    .await
    .map_err(fault)?;
    Ok(old.len() >= CHUNK_ROWS)
}

/// Removes transactions that ended, whose messages have rows of their own, and abandons those
/// whose check URL did not answer all the time.
async fn prune_halves(tx: &mut SqliteConnection, before: Timestamp) -> Result<bool, StoreError> {
    let abandoned = abandon_unreachable(tx, before.0, super::slices::rows(CHUNK_ROWS)).await?;
    let removed = sqlx::query(
        "DELETE FROM half_message WHERE id IN (SELECT id FROM half_message WHERE ended_at < ? ORDER BY ended_at LIMIT ?)",
    )
    .bind(before.0)
    .bind(super::slices::rows(CHUNK_ROWS))
    .execute(tx)
    .await
    .map_err(fault)?;
    Ok(removed.rows_affected() >= CHUNK_ROWS as u64 || abandoned >= CHUNK_ROWS)
}

/// Removes writers that no row refers to. Their processes ended long ago, and a settle of one
/// of them would be refused.
async fn prune_writers(tx: &mut SqliteConnection, before: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM writer WHERE joined_at < ?
             AND NOT EXISTS (SELECT 1 FROM node n WHERE n.writer_id = writer.id)
             AND NOT EXISTS (SELECT 1 FROM position p WHERE p.writer_id = writer.id)
             AND NOT EXISTS (SELECT 1 FROM relay_shard s WHERE s.writer_id = writer.id)",
    )
    .bind(before.0)
    .execute(tx)
    .await
    .map_err(fault)?;
    Ok(())
}

/// Removes old audit entries, sessions, minutes, lost ranges, nodes that left, ends of logs and
/// dead letters. Minutes are for charts of some hours, so the retention does not concern them.
async fn prune_centre(tx: &mut SqliteConnection, before: Timestamp) -> Result<(), StoreError> {
    let minutes = i64::try_from(MINUTES_KEPT.as_micros()).unwrap_or(i64::MAX);
    super::audits::prune(tx, before.0, CHUNK_ROWS).await?;
    for (statement, time) in [
        ("DELETE FROM session WHERE expires_at < ?", now().0),
        ("DELETE FROM minute WHERE minute < ?", now().0.saturating_sub(minutes)),
        ("DELETE FROM pace WHERE at < ?", before.0),
        ("DELETE FROM lost_range WHERE found_at < ?", before.0),
        ("DELETE FROM node WHERE lease_until < ?", before.0),
        // Ends of logs of a topic in which no group has a position.
        (
            "DELETE FROM log_end WHERE seen_at < ?
                 AND NOT EXISTS (SELECT 1 FROM position p WHERE p.topic_id = log_end.topic_id AND NOT p.gone)",
            before.0,
        ),
        (
            "DELETE FROM dead_letter WHERE (position, offset, number) IN (
                 SELECT position, offset, number FROM dead_letter WHERE at < ? ORDER BY at LIMIT 2000)",
            before.0,
        ),
    ] {
        sqlx::query(statement).bind(time).execute(&mut *tx).await.map_err(fault)?;
    }
    Ok(())
}
