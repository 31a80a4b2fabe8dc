//! Becoming the owner of a partition.

use courier_core::message::Offset;
use courier_core::status::State;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::fault::{commit_fault, fault};
use super::open::{open_row, select_open};
use super::positions::{group_number, record_lost};
use super::values::{Columns, clean, expect_rows, now};
use crate::store::{ClaimRequest, Claimed, PositionId, StoreError};

/// The reason of deliveries whose topic was deleted under them.
const CREATED_ANEW: &str = "the topic was created anew";
/// Why a lost range was recorded when the log is shorter than the position.
const LOG_TOO_SHORT: &str = "the log ends before the position: the topic was created anew or lost its end";

/// A position as it was before the claim.
struct Found {
    id: PositionId,
    incarnation: i32,
    next: Offset,
    epoch: i64,
    topic_id: String,
}

impl SqliteStore {
    pub(super) async fn claim_position(&self, claim: &ClaimRequest) -> Result<Claimed, StoreError> {
        let mut tx = self.connections.write().await?;
        let group = group_number(&mut tx, &claim.group).await?;
        let found = find(&mut tx, group, claim).await?;
        let (position, incarnation, epoch, next) = match found {
            None => (insert(&mut tx, group, claim, 0, 1).await?, 0, 1, claim.fallback),
            Some(old) => match anew(&old, claim) {
                Some(why) => {
                    end_incarnation(&mut tx, group, &old, why).await?;
                    // The epoch counts on, so that whoever still writes under
                    // the old row's is older here as well as there.
                    let (incarnation, epoch) = (old.incarnation + 1, old.epoch + 1);
                    let id = insert(&mut tx, group, claim, incarnation, epoch).await?;
                    (id, incarnation, epoch, claim.fallback)
                }
                None => {
                    own(&mut tx, &old, claim).await?;
                    (old.id, old.incarnation, old.epoch + 1, old.next)
                }
            },
        };
        let settled: Vec<i64> =
            sqlx::query_scalar("SELECT offset FROM delivery WHERE position = ? AND offset >= ? ORDER BY offset")
                .bind(position.0)
                .bind(next.0)
                .fetch_all(&mut *tx)
                .await
                .map_err(fault)?;
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
}

/// The row of the present incarnation, if there is one.
async fn find(tx: &mut SqliteConnection, group: i64, claim: &ClaimRequest) -> Result<Option<Found>, StoreError> {
    let row = sqlx::query(
        "SELECT id, incarnation, next, epoch, topic_id FROM position
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
        Ok(Found {
            id: PositionId(columns.take()?),
            incarnation: columns.number()?,
            next: columns.offset()?,
            epoch: columns.take()?,
            topic_id: columns.take()?,
        })
    })
    .transpose()
}

/// Why the log is not the one that the position belongs to, if it is not.
fn anew(old: &Found, claim: &ClaimRequest) -> Option<&'static str> {
    let both_known = !old.topic_id.is_empty() && !claim.topic_id.is_empty();
    if both_known && old.topic_id != clean(&claim.topic_id) {
        return Some(CREATED_ANEW);
    }
    (claim.log_end < old.next).then_some(LOG_TOO_SHORT)
}

async fn insert(
    tx: &mut SqliteConnection,
    group: i64,
    claim: &ClaimRequest,
    incarnation: i32,
    epoch: i64,
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
    .bind(claim.fallback.0)
    .bind(claim.listener.as_ref().map(|_| claim.fallback.0))
    .bind(epoch)
    .bind(claim.writer.0)
    .fetch_one(tx)
    .await
    .map(PositionId)
    .map_err(fault)
}

async fn own(tx: &mut SqliteConnection, old: &Found, claim: &ClaimRequest) -> Result<(), StoreError> {
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

/// Ends the incarnation that `old` belongs to: its owner is fenced, what lay
/// open in it can never run again and becomes a final failure, and the range
/// is recorded as lost.
async fn end_incarnation(tx: &mut SqliteConnection, group: i64, old: &Found, why: &str) -> Result<(), StoreError> {
    let now = now();
    let fenced = sqlx::query("UPDATE position SET epoch = epoch + 1 WHERE id = ? AND epoch = ?")
        .bind(old.id.0)
        .bind(old.epoch)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
    expect_rows("ending an incarnation", 1, fenced.rows_affected())?;
    let row = sqlx::query(
        "SELECT (SELECT min(offset) FROM open_delivery WHERE position = ?1),
                (SELECT max(offset) FROM open_delivery WHERE position = ?1),
                (SELECT max(offset) FROM delivery WHERE position = ?1)",
    )
    .bind(old.id.0)
    .fetch_one(&mut *tx)
    .await
    .map_err(fault)?;
    let mut columns = Columns::of(&row);
    let (first_open, last_open): (Option<i64>, Option<i64>) = (columns.take()?, columns.take()?);
    let last_settled: Option<i64> = columns.take()?;
    // Where the old log ended is not known any more; the range reaches as far
    // as this group got.
    let from = first_open.unwrap_or(old.next.0).min(old.next.0);
    let to = last_open.max(last_settled).map_or(old.next.0, |last| (last + 1).max(old.next.0));
    record_lost(tx, old.id, Offset(from), Offset(to), why, now).await?;
    close_open(tx, group, old.id, CREATED_ANEW, now.0).await
}

/// Makes what lies open in a position finally HANDLE_FAIL, for that reason.
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
             started_at, number, counted, verdict, node, version, message_id, key, type_name, reason, fingerprint)
         SELECT position, offset, (record_time - ((record_time % ?1) + ?1) % ?1) / ?1, group_id,
             (SELECT max(start_at) FROM slot WHERE start_at <= ?3), ?2, ?3, record_time,
             received_at, started_at, number, counted, verdict, node, version, message_id, key, type_name, ?4,
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
