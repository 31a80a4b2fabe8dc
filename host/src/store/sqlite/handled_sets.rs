//! Handled sets: deliveries that have a bit in a segment and no row.

use async_trait::async_trait;
use courier_core::message::{Offset, Timestamp};
use courier_core::offset_runs::{MAX_SPAN, OffsetRuns};
use courier_core::verdict::Verdict;
use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, QueryBuilder, Sqlite, SqliteConnection};

use super::SqliteStore;
use super::bulk::Bulk;
use super::columns::{Columns, expect_rows, json, now, optional_json};
use super::error::{commit_fault, fault};
use super::words::SqliteWords;
use crate::store::handled_sets::{
    COMPACTED_AT_ONCE, EncodedRuns, NewSegment, PlannedSets, READ_AHEAD, StoredSegment, decode, join, may_mean,
    offsets_from, segments_of, window_of,
};
use crate::store::redrive::MAX_PLANNED;
use crate::store::shared::text::clean;
use crate::store::{DeliveryFilter, DeliveryKey, HandledAt, HandledSetStore, Part, StoreError};

/// Inserts the columns of [`SegmentRow`]s.
const INSERT: Bulk = Bulk {
    insert: "INSERT INTO handled_set (position, first_offset, last_offset, from_at, to_at, group_id, node, version,
             deliveries, compacted, runs)",
    columns: 11,
    then: "",
};

/// A segment and its position.
pub(super) struct SegmentRow {
    position: i64,
    segment: StoredSegment,
    compacted: bool,
    encoded: EncodedRuns,
}

impl SegmentRow {
    fn new(position: i64, segment: StoredSegment, compacted: bool) -> Result<Self, StoreError> {
        let encoded = EncodedRuns::of(&segment.runs)?;
        Ok(Self { position, segment, compacted, encoded })
    }

    fn bind(&self, arguments: &mut SqliteArguments) -> Result<(), BoxDynError> {
        arguments.add(self.position)?;
        arguments.add(self.encoded.first)?;
        arguments.add(self.encoded.last)?;
        arguments.add(self.segment.from.0)?;
        arguments.add(self.segment.to.0)?;
        arguments.add(self.segment.group)?;
        arguments.add(self.segment.node)?;
        arguments.add(self.segment.version)?;
        arguments.add(self.encoded.deliveries)?;
        arguments.add(i64::from(self.compacted))?;
        arguments.add(&self.encoded.bytes[..])
    }
}

/// Collects the segments of a part, whose words are cached.
pub(super) fn rows_of(part: &Part, group: i64, words: &SqliteWords) -> Result<Vec<SegmentRow>, StoreError> {
    let number = |text: &str| words.number(text).map_err(|error| StoreError::Bug(error.to_string()));
    let row = |new: NewSegment<'_>| {
        let (node, version) = (number(new.node)?, new.version.map(number).transpose()?);
        let segment = StoredSegment { group, runs: new.runs, node, version, from: new.from, to: new.to };
        SegmentRow::new(part.position.0, segment, false)
    };
    segments_of(part).into_iter().map(row).collect()
}

/// Appends segments.
pub(super) async fn append(tx: &mut SqliteConnection, rows: &[SegmentRow]) -> Result<(), StoreError> {
    let inserted = INSERT.run(tx, rows, |arguments, row| row.bind(arguments)).await?;
    expect_rows("appending handled sets", rows.len(), inserted)
}

/// Reads the segments of a position that have offsets from `from` to below `to`.
async fn between(
    connection: &mut SqliteConnection,
    position: i64,
    from: i64,
    to: i64,
) -> Result<Vec<StoredSegment>, StoreError> {
    let rows = sqlx::query(
        "SELECT first_offset, runs, group_id, node, version, from_at, to_at FROM handled_set
         WHERE position = ? AND first_offset > ? AND first_offset < ? AND last_offset >= ?",
    )
    .bind(position)
    .bind(from.saturating_sub(MAX_SPAN))
    .bind(to)
    .bind(from)
    .fetch_all(connection)
    .await
    .map_err(fault)?;
    rows.iter().map(|row| segment(&mut Columns::of(row))).collect()
}

fn segment(columns: &mut Columns<'_>) -> Result<StoredSegment, StoreError> {
    let (first, runs): (i64, Vec<u8>) = (columns.take()?, columns.take()?);
    Ok(StoredSegment {
        runs: decode(first, &runs)?,
        group: columns.take()?,
        node: columns.take()?,
        version: columns.take()?,
        from: columns.time()?,
        to: columns.time()?,
    })
}

/// Reads the offsets of a position's set at or above `next`.
pub(super) async fn settled_from(
    connection: &mut SqliteConnection,
    position: i64,
    next: Offset,
) -> Result<OffsetRuns, StoreError> {
    let segments = between(connection, position, next.0, i64::MAX).await?;
    Ok(offsets_from(segments.into_iter().map(|segment| segment.runs).collect(), next))
}

/// Reads the largest offset of a position's set.
pub(super) async fn last_offset(connection: &mut SqliteConnection, position: i64) -> Result<Option<i64>, StoreError> {
    sqlx::query_scalar("SELECT max(last_offset) FROM handled_set WHERE position = ?")
        .bind(position)
        .fetch_one(connection)
        .await
        .map_err(fault)
}

/// Removes the offsets from `from` to below `to` from a position's set, so that they are
/// received again as if for the first time. They no longer count as handled; a delivery
/// that has a row as well is counted by the row. `ended` has the offsets with a final row.
pub(super) async fn forget(
    tx: &mut SqliteConnection,
    position: i64,
    from: Offset,
    to: Offset,
    ended: Vec<Offset>,
) -> Result<(), StoreError> {
    let segments = between(tx, position, from.0, to.0).await?;
    if segments.is_empty() {
        return Ok(());
    }
    let firsts: Vec<i64> = segments.iter().filter_map(|segment| segment.runs.first()).map(|at| at.0).collect();
    remove(tx, position, &firsts).await?;
    let mut rows = ended;
    rows.extend(open_between(tx, position, from, to).await?);
    let (mut kept, mut counts) = (Vec::new(), Vec::new());
    for mut segment in segments {
        let gone = segment.runs.remove(from, to);
        let counted = rows.iter().filter(|offset| gone.contains(**offset)).count() as u64;
        counts.push((segment.group, segment.node, gone.len() - counted));
        if !segment.runs.is_empty() {
            kept.push(SegmentRow::new(position, segment, true)?);
        }
    }
    append(tx, &kept).await?;
    count_no_more(tx, &counts).await
}

/// Reads the offsets from `from` to below `to` that have an open row.
async fn open_between(
    tx: &mut SqliteConnection,
    position: i64,
    from: Offset,
    to: Offset,
) -> Result<Vec<Offset>, StoreError> {
    let offsets: Vec<i64> =
        sqlx::query_scalar("SELECT offset FROM open_delivery WHERE position = ? AND offset >= ? AND offset < ?")
            .bind(position)
            .bind(from.0)
            .bind(to.0)
            .fetch_all(tx)
            .await
            .map_err(fault)?;
    Ok(offsets.into_iter().map(Offset).collect())
}

async fn remove(tx: &mut SqliteConnection, position: i64, firsts: &[i64]) -> Result<(), StoreError> {
    let removed =
        sqlx::query("DELETE FROM handled_set WHERE position = ? AND first_offset IN (SELECT value FROM json_each(?))")
            .bind(position)
            .bind(json(&firsts)?)
            .execute(tx)
            .await
            .map_err(fault)?;
    expect_rows("removing segments of a handled set", firsts.len(), removed.rows_affected())
}

/// Subtracts handled deliveries from the totals: group, node and number.
async fn count_no_more(tx: &mut SqliteConnection, counts: &[(i64, i64, u64)]) -> Result<(), StoreError> {
    if counts.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE counter SET handled = counter.handled - gone.count
         FROM (SELECT value ->> 0 AS group_id, value ->> 1 AS node, sum(value ->> 2) AS count FROM json_each(?)
               GROUP BY 1, 2) AS gone
         WHERE counter.group_id = gone.group_id AND counter.node = gone.node",
    )
    .bind(json(&counts)?)
    .execute(tx)
    .await
    .map_err(fault)?;
    Ok(())
}

/// Finds the segment of each delivery.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    keys: &[DeliveryKey],
) -> Result<Vec<Option<StoredSegment>>, StoreError> {
    let mut found = Vec::with_capacity(keys.len());
    let mut last: Option<(i64, Vec<StoredSegment>, std::ops::Range<i64>)> = None;
    for key in keys {
        // Keys come in runs, so that the segments read for one often have the next.
        let at = key.offset.0;
        let covered = last.as_ref().is_some_and(|(id, _, range)| *id == key.position.0 && range.contains(&at));
        if !covered {
            let until = at.saturating_add(READ_AHEAD);
            last = Some((key.position.0, between(connection, key.position.0, at, until).await?, at..until));
        }
        let segments = last.iter().flat_map(|(_, segments, _)| segments);
        found.push(segments.into_iter().find(|segment| segment.runs.contains(key.offset)).cloned());
    }
    Ok(found)
}

/// Prepares deliveries that have a bit for running again: the attempt of each becomes a row,
/// and it no longer counts as handled. The bit stays, since a row goes before it. Returns how
/// often each of the deliveries was invoked.
pub(super) async fn reopen(tx: &mut SqliteConnection, keys: &[DeliveryKey]) -> Result<Vec<u32>, StoreError> {
    const KEEP: Bulk = Bulk {
        insert: "INSERT INTO attempt (position, offset, number, counted, version, node, started_at, finished_at, verdict)",
        columns: 9,
        then: "ON CONFLICT (position, offset, number) DO NOTHING",
    };
    let found = find(tx, keys).await?;
    let attempts: Vec<(&DeliveryKey, &StoredSegment)> =
        keys.iter().zip(&found).filter_map(|(key, segment)| Some((key, segment.as_ref()?))).collect();
    KEEP.run(tx, &attempts, |arguments, (key, segment)| {
        arguments.add(key.position.0)?;
        arguments.add(key.offset.0)?;
        arguments.add(1_i64)?;
        arguments.add(1_i64)?;
        arguments.add(segment.version)?;
        arguments.add(segment.node)?;
        arguments.add(segment.from.0)?;
        arguments.add(segment.to.0)?;
        arguments.add(Verdict::Success.code())
    })
    .await?;
    let counts: Vec<_> = attempts.iter().map(|(_, segment)| (segment.group, segment.node, 1)).collect();
    count_no_more(tx, &counts).await?;
    Ok(found.iter().map(|segment| u32::from(segment.is_some())).collect())
}

/// Adds the deliveries of handled sets that match a plan's filter and have no row to the plan,
/// which has `planned` items. Returns how many it added, and whether there may be more.
pub(super) async fn plan(
    tx: &mut SqliteConnection,
    id: i64,
    group: i64,
    filter: &DeliveryFilter,
    planned: u64,
) -> Result<(u64, bool), StoreError> {
    if !may_mean(filter) {
        return Ok((0, false));
    }
    let room = usize::try_from(u64::from(MAX_PLANNED).saturating_sub(planned)).unwrap_or(0);
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT h.position, p.next, h.first_offset, h.runs FROM handled_set h JOIN position p ON p.id = h.position
         WHERE h.group_id = ",
    );
    query.push_bind(group);
    if let Some(from) = filter.from {
        query.push(" AND h.to_at >= ").push_bind(from.0);
    }
    if let Some(to) = filter.to {
        query.push(" AND h.from_at < ").push_bind(to.0);
    }
    if let Some(topic) = &filter.topic {
        query.push(" AND p.topic = ").push_bind(clean(topic).into_owned());
    }
    query.push(" ORDER BY h.from_at, h.position, h.first_offset LIMIT ").push_bind(super::slices::rows(room + 1));
    let rows = query.build().persistent(false).fetch_all(&mut *tx).await.map_err(fault)?;
    let mut sets = PlannedSets::default();
    for row in &rows {
        let mut columns = Columns::of(row);
        let (position, next): (i64, i64) = (columns.take()?, columns.take()?);
        let (first, runs): (i64, Vec<u8>) = (columns.take()?, columns.take()?);
        if !sets.take(position, Offset(next), &decode(first, &runs)?, room) {
            break;
        }
    }
    let (found, more) = sets.planned(room);
    let inserted = sqlx::query(
        "INSERT INTO redrive_item (redrive, seq, position, offset, number, was_final, state)
         SELECT ?1, ?2 + row_number() OVER (ORDER BY v.key), v.value ->> 0, v.value ->> 1, NULL, 0, 1
         FROM json_each(?3) v
         WHERE NOT EXISTS (SELECT 1 FROM delivery d WHERE d.position = v.value ->> 0 AND d.offset = v.value ->> 1)
             AND NOT EXISTS (SELECT 1 FROM open_delivery o WHERE o.position = v.value ->> 0 AND o.offset = v.value ->> 1)",
    )
    .bind(id)
    .bind(planned.cast_signed())
    .bind(json(&found)?)
    .execute(tx)
    .await
    .map_err(fault)?;
    Ok((inserted.rows_affected(), more))
}

/// Removes old segments, except those above the position, which a claim needs.
pub(super) async fn prune(tx: &mut SqliteConnection, before: Timestamp, rows: usize) -> Result<bool, StoreError> {
    let removed = sqlx::query(
        "DELETE FROM handled_set WHERE rowid IN (
             SELECT h.rowid FROM handled_set h INDEXED BY handled_set_time WHERE h.to_at < ?
                 AND NOT EXISTS (SELECT 1 FROM position p WHERE p.id = h.position AND h.last_offset >= p.next
                     AND NOT EXISTS (SELECT 1 FROM position newer WHERE newer.group_id = p.group_id
                         AND newer.topic = p.topic AND newer.partition = p.partition
                         AND newer.listener = p.listener AND newer.incarnation > p.incarnation))
             ORDER BY h.to_at LIMIT ?)",
    )
    .bind(before.0)
    .bind(super::slices::rows(rows))
    .execute(tx)
    .await
    .map_err(fault)?;
    Ok(removed.rows_affected() >= rows as u64)
}

#[async_trait]
impl HandledSetStore for SqliteStore {
    async fn handled_at(&self, keys: &[DeliveryKey]) -> Result<Vec<Option<HandledAt>>, StoreError> {
        let mut tx = self.connections.readers.begin().await.map_err(fault)?;
        let mut told = Vec::with_capacity(keys.len());
        for segment in find(&mut tx, keys).await? {
            let Some(StoredSegment { node, version, from, to, .. }) = segment else {
                told.push(None);
                continue;
            };
            let row = sqlx::query("SELECT (SELECT text FROM word WHERE id = ?), (SELECT text FROM word WHERE id = ?)")
                .bind(node)
                .bind(version)
                .fetch_one(&mut *tx)
                .await
                .map_err(fault)?;
            let mut columns = Columns::of(&row);
            told.push(Some(HandledAt { node: columns.take()?, version: columns.take()?, from, to }));
        }
        tx.rollback().await.map_err(fault)?;
        Ok(told)
    }

    async fn groups_with_sets(&self, topics: Option<&[String]>) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(
            "SELECT g.name FROM consumer_group g WHERE EXISTS (
                 SELECT 1 FROM position p CROSS JOIN handled_set h ON h.position = p.id WHERE p.group_id = g.id
                     AND (?1 IS NULL OR p.topic IN (SELECT value FROM json_each(?1))))
             ORDER BY g.name",
        )
        .bind(optional_json(topics)?)
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)
    }

    async fn compact_sets(&self) -> Result<bool, StoreError> {
        let before = window_of(now());
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT p.id FROM position p WHERE EXISTS (
                 SELECT 1 FROM handled_set h WHERE h.position = p.id AND h.compacted = 0 AND h.from_at < ?) LIMIT 1",
        )
        .bind(before)
        .fetch_optional(&self.connections.readers)
        .await
        .map_err(fault)?;
        let Some(position) = found else { return Ok(false) };
        let mut tx = self.connections.write().await?;
        let rows = sqlx::query(
            "SELECT first_offset, runs, group_id, node, version, from_at, to_at FROM handled_set
             WHERE position = ? AND compacted = 0 AND from_at < ? ORDER BY from_at LIMIT ?",
        )
        .bind(position)
        .bind(before)
        .bind(COMPACTED_AT_ONCE)
        .fetch_all(&mut *tx)
        .await
        .map_err(fault)?;
        let segments: Vec<StoredSegment> =
            rows.iter().map(|row| segment(&mut Columns::of(row))).collect::<Result<_, _>>()?;
        let firsts: Vec<i64> = segments.iter().filter_map(|segment| segment.runs.first()).map(|at| at.0).collect();
        remove(&mut tx, position, &firsts).await?;
        let joined = join(segments).into_iter().map(|segment| SegmentRow::new(position, segment, true));
        append(&mut tx, &joined.collect::<Result<Vec<_>, _>>()?).await?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(true)
    }
}
