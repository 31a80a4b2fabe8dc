//! Becoming the owner of a partition.

use async_trait::async_trait;
use courier_core::message::Offset;
use courier_core::status::State;
use sqlx::postgres::{PgConnection, PgQueryResult, PgRow};

use super::columns::PgRowExt;
use super::error::at_statement;
use super::log_ends::seen_log_end;
use super::open_rows::open_row;
use super::positions::insert_lost;
use super::settle_open::{Class, Deltas, PEOPLE};
use super::{PostgresStore, bounded, commit};
use crate::store::incarnations::outdated;
use crate::store::shared::text::clean;
use crate::store::{ClaimRequest, ClaimStore, Claimed, EndedLog, PositionId, Renewal, StoreError, WriterId};

#[async_trait]
impl ClaimStore for PostgresStore {
    async fn begin(
        &self,
        group: &str,
        topic: &str,
        topic_id: &str,
        starts: &[(i32, Offset)],
    ) -> Result<(), StoreError> {
        bounded(begin(self, group, topic, topic_id, starts)).await
    }

    async fn claim(&self, claim: &ClaimRequest) -> Result<Claimed, StoreError> {
        bounded(self::claim(self, claim)).await
    }

    async fn skip_lost(
        &self,
        position: PositionId,
        epoch: i64,
        from: Offset,
        to: Offset,
        why: &str,
    ) -> Result<(), StoreError> {
        bounded(skip_lost(self, position, epoch, from, to, why)).await
    }
}

/// A position as a claim finds it.
struct Current {
    id: i64,
    incarnation: i32,
    topic_id: String,
    next: i64,
    epoch: i64,
}

async fn claim(store: &PostgresStore, claim: &ClaimRequest) -> Result<Claimed, StoreError> {
    let group_id = store.groups.id(&store.pool, &claim.group).await?;
    let mut tx = store.begin_tx().await?;
    let mut current = lock_current(&mut tx, group_id, claim).await?;
    let stored = ClaimRequest { topic_id: clean(&claim.topic_id).into_owned(), ..claim.clone() };
    refuse_outdated(&mut tx, group_id, &current, &stored).await?;
    if let Some(renewal) = Renewal::of(&current.topic_id, Offset(current.next), &stored) {
        current = renew_incarnation(&mut tx, group_id, claim, &current, &renewal).await?;
    }
    let row = sqlx::query(
        "UPDATE position SET epoch = epoch + 1, writer_id = $2,
             node = coalesce((SELECT node FROM writer WHERE id = $2), node),
             topic_id = CASE WHEN topic_id = '' THEN $3 ELSE topic_id END
         WHERE id = $1 AND current RETURNING epoch",
    )
    .bind(current.id)
    .bind(claim.writer.0)
    .bind(clean(&claim.topic_id))
    .fetch_one(&mut *tx)
    .await
    .map_err(at_statement)?;
    let epoch: i64 = row.take(0)?;
    let settled = sqlx::query(
        "SELECT record_offset FROM delivery WHERE position_id = $1 AND record_offset >= $2 ORDER BY record_offset",
    )
    .bind(current.id)
    .bind(current.next)
    .fetch_all(&mut *tx)
    .await
    .map_err(at_statement)?;
    let mut settled: Vec<Offset> = settled.iter().map(|row| row.offset("record_offset")).collect::<Result<_, _>>()?;
    let in_set = super::handled_sets::settled_from(&mut tx, current.id, Offset(current.next)).await?;
    if !in_set.is_empty() {
        settled.extend(in_set.offsets());
        settled.sort_unstable();
        settled.dedup();
    }
    let open = sqlx::query(OPEN_OF_POSITION).bind(current.id).fetch_all(&mut *tx).await.map_err(at_statement)?;
    commit(tx).await?;
    Ok(Claimed {
        position: PositionId(current.id),
        incarnation: current.incarnation,
        epoch,
        next: Offset(current.next),
        settled,
        open: open.iter().map(open_row).collect::<Result<_, _>>()?,
    })
}

/// Refuses the id of an earlier topic of the name.
async fn refuse_outdated(
    tx: &mut PgConnection,
    group_id: i32,
    current: &Current,
    claim: &ClaimRequest,
) -> Result<(), StoreError> {
    if claim.topic_id.is_empty() || claim.topic_id == current.topic_id {
        return Ok(());
    }
    let known: bool = sqlx::query(
        "SELECT EXISTS (SELECT FROM position
                        WHERE group_id = $1 AND topic = $2 AND partition = $3 AND listener = $4 AND topic_id = $5)",
    )
    .bind(group_id)
    .bind(clean(&claim.topic))
    .bind(claim.partition)
    .bind(clean(claim.listener.as_deref().unwrap_or_default()))
    .bind(&claim.topic_id)
    .fetch_one(tx)
    .await
    .map_err(at_statement)?
    .take(0)?;
    if known { Err(outdated(claim)) } else { Ok(()) }
}

/// The columns that [`open_row`] reads.
const OPEN_OF_POSITION: &str = "
    SELECT position_id, record_offset, key, message_id, state, next_attempt_at, held, number, counted, received_at, asked_at,
        give_up_reason, give_up_letter, CASE WHEN copied_bytes > 0 THEN 0 ELSE coalesce(octet_length(record), 0) END AS record_bytes
    FROM open_delivery WHERE position_id = $1 ORDER BY record_offset";

/// Locks the row of the position's present incarnation, which is inserted at `fallback`
/// when there is none.
///
/// A row that was not found is looked for once more: another host may have begun a new
/// incarnation while this one waited for the old row, which then no longer matches.
async fn lock_current(tx: &mut PgConnection, group_id: i32, claim: &ClaimRequest) -> Result<Current, StoreError> {
    for _ in 0..3 {
        let found = sqlx::query(
            "SELECT id, incarnation, topic_id, next, epoch FROM position
             WHERE group_id = $1 AND topic = $2 AND partition = $3 AND listener = $4 AND current FOR UPDATE",
        )
        .bind(group_id)
        .bind(clean(&claim.topic))
        .bind(claim.partition)
        .bind(clean(claim.listener.as_deref().unwrap_or_default()))
        .fetch_optional(&mut *tx)
        .await
        .map_err(at_statement)?;
        if let Some(row) = found {
            return Ok(Current {
                id: row.take("id")?,
                incarnation: row.take("incarnation")?,
                topic_id: row.take("topic_id")?,
                next: row.take("next")?,
                epoch: row.take("epoch")?,
            });
        }
        // The newest row is not current when its partition was gone and is there again.
        let last = sqlx::query(
            "SELECT max(incarnation) AS incarnation, coalesce(max(epoch), 0) AS epoch FROM position
             WHERE group_id = $1 AND topic = $2 AND partition = $3 AND listener = $4",
        )
        .bind(group_id)
        .bind(clean(&claim.topic))
        .bind(claim.partition)
        .bind(clean(claim.listener.as_deref().unwrap_or_default()))
        .fetch_one(&mut *tx)
        .await
        .map_err(at_statement)?;
        let incarnation = last.take::<Option<i32>>("incarnation")?.map_or(0, |last| last + 1);
        insert_position(tx, group_id, claim, (incarnation, last.take("epoch")?), claim.fallback).await?;
    }
    Err(StoreError::Unavailable(format!("the position of {}/{} moves too fast", claim.topic, claim.partition)))
}

async fn insert_position(
    tx: &mut PgConnection,
    group_id: i32,
    claim: &ClaimRequest,
    (incarnation, epoch): (i32, i64),
    next: Offset,
) -> Result<PgQueryResult, StoreError> {
    sqlx::query(
        "INSERT INTO position (group_id, topic, incarnation, partition, topic_id, next, epoch, current, listener, heard_from)
         VALUES ($1, $2, $3, $4, $5, $6, $7, true, $8, $9) ON CONFLICT DO NOTHING",
    )
    .bind(group_id)
    .bind(clean(&claim.topic))
    .bind(incarnation)
    .bind(claim.partition)
    .bind(clean(&claim.topic_id))
    .bind(next.0)
    .bind(epoch)
    .bind(clean(claim.listener.as_deref().unwrap_or_default()))
    .bind(claim.listener.as_ref().map(|_| next.0))
    .execute(tx)
    .await
    .map_err(at_statement)
}

/// Closes the incarnation of `old` and begins the next one, in which the deliveries that
/// are still in the log go on.
///
/// The old row's epoch is raised too, so that a former owner which still works on records
/// of the old topic cannot write them.
async fn renew_incarnation(
    tx: &mut PgConnection,
    group_id: i32,
    claim: &ClaimRequest,
    old: &Current,
    renewal: &Renewal,
) -> Result<Current, StoreError> {
    sqlx::query("UPDATE position SET current = false, epoch = epoch + 1 WHERE id = $1 AND current")
        .bind(old.id)
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
    // The epoch counts on from the old row, so that an older owner of either row has an
    // older epoch.
    insert_position(tx, group_id, claim, (old.incarnation + 1, old.epoch), renewal.begins).await?;
    let new = lock_current(tx, group_id, claim).await?;
    if let Some(end) = renewal.survive_below {
        move_open(tx, old.id, new.id, end).await?;
    }
    end_position(tx, group_id, old.id, Offset(old.next), Some(claim.writer), renewal).await?;
    Ok(new)
}

/// Moves open deliveries below `end` to another position. Final ones stay where they are,
/// and so do their attempts.
async fn move_open(tx: &mut PgConnection, old: i64, new: i64, end: Offset) -> Result<(), StoreError> {
    const STATEMENTS: [&str; 2] = [
        "UPDATE attempt a SET position_id = $2 WHERE position_id = $1 AND record_offset < $3
             AND EXISTS (SELECT FROM open_delivery o WHERE o.position_id = $1 AND o.record_offset = a.record_offset)",
        "UPDATE open_delivery SET position_id = $2 WHERE position_id = $1 AND record_offset < $3",
    ];
    for statement in STATEMENTS {
        sqlx::query(statement).bind(old).bind(new).bind(end.0).execute(&mut *tx).await.map_err(at_statement)?;
    }
    Ok(())
}

/// Closes the open deliveries of a position that ended, and records the lost range. The
/// caller has locked the position.
pub(super) async fn end_position(
    tx: &mut PgConnection,
    group_id: i32,
    position: i64,
    next: Offset,
    writer: Option<WriterId>,
    renewal: &Renewal,
) -> Result<(), StoreError> {
    let last: Option<i64> = sqlx::query(
        "SELECT greatest((SELECT max(record_offset) FROM delivery WHERE position_id = $1),
             (SELECT max(record_offset) FROM open_delivery WHERE position_id = $1),
             (SELECT max(last_offset) FROM handled_set WHERE position_id = $1))",
    )
    .bind(position)
    .fetch_one(&mut *tx)
    .await
    .map_err(at_statement)?
    .take(0)?;
    let first_open = close_open(tx, group_id, position, writer, renewal.reason).await?;
    let log_end = seen_log_end(tx, position, renewal.survive_below).await?;
    let (first_open, last) = (first_open.map(Offset), last.map(Offset));
    let (from, to) = renewal.lost(&EndedLog { next, first_open, last, log_end });
    insert_lost(tx, position, from.0, to.0, &renewal.why).await
}

/// Makes the open rows of a position HANDLE_FAIL for good, with that reason, and returns
/// the lowest offset. The caller has locked the position.
pub(super) async fn close_open(
    tx: &mut PgConnection,
    group_id: i32,
    position: i64,
    writer: Option<WriterId>,
    why: &str,
) -> Result<Option<i64>, StoreError> {
    let closed = sqlx::query(
        "WITH gone AS (DELETE FROM open_delivery WHERE position_id = $1 RETURNING *), final AS (
             INSERT INTO delivery (position_id, record_offset, record_time, received_at, started_at, settled_at, day,
                 group_id, node_id, version_id, number, counted, state, verdict, message_id, key, type_name, reason,
                 fingerprint, record, source_hash)
             SELECT position_id, record_offset, record_time, received_at, started_at, courier_now(),
                 floor(record_time / 86400000000.0)::integer,
                 group_id, node_id, version_id, number, counted, 4, verdict, message_id, key, type_name, $2,
                 fingerprint, record, source_hash
             FROM gone
         )
         SELECT state, held, count(*) AS count, min(record_offset) AS lowest FROM gone GROUP BY state, held",
    )
    .bind(position)
    .bind(why)
    .fetch_all(&mut *tx)
    .await
    .map_err(at_statement)?;
    let mut deltas = Deltas::default();
    let mut lowest = None;
    for row in &closed {
        let count: i64 = row.take("count")?;
        deltas.of(group_id).add(Class::of_row(row)?, -count);
        deltas.of(group_id).ended(State::HandleFail, count);
        let of_class: i64 = row.take("lowest")?;
        lowest = Some(lowest.map_or(of_class, |lowest: i64| lowest.min(of_class)));
    }
    let node: Option<PgRow> = sqlx::query("SELECT node_id FROM writer WHERE id = $1")
        .bind(writer.map(|writer| writer.0))
        .fetch_optional(&mut *tx)
        .await
        .map_err(at_statement)?;
    let node = node.map(|row| row.take(0)).transpose()?.unwrap_or(PEOPLE);
    deltas.write(tx, node).await?;
    Ok(lowest)
}

async fn begin(
    store: &PostgresStore,
    group: &str,
    topic: &str,
    topic_id: &str,
    starts: &[(i32, Offset)],
) -> Result<(), StoreError> {
    let group_id = store.groups.id(&store.pool, group).await?;
    let (partitions, offsets): (Vec<i32>, Vec<i64>) = starts.iter().map(|(partition, at)| (*partition, at.0)).unzip();
    let mut tx = store.begin_tx().await?;
    // Hosts that start together resolve `latest` to different offsets; the
    // lock lets one of them decide for all partitions.
    sqlx::query("SELECT FROM consumer_group WHERE id = $1 FOR NO KEY UPDATE")
        .bind(group_id)
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
    sqlx::query(
        "INSERT INTO position (group_id, topic, incarnation, partition, topic_id, next, epoch, current)
         SELECT $1, $2, 0, partition, $3, next, 0, true FROM unnest($4::integer[], $5::bigint[]) AS start (partition, next)
         WHERE NOT EXISTS (SELECT FROM position WHERE group_id = $1 AND topic = $2 AND listener = '')
         ON CONFLICT DO NOTHING",
    )
    .bind(group_id)
    .bind(clean(topic))
    .bind(clean(topic_id))
    .bind(&partitions)
    .bind(&offsets)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    commit(tx).await
}

async fn skip_lost(
    store: &PostgresStore,
    position: PositionId,
    epoch: i64,
    from: Offset,
    to: Offset,
    why: &str,
) -> Result<(), StoreError> {
    let mut tx = store.begin_tx().await?;
    let moved = sqlx::query("UPDATE position SET next = greatest(next, $3) WHERE id = $1 AND epoch = $2")
        .bind(position.0)
        .bind(epoch)
        .bind(to.0)
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
    if moved.rows_affected() != 1 {
        return Err(StoreError::Fenced(format!("position {} has a newer epoch than {epoch}", position.0)));
    }
    insert_lost(&mut tx, position.0, from.0, to.0, why).await?;
    commit(tx).await
}
