//! Becoming the owner of a partition.

use async_trait::async_trait;
use courier_core::message::Offset;
use courier_core::status::State;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::columns::{Columns, expect_rows, now};
use super::error::{commit_fault, fault};
use super::groups::group_number;
use super::log_ends::seen_log_end;
use super::open_rows::{open_row, select_open};
use super::positions::record_lost;
use crate::store::incarnations::outdated;
use crate::store::shared::text::clean;
use crate::store::{ClaimRequest, ClaimStore, Claimed, EndedLog, PositionId, Renewal, StoreError};

/// A position as it was before the claim.
struct OldPosition {
    id: PositionId,
    incarnation: i32,
    next: Offset,
    epoch: i64,
    topic_id: String,
    /// Whether the topic was created anew without this partition.
    gone: bool,
}

#[async_trait]
impl ClaimStore for SqliteStore {
    async fn begin(
        &self,
        group: &str,
        topic: &str,
        topic_id: &str,
        starts: &[(i32, Offset)],
    ) -> Result<(), StoreError> {
        let topic = clean(topic);
        let mut tx = self.connections.write().await?;
        let group = group_number(&mut tx, group).await?;
        let begun: i64 = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM position WHERE group_id = ? AND topic = ? AND listener = '')",
        )
        .bind(group)
        .bind(topic.as_ref())
        .fetch_one(&mut *tx)
        .await
        .map_err(fault)?;
        if begun == 0 {
            for (partition, start) in starts {
                sqlx::query(
                    "INSERT INTO position (group_id, topic, partition, incarnation, listener, topic_id, next, epoch)
                     VALUES (?, ?, ?, 0, '', ?, ?, 0)",
                )
                .bind(group)
                .bind(topic.as_ref())
                .bind(partition)
                .bind(clean(topic_id))
                .bind(start.0)
                .execute(&mut *tx)
                .await
                .map_err(fault)?;
            }
        }
        tx.commit().await.map_err(commit_fault)
    }

    async fn claim(&self, claim: &ClaimRequest) -> Result<Claimed, StoreError> {
        let mut tx = self.connections.write().await?;
        let group = group_number(&mut tx, &claim.group).await?;
        let found = find(&mut tx, group, claim).await?;
        let (position, incarnation, epoch, next) = match found {
            None => (insert(&mut tx, group, claim, (0, 1), claim.fallback).await?, 0, 1, claim.fallback),
            Some(old) => {
                refuse_outdated(&mut tx, group, &old, claim).await?;
                let renewal = Renewal::of(&old.topic_id, old.next, &cleaned(claim)).filter(|_| !old.gone);
                if old.gone || renewal.is_some() {
                    // The epoch counts on from the old row, so that an older owner of
                    // either row has an older epoch.
                    let (incarnation, epoch) = (old.incarnation + 1, old.epoch + 1);
                    let next = renewal.as_ref().map_or(claim.fallback, |renewal| renewal.begins);
                    let id = insert(&mut tx, group, claim, (incarnation, epoch), next).await?;
                    if let Some(renewal) = renewal {
                        end_incarnation(&mut tx, group, &old, id, &renewal).await?;
                    }
                    (id, incarnation, epoch, next)
                } else {
                    own(&mut tx, &old, claim).await?;
                    (old.id, old.incarnation, old.epoch + 1, old.next)
                }
            }
        };
        let mut settled: Vec<i64> =
            sqlx::query_scalar("SELECT offset FROM delivery WHERE position = ? AND offset >= ? ORDER BY offset")
                .bind(position.0)
                .bind(next.0)
                .fetch_all(&mut *tx)
                .await
                .map_err(fault)?;
        let in_set = super::handled_sets::settled_from(&mut tx, position.0, next).await?;
        if !in_set.is_empty() {
            settled.extend(in_set.offsets().map(|offset| offset.0));
            settled.sort_unstable();
            settled.dedup();
        }
        let open = sqlx::query(select_open!("", "WHERE o.position = ? ORDER BY o.offset"))
            .bind(position.0)
            .fetch_all(&mut *tx)
            .await
            .map_err(fault)?;
        let open = open.iter().map(open_row).collect::<Result<_, _>>()?;
        tx.commit().await.map_err(commit_fault)?;
        let settled = settled.into_iter().map(Offset).collect();
        Ok(Claimed { position, incarnation, epoch, next, settled, open })
    }

    async fn skip_lost(
        &self,
        position: PositionId,
        epoch: i64,
        from: Offset,
        to: Offset,
        why: &str,
    ) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let moved = sqlx::query("UPDATE position SET next = max(next, ?) WHERE id = ? AND epoch = ?")
            .bind(to.0)
            .bind(position.0)
            .bind(epoch)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        if moved.rows_affected() != 1 {
            return Err(StoreError::Fenced(format!("position {} has a newer epoch than {epoch}", position.0)));
        }
        record_lost(&mut tx, position, from, to, why, now()).await?;
        tx.commit().await.map_err(commit_fault)
    }
}

/// Reads the row of the present incarnation, if there is one.
async fn find(tx: &mut SqliteConnection, group: i64, claim: &ClaimRequest) -> Result<Option<OldPosition>, StoreError> {
    let row = sqlx::query(
        "SELECT id, incarnation, next, epoch, topic_id, gone FROM position
         WHERE group_id = ? AND topic = ? AND partition = ? AND listener = ? ORDER BY incarnation DESC LIMIT 1",
    )
    .bind(group)
    .bind(clean(&claim.topic))
    .bind(claim.partition)
    .bind(clean(claim.listener.as_deref().unwrap_or_default()))
    .fetch_optional(tx)
    .await
    .map_err(fault)?;
    row.map(|row| {
        let mut columns = Columns::of(&row);
        Ok(OldPosition {
            id: PositionId(columns.take()?),
            incarnation: columns.number()?,
            next: columns.offset()?,
            epoch: columns.take()?,
            topic_id: columns.take()?,
            gone: columns.flag()?,
        })
    })
    .transpose()
}

/// Refuses the id of an earlier topic of the name.
async fn refuse_outdated(
    tx: &mut SqliteConnection,
    group: i64,
    old: &OldPosition,
    claim: &ClaimRequest,
) -> Result<(), StoreError> {
    let id = clean(&claim.topic_id);
    if id.is_empty() || id == old.topic_id {
        return Ok(());
    }
    let known: i64 = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM position
                        WHERE group_id = ? AND topic = ? AND partition = ? AND listener = ? AND topic_id = ?)",
    )
    .bind(group)
    .bind(clean(&claim.topic))
    .bind(claim.partition)
    .bind(clean(claim.listener.as_deref().unwrap_or_default()))
    .bind(id)
    .fetch_one(tx)
    .await
    .map_err(fault)?;
    if known == 0 { Ok(()) } else { Err(outdated(claim)) }
}

/// The claim with its topic's id as it would be stored.
fn cleaned(claim: &ClaimRequest) -> ClaimRequest {
    ClaimRequest { topic_id: clean(&claim.topic_id).into_owned(), ..claim.clone() }
}

async fn insert(
    tx: &mut SqliteConnection,
    group: i64,
    claim: &ClaimRequest,
    (incarnation, epoch): (i32, i64),
    next: Offset,
) -> Result<PositionId, StoreError> {
    sqlx::query_scalar(
        "INSERT INTO position (group_id, topic, partition, incarnation, listener, topic_id, next, heard_from, epoch, writer_id)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
    )
    .bind(group)
    .bind(clean(&claim.topic))
    .bind(claim.partition)
    .bind(incarnation)
    .bind(clean(claim.listener.as_deref().unwrap_or_default()))
    .bind(clean(&claim.topic_id))
    .bind(next.0)
    .bind(claim.listener.as_ref().map(|_| next.0))
    .bind(epoch)
    .bind(claim.writer.0)
    .fetch_one(tx)
    .await
    .map(PositionId)
    .map_err(fault)
}

async fn own(tx: &mut SqliteConnection, old: &OldPosition, claim: &ClaimRequest) -> Result<(), StoreError> {
    let owned = sqlx::query(
        "UPDATE position SET epoch = epoch + 1, writer_id = ?, topic_id = iif(topic_id = '', ?, topic_id)
         WHERE id = ? AND epoch = ?",
    )
    .bind(claim.writer.0)
    .bind(clean(&claim.topic_id))
    .bind(old.id.0)
    .bind(old.epoch)
    .execute(tx)
    .await
    .map_err(fault)?;
    expect_rows("claiming a position", 1, owned.rows_affected())
}

/// Ends the incarnation of `old` in favour of `new`. Its owner is fenced, and the open
/// deliveries that are still in the log move to the new position. The others can never run
/// again and become HANDLE_FAIL for good, and their range is recorded as lost.
async fn end_incarnation(
    tx: &mut SqliteConnection,
    group: i64,
    old: &OldPosition,
    new: PositionId,
    renewal: &Renewal,
) -> Result<(), StoreError> {
    if let Some(end) = renewal.survive_below {
        move_open(tx, old.id, new, end).await?;
    }
    fence(tx, old.id, old.epoch).await?;
    end_position(tx, group, old.id, old.next, renewal).await
}

/// Raises the epoch of a position.
pub(super) async fn fence(tx: &mut SqliteConnection, position: PositionId, epoch: i64) -> Result<(), StoreError> {
    let fenced = sqlx::query("UPDATE position SET epoch = epoch + 1 WHERE id = ? AND epoch = ?")
        .bind(position.0)
        .bind(epoch)
        .execute(tx)
        .await
        .map_err(fault)?;
    expect_rows("ending an incarnation", 1, fenced.rows_affected())
}

/// Closes the open deliveries of a position that ended, and records the lost range.
pub(super) async fn end_position(
    tx: &mut SqliteConnection,
    group: i64,
    position: PositionId,
    next: Offset,
    renewal: &Renewal,
) -> Result<(), StoreError> {
    let now = now();
    let row = sqlx::query(
        "SELECT (SELECT min(offset) FROM open_delivery WHERE position = ?1),
                (SELECT max(offset) FROM open_delivery WHERE position = ?1),
                (SELECT max(offset) FROM delivery WHERE position = ?1)",
    )
    .bind(position.0)
    .fetch_one(&mut *tx)
    .await
    .map_err(fault)?;
    let mut columns = Columns::of(&row);
    let (first_open, last_open): (Option<i64>, Option<i64>) = (columns.take()?, columns.take()?);
    let last_settled: Option<i64> = columns.take()?;
    let last_settled = last_settled.max(super::handled_sets::last_offset(tx, position.0).await?);
    let (first_open, last) = (first_open.map(Offset), last_open.max(last_settled).map(Offset));
    let log_end = seen_log_end(tx, position, renewal.survive_below).await?;
    let (from, to) = renewal.lost(&EndedLog { next, first_open, last, log_end });
    record_lost(tx, position, from, to, &renewal.why, now).await?;
    close_open(tx, group, position, renewal.reason, now.0).await
}

/// Moves open deliveries below `end` to another position.
async fn move_open(tx: &mut SqliteConnection, old: PositionId, new: PositionId, end: Offset) -> Result<(), StoreError> {
    // Rows of final deliveries stay where they are, and so do their attempts.
    const STATEMENTS: [&str; 3] = [
        "UPDATE attempt SET position = ?2 WHERE position = ?1 AND offset < ?3
             AND EXISTS (SELECT 1 FROM open_delivery o WHERE o.position = ?1 AND o.offset = attempt.offset)",
        "UPDATE kept_record SET position = ?2 WHERE position = ?1 AND offset < ?3
             AND EXISTS (SELECT 1 FROM open_delivery o WHERE o.position = ?1 AND o.offset = kept_record.offset)",
        "UPDATE open_delivery SET position = ?2 WHERE position = ?1 AND offset < ?3",
    ];
    for statement in STATEMENTS {
        sqlx::query(statement).bind(old.0).bind(new.0).bind(end.0).execute(&mut *tx).await.map_err(fault)?;
    }
    Ok(())
}

/// Makes the open rows of a position HANDLE_FAIL for good, with that reason.
pub(super) async fn close_open(
    tx: &mut SqliteConnection,
    group: i64,
    position: PositionId,
    why: &str,
    now: i64,
) -> Result<(), StoreError> {
    const DAY_MICROS: i64 = 86_400_000_000;
    sqlx::query(
        "INSERT INTO counter (group_id, node, failed)
         SELECT ?1, node, count(*) FROM open_delivery WHERE position = ?2 GROUP BY node
         ON CONFLICT (group_id, node) DO UPDATE SET failed = failed + excluded.failed",
    )
    .bind(group)
    .bind(position.0)
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    // Times before 1970 round down as in `Timestamp::day`.
    let closed = sqlx::query(
        "INSERT INTO delivery (position, offset, day, group_id, slot, state, settled_at, record_time, received_at,
             started_at, number, counted, verdict, node, version, message_id, source_hash, key, type_name, reason,
             fingerprint)
         SELECT position, offset, (record_time - ((record_time % ?1) + ?1) % ?1) / ?1, group_id,
             (SELECT max(start_at) FROM slot WHERE start_at <= ?3), ?2, ?3, record_time,
             received_at, started_at, number, counted, verdict, node, version, message_id, source_hash, key, type_name, ?4,
             fingerprint
         FROM open_delivery WHERE position = ?5",
    )
    .bind(DAY_MICROS)
    .bind(State::HandleFail.code())
    .bind(now)
    .bind(why)
    .bind(position.0)
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    let removed = sqlx::query("DELETE FROM open_delivery WHERE position = ?")
        .bind(position.0)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
    expect_rows("closing what lay open", usize::try_from(closed.rows_affected()).unwrap_or(0), removed.rows_affected())
}
