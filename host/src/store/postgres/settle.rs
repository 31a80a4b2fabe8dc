//! Settling: one transaction makes the outcomes of a batch durable. On the plain path,
//! deliveries handled at once, it takes four round trips whatever the size of the batch.
//!
//! 1. `BEGIN`.
//! 2. [`lock`]: the writer's sequence is raised, and the positions are locked under their
//!    epochs.
//! 3. [`finish`]: final rows, positions and totals.
//! 4. `COMMIT`.
//!
//! The statements on open rows, attempts, state and outbound rows come between the second
//! and the third, each only when it has rows.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use courier_core::status::State;
use sqlx::postgres::PgConnection;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::handled_sets::{self, SetColumns};
use super::settle_open::{self, Class, DeltaColumns, Deltas, count_open_rows, expect};
use super::settle_rows::{AttemptColumns, FinalColumns, OpenColumns, OutboundColumns, PartPosition};
use super::troubles::DeadLetters;
use super::words::KnownWords;
use super::{PostgresStore, commit, prompt};
use crate::store::shared::text::clean;
use crate::store::{Becomes, OutcomeRow, Part, SettleStore, Settled, StoreError, WriterId};

#[async_trait]
impl SettleStore for PostgresStore {
    async fn settle(&self, writer: WriterId, sequence: i64, parts: &[Part]) -> Result<Settled, StoreError> {
        prompt(settle(self, writer, sequence, parts)).await
    }

    async fn sequence(&self, writer: WriterId) -> Result<i64, StoreError> {
        prompt(sequence(self, writer)).await
    }
}

async fn settle(store: &PostgresStore, writer: WriterId, sequence: i64, parts: &[Part]) -> Result<Settled, StoreError> {
    store.words.learn(&store.pool, parts.iter().flat_map(|part| &part.outcomes).flat_map(words_of)).await?;
    let mut tx = store.begin_tx().await?;
    let locked = lock(&mut tx, writer, sequence, parts).await?;
    let mut deltas = Deltas::default();
    let batch = Batch::of(parts, &locked, &store.words.known(), &mut deltas)?;
    settle_open::check_rows(&mut tx, &batch.had_position, &batch.had_offset, &mut deltas).await?;
    settle_open::close(&mut tx, &batch.closed).await?;
    settle_open::insert(&mut tx, &batch.opened).await?;
    settle_open::update(&mut tx, &batch.kept).await?;
    insert_attempts(&mut tx, &batch.attempts).await?;
    if !batch.outbound.is_empty() {
        batch.outbound.insert().execute(&mut *tx).await.map_err(at_statement)?;
    }
    batch.dead_letters.write(&mut tx).await?;
    write_state(&mut tx, &batch.state).await?;
    handled_sets::append(&mut tx, &batch.sets).await?;
    finish(&mut tx, &batch, &deltas, locked.node).await?;
    commit(tx).await?;
    Ok(Settled { stale: batch.stale })
}

/// The nodes and versions that an outcome names.
fn words_of(row: &OutcomeRow) -> impl Iterator<Item = &str> {
    let of_attempts = row.attempts.iter().flat_map(|attempt| [Some(&*attempt.node), attempt.version.as_deref()]);
    [Some(&*row.node), row.version.as_deref()].into_iter().chain(of_attempts).flatten()
}

/// What [`lock`] found.
struct Locked {
    /// The writer's node as a word.
    node: i32,
    /// The epochs and groups of the positions that the writer still owns.
    positions: HashMap<i64, (i64, i32)>,
}

/// Raises the writer's sequence and locks the positions whose epochs are still those of
/// `parts`, in the order of their ids.
///
/// The writer's row is locked first. `COMMIT` is sent only after this statement was
/// answered. So a transaction whose commit got no answer holds that row until it ends, and
/// [`sequence`] waits for it and reads what became of it.
async fn lock(tx: &mut PgConnection, writer: WriterId, sequence: i64, parts: &[Part]) -> Result<Locked, StoreError> {
    let (ids, epochs): (Vec<i64>, Vec<i64>) = parts.iter().map(|part| (part.position.0, part.epoch)).unzip();
    let rows = sqlx::query(
        "WITH advanced AS (
             UPDATE writer SET sequence = $2 WHERE id = $1 AND sequence = $2 - 1 RETURNING node_id
         ), locked AS (
             SELECT p.id, p.epoch, p.group_id FROM unnest($3::bigint[], $4::bigint[]) AS part (id, epoch)
             JOIN position p ON p.id = part.id AND p.epoch = part.epoch
             WHERE EXISTS (SELECT FROM advanced)
             ORDER BY p.id FOR UPDATE OF p
         )
         SELECT a.node_id, l.id, l.epoch, l.group_id FROM advanced a LEFT JOIN locked l ON true",
    )
    .bind(writer.0)
    .bind(sequence)
    .bind(&ids)
    .bind(&epochs)
    .fetch_all(&mut *tx)
    .await
    .map_err(at_statement)?;
    let Some(first) = rows.first() else {
        return Err(out_of_sequence(tx, writer, sequence).await?);
    };
    let mut positions = HashMap::with_capacity(rows.len());
    for row in &rows {
        if let Some(position) = row.take::<Option<i64>>("id")? {
            positions.insert(position, (row.take("epoch")?, row.take("group_id")?));
        }
    }
    Ok(Locked { node: first.take("node_id")?, positions })
}

/// The error for a sequence that was not raised.
async fn out_of_sequence(tx: &mut PgConnection, writer: WriterId, sequence: i64) -> Result<StoreError, StoreError> {
    let row = sqlx::query("SELECT sequence FROM writer WHERE id = $1")
        .bind(writer.0)
        .fetch_optional(tx)
        .await
        .map_err(at_statement)?;
    Ok(match row.map(|row| row.take::<i64>(0)).transpose()? {
        None => StoreError::Fenced(format!("writer {} is unknown", writer.0)),
        Some(at) => StoreError::Bug(format!("writer {} settles as {sequence} but stands at {at}", writer.0)),
    })
}

/// The outcomes of the parts that the writer owns, by the statements that write them.
#[derive(Default)]
struct Batch<'a> {
    stale: Vec<usize>,
    /// Final rows of deliveries without an open row.
    finished: FinalColumns<'a>,
    /// Final rows of deliveries with one.
    closed: FinalColumns<'a>,
    /// Segments of deliveries that have no row.
    sets: SetColumns,
    /// New open rows.
    opened: OpenColumns<'a>,
    /// Open rows that stay.
    kept: OpenColumns<'a>,
    had_position: Vec<i64>,
    had_offset: Vec<i64>,
    attempts: AttemptColumns<'a>,
    outbound: OutboundColumns<'a>,
    dead_letters: DeadLetters,
    /// The last write of each key, in key order, so that two hosts which write
    /// the same keys of a group take the rows in one order.
    state: BTreeMap<(i32, &'a str), Option<&'a [u8]>>,
    /// The new positions.
    next: BTreeMap<i64, i64>,
}

impl<'a> Batch<'a> {
    fn of(parts: &'a [Part], locked: &Locked, words: &KnownWords<'_>, deltas: &mut Deltas) -> Result<Self, StoreError> {
        let mut batch = Self::default();
        for (index, part) in parts.iter().enumerate() {
            // A part of an earlier claim may stand beside one of the present claim.
            let Some((_, group)) = locked.positions.get(&part.position.0).filter(|(epoch, _)| *epoch == part.epoch)
            else {
                batch.stale.push(index);
                continue;
            };
            let place = PartPosition { position: part.position.0, group: *group };
            let next = batch.next.entry(place.position).or_insert(part.next.0);
            *next = part.next.0.max(*next);
            batch.sets.take(place, part, words)?;
            for row in &part.outcomes {
                batch.take(place, row, words, deltas)?;
            }
        }
        Ok(batch)
    }

    fn take(
        &mut self,
        place: PartPosition,
        row: &'a OutcomeRow,
        words: &KnownWords<'_>,
        deltas: &mut Deltas,
    ) -> Result<(), StoreError> {
        let of_group = deltas.of(place.group);
        row.check()?;
        match &row.to {
            Becomes::Final { state, settled_at, record } => {
                of_group.ended(*state, 1);
                let columns = if row.had_row { &mut self.closed } else { &mut self.finished };
                let record = record.as_deref().filter(|_| *state != State::Handled);
                columns.push(place, row, (state.code(), settled_at.0, record), words)?;
            }
            Becomes::InHandledSet { .. } => of_group.ended(State::Handled, 1),
            Becomes::Open { state, next_attempt_at, held, record } => {
                of_group.add(Class::of(*state, *held), 1);
                let columns = if row.had_row { &mut self.kept } else { &mut self.opened };
                let due = next_attempt_at.map(|at| at.0);
                columns.push(place, row, (state.code(), due, *held, record.as_deref()), words)?;
            }
        }
        if row.had_row {
            self.had_position.push(place.position);
            self.had_offset.push(row.offset.0);
        }
        for attempt in &row.attempts {
            self.attempts.push(place, row.offset.0, attempt, words)?;
        }
        row.outbound.iter().for_each(|outbound| self.outbound.push(outbound));
        self.dead_letters.take(place.position, place.group, row);
        for (key, value) in &row.state_writes {
            self.state.insert((place.group, key), value.as_deref());
        }
        Ok(())
    }
}

async fn insert_attempts(tx: &mut PgConnection, rows: &AttemptColumns<'_>) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    rows.bind(sqlx::query(
        "INSERT INTO attempt (position_id, record_offset, number, node_id, version_id, started_at, finished_at, verdict,
             counted, reason, fingerprint, log)
         SELECT unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::integer[]), unnest($4::integer[]),
             unnest($5::integer[]), unnest($6::bigint[]), unnest($7::bigint[]), unnest($8::smallint[]),
             unnest($9::boolean[]), unnest($10::text[]), unnest($11::text[]), unnest($12::text[])",
    ))
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok(())
}

/// Writes the state of groups. A deletion is written as null, so that one statement takes
/// all row locks in order; a second statement for deletions could wait for another host in
/// a circle.
async fn write_state(tx: &mut PgConnection, writes: &BTreeMap<(i32, &str), Option<&[u8]>>) -> Result<(), StoreError> {
    if writes.is_empty() {
        return Ok(());
    }
    let groups: Vec<i32> = writes.keys().map(|(group, _)| *group).collect();
    let keys: Vec<_> = writes.keys().map(|(_, key)| clean(key)).collect();
    let values: Vec<Option<&[u8]>> = writes.values().copied().collect();
    sqlx::query(
        "INSERT INTO state AS s (group_id, key, value, written_at)
         SELECT w.group_id, w.key, w.value, courier_now()
         FROM unnest($1::integer[], $2::text[], $3::bytea[]) WITH ORDINALITY AS w (group_id, key, value, place)
         ORDER BY w.place
         ON CONFLICT (group_id, key) DO UPDATE SET value = excluded.value, written_at = excluded.written_at",
    )
    .bind(&groups)
    .bind(&keys)
    .bind(&values)
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok(())
}

/// Runs the last statement: final rows of deliveries without an open row, the new
/// positions, and the totals of this node.
///
/// All parts of the statement see the tables as they were before it, as the check for open
/// rows that must not exist needs.
///
/// The final rows come from `unnest` in the select list. In `FROM` the server would store
/// all rows once before it inserts them, which costs a fifth of the insertion.
async fn finish(tx: &mut PgConnection, batch: &Batch<'_>, deltas: &Deltas, node: i32) -> Result<(), StoreError> {
    let (ids, nexts): (Vec<i64>, Vec<i64>) = batch.next.iter().unzip();
    let (range_position, first, last) = batch.finished.ranges();
    let DeltaColumns { group, sums: [handled, failed, waiting, push_fail, retrying, held] } = deltas.columns();
    let row = batch
        .finished
        .bind(sqlx::query(concat!(
            "WITH written AS (
                 INSERT INTO delivery (position_id, record_offset, record_time, received_at, started_at, settled_at,
                     day, group_id, node_id, version_id, number, counted, state, verdict, message_id, key, type_name,
                     reason, fingerprint, record, source_hash)
                 SELECT unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::bigint[]), unnest($4::bigint[]),
                     unnest($5::bigint[]), unnest($6::bigint[]), unnest($7::integer[]), unnest($8::integer[]),
                     unnest($9::integer[]), unnest($10::integer[]), unnest($11::integer[]), unnest($12::integer[]),
                     unnest($13::smallint[]), unnest($14::smallint[]), unnest($15::text[]), unnest($16::bytea[]),
                     unnest($17::text[]), unnest($18::text[]), unnest($19::text[]), unnest($20::bytea[]),
                     unnest($21::bigint[])
             ), moved AS (
                 UPDATE position p SET next = greatest(p.next, m.next) FROM unnest($22::bigint[], $23::bigint[]) AS m (id, next)
                 WHERE p.id = m.id RETURNING 1
             ), summed AS (
                 INSERT INTO counter AS c (group_id, node_id, handled, failed, waiting, push_fail, retrying, held)
                 SELECT d.group_id, $24, d.handled, d.failed, d.waiting, d.push_fail, d.retrying, d.held
                 FROM unnest($25::integer[], $26::bigint[], $27::bigint[], $28::bigint[], $29::bigint[], $30::bigint[],
                     $31::bigint[]) AS d (group_id, handled, failed, waiting, push_fail, retrying, held)
                 ORDER BY d.group_id
                 ON CONFLICT (group_id, node_id) DO UPDATE SET
                     handled = c.handled + excluded.handled, failed = c.failed + excluded.failed,
                     waiting = c.waiting + excluded.waiting, push_fail = c.push_fail + excluded.push_fail,
                     retrying = c.retrying + excluded.retrying, held = c.held + excluded.held
             )
             SELECT (SELECT count(*) FROM moved), ",
            count_open_rows!("$32::bigint[], $33::bigint[], $34::bigint[]", "$1::bigint[], $2::bigint[]")
        )))
        .bind(&ids)
        .bind(&nexts)
        .bind(node)
        .bind(group)
        .bind(handled)
        .bind(failed)
        .bind(waiting)
        .bind(push_fail)
        .bind(retrying)
        .bind(held)
        .bind(&range_position)
        .bind(&first)
        .bind(&last)
        .fetch_one(tx)
        .await
        .map_err(at_statement)?;
    expect(usize::try_from(row.take::<i64>(0)?).unwrap_or(0), ids.len(), "positions to move")?;
    expect(usize::try_from(row.take::<i64>(1)?).unwrap_or(0), 0, "open rows of deliveries said to have none")
}

/// Reads the writer's sequence under a lock. When the answer to a commit was lost, the
/// server may still be working on that transaction, which holds the writer's row. Without
/// the lock the old sequence would be read, the settle repeated, and the first one would
/// commit after all.
async fn sequence(store: &PostgresStore, writer: WriterId) -> Result<i64, StoreError> {
    let row = sqlx::query("SELECT sequence FROM writer WHERE id = $1 FOR UPDATE")
        .bind(writer.0)
        .fetch_optional(&store.pool)
        .await
        .map_err(at_statement)?;
    row.ok_or_else(|| StoreError::NotFound(format!("writer {} is unknown", writer.0)))?.take(0)
}
