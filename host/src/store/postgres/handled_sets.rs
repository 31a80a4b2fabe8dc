//! Handled sets: deliveries that have a bit in a segment and no row.

use async_trait::async_trait;
use courier_core::message::{Offset, Timestamp};
use courier_core::offset_runs::{MAX_SPAN, OffsetRuns};
use courier_core::status::State;
use courier_core::verdict::Verdict;
use sqlx::postgres::{PgConnection, PgRow};

use super::columns::PgRowExt;
use super::error::at_statement;
use super::settle_open::{Deltas, count_open_rows, expect};
use super::settle_rows::PartPosition;
use super::words::{KnownWords, number};
use super::{PostgresStore, bounded, commit};
use crate::store::handled_sets::{
    COMPACTED_AT_ONCE, EncodedRuns, PlannedSets, READ_AHEAD, StoredSegment, decode, join, may_mean, offsets_from,
    segments_of, window_of,
};
use crate::store::redrive::MAX_PLANNED;
use crate::store::shared::text::clean;
use crate::store::{DeliveryFilter, DeliveryKey, HandledAt, HandledSetStore, Part, StoreError};

/// Rows of `handled_set` as arrays, one for each column.
#[derive(Default)]
pub(super) struct SetColumns {
    position: Vec<i64>,
    first: Vec<i64>,
    last: Vec<i64>,
    from: Vec<i64>,
    to: Vec<i64>,
    group: Vec<i32>,
    node: Vec<i32>,
    version: Vec<Option<i32>>,
    deliveries: Vec<i32>,
    runs: Vec<Vec<u8>>,
    /// The positions of all their deliveries, beside the offsets.
    of_position: Vec<i64>,
    offset: Vec<i64>,
}

impl SetColumns {
    /// Adds the segments of a part.
    pub(super) fn take(&mut self, place: PartPosition, part: &Part, words: &KnownWords<'_>) -> Result<(), StoreError> {
        for new in segments_of(part) {
            let version = new.version.map(|version| number(words, version)).transpose()?;
            self.offset.extend(new.runs.offsets().map(|offset| offset.0));
            self.of_position.resize(self.offset.len(), place.position);
            self.push(place, &new.runs, (number(words, new.node)?, version), (new.from, new.to))?;
        }
        Ok(())
    }

    fn push(
        &mut self,
        place: PartPosition,
        runs: &OffsetRuns,
        (node, version): (i32, Option<i32>),
        (from, to): (Timestamp, Timestamp),
    ) -> Result<(), StoreError> {
        let EncodedRuns { first, last, deliveries, bytes } = EncodedRuns::of(runs)?;
        self.position.push(place.position);
        self.first.push(first);
        self.last.push(last);
        self.from.push(from.0);
        self.to.push(to.0);
        self.group.push(place.group);
        self.node.push(node);
        self.version.push(version);
        self.deliveries.push(i32::try_from(deliveries).unwrap_or(i32::MAX));
        self.runs.push(bytes);
        Ok(())
    }

    fn push_stored(&mut self, position: i64, segment: &StoredSegment) -> Result<(), StoreError> {
        let words = (narrow(segment.node)?, segment.version.map(narrow).transpose()?);
        let place = PartPosition { position, group: narrow(segment.group)? };
        self.push(place, &segment.runs, words, (segment.from, segment.to))
    }

    /// Inserts them, and returns how many of their deliveries have an open row.
    async fn insert(&self, tx: &mut PgConnection, compacted: bool) -> Result<i64, StoreError> {
        sqlx::query(concat!(
            "WITH written AS (
                 INSERT INTO handled_set (position_id, first_offset, last_offset, from_at, to_at, group_id, node_id,
                     version_id, deliveries, runs, compacted)
                 SELECT s.*, $13 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                     $6::integer[], $7::integer[], $8::integer[], $9::integer[], $10::bytea[]) AS s
             )
             SELECT ",
            count_open_rows!("$1::bigint[], $2::bigint[], $3::bigint[]", "$11::bigint[], $12::bigint[]"),
            " AS open"
        ))
        .bind(&self.position)
        .bind(&self.first)
        .bind(&self.last)
        .bind(&self.from)
        .bind(&self.to)
        .bind(&self.group)
        .bind(&self.node)
        .bind(&self.version)
        .bind(&self.deliveries)
        .bind(&self.runs)
        .bind(&self.of_position)
        .bind(&self.offset)
        .bind(compacted)
        .fetch_one(tx)
        .await
        .map_err(at_statement)?
        .take("open")
    }
}

/// Narrows the number of a group or a word to its column in this dialect.
fn narrow(number: i64) -> Result<i32, StoreError> {
    i32::try_from(number).map_err(|_| StoreError::Bug(format!("the number {number} is out of its column's range")))
}

/// Appends the segments of a settle. A delivery that gets a bit must have no open row.
pub(super) async fn append(tx: &mut PgConnection, sets: &SetColumns) -> Result<(), StoreError> {
    if sets.position.is_empty() {
        return Ok(());
    }
    let open = sets.insert(tx, false).await?;
    expect(usize::try_from(open).unwrap_or(0), 0, "open rows of deliveries said to have none")
}

/// Selects the segments of a position (`$1`) that have offsets from `$4` to below `$3`.
macro_rules! between {
    ($lock:literal) => {
        concat!(
            "SELECT first_offset, runs, group_id, node_id, version_id, from_at, to_at FROM handled_set
             WHERE position_id = $1 AND first_offset > $2 AND first_offset < $3 AND last_offset >= $4",
            $lock
        )
    };
}

/// Reads the segments of a position that have offsets from `from` to below `to`.
async fn between(
    connection: &mut PgConnection,
    position: i64,
    from: i64,
    to: i64,
) -> Result<Vec<StoredSegment>, StoreError> {
    segments(connection, between!(""), position, (from, to)).await
}

async fn segments(
    connection: &mut PgConnection,
    select: &'static str,
    position: i64,
    (from, to): (i64, i64),
) -> Result<Vec<StoredSegment>, StoreError> {
    let rows = sqlx::query(select)
        .bind(position)
        .bind(from.saturating_sub(MAX_SPAN))
        .bind(to)
        .bind(from)
        .fetch_all(connection)
        .await
        .map_err(at_statement)?;
    rows.iter().map(segment).collect()
}

fn segment(row: &PgRow) -> Result<StoredSegment, StoreError> {
    Ok(StoredSegment {
        runs: decode(row.take("first_offset")?, row.take("runs")?)?,
        group: i64::from(row.take::<i32>("group_id")?),
        node: i64::from(row.take::<i32>("node_id")?),
        version: row.take::<Option<i32>>("version_id")?.map(i64::from),
        from: row.time("from_at")?,
        to: row.time("to_at")?,
    })
}

/// Reads the offsets of a position's set at or above `next`.
pub(super) async fn settled_from(
    connection: &mut PgConnection,
    position: i64,
    next: Offset,
) -> Result<OffsetRuns, StoreError> {
    let segments = between(connection, position, next.0, i64::MAX).await?;
    Ok(offsets_from(segments.into_iter().map(|segment| segment.runs).collect(), next))
}

/// Removes the offsets from `from` to below `to` from a position's set, so that they are
/// received again as if for the first time. They no longer count as handled; a delivery
/// that has a row as well is counted by the row. `ended` has the offsets with a final row.
/// The caller has locked the position.
pub(super) async fn forget(
    tx: &mut PgConnection,
    position: i64,
    (from, to): (Offset, Offset),
    ended: Vec<Offset>,
    deltas: &mut Deltas,
) -> Result<(), StoreError> {
    // Retention takes no lock of the position: a segment that it removed meanwhile would be
    // missed below.
    let segments = segments(tx, between!(" FOR UPDATE"), position, (from.0, to.0)).await?;
    if segments.is_empty() {
        return Ok(());
    }
    let firsts: Vec<i64> = segments.iter().filter_map(|segment| segment.runs.first()).map(|at| at.0).collect();
    remove(tx, position, &firsts).await?;
    let mut rows = ended;
    rows.extend(open_between(tx, position, from, to).await?);
    let mut kept = SetColumns::default();
    for mut segment in segments {
        let gone = segment.runs.remove(from, to);
        let counted = rows.iter().filter(|offset| gone.contains(**offset)).count() as u64;
        deltas.of(narrow(segment.group)?).ended(State::Handled, -(gone.len() - counted).cast_signed());
        if !segment.runs.is_empty() {
            kept.push_stored(position, &segment)?;
        }
    }
    kept.insert(tx, true).await?;
    Ok(())
}

/// Reads the offsets from `from` to below `to` that have an open row.
async fn open_between(
    tx: &mut PgConnection,
    position: i64,
    from: Offset,
    to: Offset,
) -> Result<Vec<Offset>, StoreError> {
    let rows = sqlx::query(
        "SELECT record_offset FROM open_delivery WHERE position_id = $1 AND record_offset >= $2 AND record_offset < $3",
    )
    .bind(position)
    .bind(from.0)
    .bind(to.0)
    .fetch_all(tx)
    .await
    .map_err(at_statement)?;
    rows.iter().map(|row| row.offset("record_offset")).collect()
}

async fn remove(tx: &mut PgConnection, position: i64, firsts: &[i64]) -> Result<(), StoreError> {
    let removed = sqlx::query("DELETE FROM handled_set WHERE position_id = $1 AND first_offset = ANY($2)")
        .bind(position)
        .bind(firsts)
        .execute(tx)
        .await
        .map_err(at_statement)?;
    let removed = usize::try_from(removed.rows_affected()).unwrap_or(0);
    expect(removed, firsts.len(), "segments of a handled set to remove")
}

/// Finds the segment of each delivery.
pub(super) async fn find(
    connection: &mut PgConnection,
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

/// Prepares deliveries that have a bit for running again: the attempt of each becomes a
/// row, and it no longer counts as handled. The bit stays, since a row goes before it.
/// Returns how often each of the deliveries was invoked. The caller has locked their
/// positions.
pub(super) async fn reopen(
    tx: &mut PgConnection,
    keys: &[DeliveryKey],
    deltas: &mut Deltas,
) -> Result<Vec<i32>, StoreError> {
    let found = find(tx, keys).await?;
    let (mut positions, mut offsets, mut nodes, mut versions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut began, mut ended) = (Vec::new(), Vec::new());
    for (key, segment) in keys.iter().zip(&found).filter_map(|(key, segment)| Some((key, segment.as_ref()?))) {
        positions.push(key.position.0);
        offsets.push(key.offset.0);
        nodes.push(narrow(segment.node)?);
        versions.push(segment.version.map(narrow).transpose()?);
        began.push(segment.from.0);
        ended.push(segment.to.0);
        deltas.of(narrow(segment.group)?).ended(State::Handled, -1);
    }
    if !positions.is_empty() {
        sqlx::query(
            "INSERT INTO attempt (position_id, record_offset, node_id, version_id, started_at, finished_at, number,
                 counted, verdict)
             SELECT a.*, 1, true, $7 FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::integer[],
                 $5::bigint[], $6::bigint[]) AS a
             ON CONFLICT DO NOTHING",
        )
        .bind(&positions)
        .bind(&offsets)
        .bind(&nodes)
        .bind(&versions)
        .bind(&began)
        .bind(&ended)
        .bind(Verdict::Success.code())
        .execute(tx)
        .await
        .map_err(at_statement)?;
    }
    Ok(found.iter().map(|segment| i32::from(segment.is_some())).collect())
}

/// Adds the deliveries of handled sets that match a plan's filter and have no row to the
/// plan, which has `planned` items. Returns how many it added, and whether there may be
/// more.
pub(super) async fn plan(
    tx: &mut PgConnection,
    id: i64,
    group: i32,
    filter: &DeliveryFilter,
    planned: u64,
) -> Result<(u64, bool), StoreError> {
    if !may_mean(filter) {
        return Ok((0, false));
    }
    let room = usize::try_from(u64::from(MAX_PLANNED).saturating_sub(planned)).unwrap_or(0);
    let rows = sqlx::query(
        "SELECT h.position_id, p.next, h.first_offset, h.runs FROM handled_set h JOIN position p ON p.id = h.position_id
         WHERE h.group_id = $1 AND ($2::bigint IS NULL OR h.to_at >= $2) AND ($3::bigint IS NULL OR h.from_at < $3)
             AND ($4::text IS NULL OR p.topic = $4)
         ORDER BY h.from_at, h.position_id, h.first_offset LIMIT $5",
    )
    .bind(group)
    .bind(filter.from.map(|from| from.0))
    .bind(filter.to.map(|to| to.0))
    .bind(filter.topic.as_deref().map(clean))
    .bind(i64::try_from(room + 1).unwrap_or(i64::MAX))
    .fetch_all(&mut *tx)
    .await
    .map_err(at_statement)?;
    let mut sets = PlannedSets::default();
    for row in &rows {
        let runs = decode(row.take("first_offset")?, row.take("runs")?)?;
        if !sets.take(row.take("position_id")?, Offset(row.take("next")?), &runs, room) {
            break;
        }
    }
    let (found, more) = sets.planned(room);
    let (positions, offsets): (Vec<i64>, Vec<i64>) = found.into_iter().unzip();
    let inserted = sqlx::query(
        "INSERT INTO redrive_item (redrive_id, seq, position_id, record_offset, number, was_final, state)
         SELECT $1, $2 + row_number() OVER (ORDER BY w.place), w.position_id, w.record_offset, NULL, false, 1
         FROM unnest($3::bigint[], $4::bigint[]) WITH ORDINALITY AS w (position_id, record_offset, place)
         WHERE NOT EXISTS (SELECT FROM delivery d
                 WHERE d.position_id = w.position_id AND d.record_offset = w.record_offset)
             AND NOT EXISTS (SELECT FROM open_delivery o
                 WHERE o.position_id = w.position_id AND o.record_offset = w.record_offset)",
    )
    .bind(id)
    .bind(planned.cast_signed())
    .bind(&positions)
    .bind(&offsets)
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok((inserted.rows_affected(), more))
}

/// Removes old segments, except those above the position, which a claim needs. `$1` is the
/// time before which a segment is old, `$2` the most that are removed.
pub(super) const PRUNE: &str = "
    DELETE FROM handled_set WHERE ctid = ANY (ARRAY (
        SELECT h.ctid FROM handled_set h WHERE h.to_at < $1
            AND NOT EXISTS (SELECT FROM position p
                WHERE p.id = h.position_id AND p.current AND h.last_offset >= p.next)
        ORDER BY h.to_at LIMIT $2)) AND to_at < $1";

#[async_trait]
impl HandledSetStore for PostgresStore {
    async fn handled_at(&self, keys: &[DeliveryKey]) -> Result<Vec<Option<HandledAt>>, StoreError> {
        bounded(handled_at(self, keys)).await
    }

    async fn groups_with_sets(&self, topics: Option<&[String]>) -> Result<Vec<String>, StoreError> {
        let read = sqlx::query(
            "SELECT g.name FROM consumer_group g WHERE EXISTS (
                 SELECT FROM position p WHERE p.group_id = g.id AND ($1::text[] IS NULL OR p.topic = ANY($1))
                     AND EXISTS (SELECT FROM handled_set h WHERE h.position_id = p.id))
             ORDER BY g.name",
        )
        .bind(topics)
        .fetch_all(&self.pool);
        bounded(async { read.await.map_err(at_statement) }).await?.iter().map(|row| row.take(0)).collect()
    }

    async fn compact_sets(&self) -> Result<bool, StoreError> {
        bounded(compact(self)).await
    }
}

async fn handled_at(store: &PostgresStore, keys: &[DeliveryKey]) -> Result<Vec<Option<HandledAt>>, StoreError> {
    let mut session = store.pool.acquire().await.map_err(at_statement)?;
    let mut told = Vec::with_capacity(keys.len());
    for segment in find(&mut session, keys).await? {
        let Some(StoredSegment { node, version, from, to, .. }) = segment else {
            told.push(None);
            continue;
        };
        let row = sqlx::query(
            "SELECT (SELECT word FROM word WHERE id = $1) AS node, (SELECT word FROM word WHERE id = $2) AS version",
        )
        .bind(node)
        .bind(version)
        .fetch_one(&mut *session)
        .await
        .map_err(at_statement)?;
        told.push(Some(HandledAt { node: row.take("node")?, version: row.take("version")?, from, to }));
    }
    Ok(told)
}

async fn compact(store: &PostgresStore) -> Result<bool, StoreError> {
    let mut tx = store.begin_tx().await?;
    let now = sqlx::query("SELECT courier_now() AS now").fetch_one(&mut *tx).await.map_err(at_statement)?;
    let before = window_of(now.time("now")?);
    // Every transaction that changes segments locks their position.
    let found = sqlx::query(
        "SELECT id FROM position p WHERE EXISTS (
             SELECT FROM handled_set h WHERE h.position_id = p.id AND NOT h.compacted AND h.from_at < $1)
         ORDER BY id LIMIT 1 FOR UPDATE",
    )
    .bind(before)
    .fetch_optional(&mut *tx)
    .await
    .map_err(at_statement)?;
    let Some(found) = found else { return Ok(false) };
    let position: i64 = found.take("id")?;
    let rows = sqlx::query(
        "SELECT first_offset, runs, group_id, node_id, version_id, from_at, to_at FROM handled_set
         WHERE position_id = $1 AND NOT compacted AND from_at < $2 ORDER BY from_at LIMIT $3 FOR UPDATE",
    )
    .bind(position)
    .bind(before)
    .bind(i64::from(COMPACTED_AT_ONCE))
    .fetch_all(&mut *tx)
    .await
    .map_err(at_statement)?;
    let segments: Vec<StoredSegment> = rows.iter().map(segment).collect::<Result<_, _>>()?;
    let firsts: Vec<i64> = segments.iter().filter_map(|segment| segment.runs.first()).map(|at| at.0).collect();
    remove(&mut tx, position, &firsts).await?;
    let mut joined = SetColumns::default();
    for segment in &join(segments) {
        joined.push_stored(position, segment)?;
    }
    joined.insert(&mut tx, true).await?;
    commit(tx).await?;
    Ok(true)
}
