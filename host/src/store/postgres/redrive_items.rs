//! The items of a redrive: finding those that are due, requesting their reruns, and
//! collecting their results.

use std::collections::BTreeMap;

use courier_core::message::{Kind, Timestamp};
use sqlx::postgres::{PgConnection, PgRow};

use super::columns::{self, PgRowExt};
use super::error::at_statement;
use super::reruns::{asking_time, reopen_many, wake_many};
use super::settle_open::{Class, Deltas, PEOPLE, expect};
use super::words::number;
use super::{PostgresStore, commit};
use crate::store::redrive::{
    DueItem, FORGOTTEN, FoundDelivery, ItemAsk, ItemState, MAX_STEP, RedriveId, RedriveLease, RedriveState,
    ReplayRecord, Step, result, step,
};
use crate::store::shared::text::clean;
use crate::store::{DeliveryKey, PositionId, StoreError};

/// Lists the next items, with what the store has of their deliveries.
pub(super) async fn due(store: &PostgresStore, id: RedriveId, limit: u32) -> Result<Vec<DueItem>, StoreError> {
    let rows = sqlx::query(
        "SELECT i.seq, i.position_id, i.record_offset, g.name, p.topic, p.partition, p.listener <> '' AS heard,
             o.position_id IS NOT NULL OR d.position_id IS NOT NULL AS has_row,
             o.record IS NOT NULL OR d.record IS NOT NULL AS has_record
         FROM (SELECT * FROM redrive_item WHERE redrive_id = $1 AND state = 1 AND state < 3 ORDER BY seq LIMIT $2) i
         JOIN position p ON p.id = i.position_id
         JOIN consumer_group g ON g.id = p.group_id
         LEFT JOIN open_delivery o ON o.position_id = i.position_id AND o.record_offset = i.record_offset
         LEFT JOIN delivery d ON d.position_id = i.position_id AND d.record_offset = i.record_offset
         ORDER BY i.seq",
    )
    .bind(id.0)
    .bind(i64::from(limit.min(MAX_STEP)))
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    rows.iter()
        .map(|row| {
            Ok(DueItem {
                seq: row.take("seq")?,
                key: key_of(row)?,
                group: row.take("name")?,
                topic: row.take("topic")?,
                partition: row.take("partition")?,
                kind: if row.take("heard")? { Kind::Broadcast } else { Kind::Event },
                has_row: row.take("has_row")?,
                has_record: row.take("has_record")?,
            })
        })
        .collect()
}

/// Locks the redrive, and returns whether the lease is the present one and the redrive in
/// this state.
async fn is_ours(tx: &mut PgConnection, lease: &RedriveLease, state: Option<RedriveState>) -> Result<bool, StoreError> {
    let row =
        sqlx::query("SELECT FROM redrive WHERE id = $1 AND epoch = $2 AND state = coalesce($3, state) FOR UPDATE")
            .bind(lease.id.0)
            .bind(lease.epoch)
            .bind(state.map(RedriveState::code))
            .fetch_optional(tx)
            .await
            .map_err(at_statement)?;
    Ok(row.is_some())
}

/// Requests the reruns of items or skips them, as `asks` says, and returns how many were
/// requested.
pub(super) async fn ask(
    store: &PostgresStore,
    lease: &RedriveLease,
    asks: &[(i64, ItemAsk)],
) -> Result<u64, StoreError> {
    let nodes = asks.iter().filter_map(|(_, ask)| match ask {
        ItemAsk::Replay(record) => Some(record.node.as_str()),
        _ => None,
    });
    store.words.learn(&store.pool, nodes).await?;
    let mut tx = store.begin_tx().await?;
    if !is_ours(&mut tx, lease, Some(RedriveState::Running)).await? {
        return Ok(0);
    }
    let asks: BTreeMap<i64, &ItemAsk> = asks.iter().map(|(seq, ask)| (*seq, ask)).collect();
    let seqs: Vec<i64> = asks.keys().copied().collect();
    let mut found = Vec::with_capacity(seqs.len());
    for row in &classify(&mut tx, lease.id, &seqs).await? {
        let (seq, key, has) = found_row(row)?;
        if let Some(ask) = asks.get(&seq) {
            found.push((seq, key, *ask, step(ask, has)));
        }
    }
    let at = asking_time(&mut tx).await?;
    let mut deltas = Deltas::default();
    let keys = |which: Step| found.iter().filter(move |one| one.3 == which).map(|one| one.1).collect::<Vec<_>>();
    let (reopened, woken) = (keys(Step::Reopen), keys(Step::Wake));
    let count = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
    expect(count(reopen_many(&mut tx, &reopened, at, &mut deltas).await?), reopened.len(), "deliveries to open again")?;
    let at_woken = Timestamp(at.0 + i64::try_from(reopened.len()).unwrap_or(0));
    expect(count(wake_many(&mut tx, &woken, at_woken, &mut deltas).await?), woken.len(), "open deliveries to wake")?;
    let at_new = Timestamp(at_woken.0 + i64::try_from(woken.len()).unwrap_or(0));
    let new: Vec<(DeliveryKey, &ReplayRecord)> = found
        .iter()
        .filter_map(|(_, key, ask, step)| match (step, ask) {
            (Step::Insert, ItemAsk::Replay(record)) => Some((*key, record)),
            _ => None,
        })
        .collect();
    insert_new(store, &mut tx, &new, at_new, &mut deltas).await?;
    let asked = mark(&mut tx, lease, &found, at).await?;
    deltas.write(&mut tx, PEOPLE).await?;
    commit(tx).await?;
    Ok(asked)
}

type Classified<'a> = (i64, DeliveryKey, &'a ItemAsk, Step);

/// Writes what was done with the items, and returns how many reruns were requested.
async fn mark(
    tx: &mut PgConnection,
    lease: &RedriveLease,
    found: &[Classified<'_>],
    at: Timestamp,
) -> Result<u64, StoreError> {
    let seqs: Vec<i64> = found.iter().map(|one| one.0).collect();
    let reasons: Vec<Option<&str>> = found
        .iter()
        .map(|one| match one.3 {
            Step::Skip(why) => Some(why),
            _ => None,
        })
        .collect();
    let ids: Vec<Option<std::borrow::Cow<'_, str>>> = found
        .iter()
        .map(|one| match one.2 {
            ItemAsk::Replay(record) => Some(clean(&record.message_id)),
            _ => None,
        })
        .collect();
    let skipped = reasons.iter().flatten().count();
    let marked = sqlx::query(
        "UPDATE redrive_item i SET state = CASE WHEN m.reason IS NULL THEN 2 ELSE 5 END, reason = m.reason,
             message_id = coalesce(i.message_id, m.message_id, (SELECT o.message_id FROM open_delivery o
                 WHERE o.position_id = i.position_id AND o.record_offset = i.record_offset)),
             asked_at = CASE WHEN m.reason IS NULL THEN $5 END,
             finished_at = CASE WHEN m.reason IS NOT NULL THEN $5 END
         FROM unnest($2::bigint[], $3::text[], $4::text[]) AS m (seq, reason, message_id)
         WHERE i.redrive_id = $1 AND i.seq = m.seq AND i.state = 1",
    )
    .bind(lease.id.0)
    .bind(&seqs)
    .bind(&reasons)
    .bind(&ids)
    .bind(at.0)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    expect(usize::try_from(marked.rows_affected()).unwrap_or(0), seqs.len(), "items to mark")?;
    let asked = seqs.len() - skipped;
    sqlx::query("UPDATE redrive SET running = running + $2, skipped = skipped + $3 WHERE id = $1")
        .bind(lease.id.0)
        .bind(i64::try_from(asked).unwrap_or(0))
        .bind(i64::try_from(skipped).unwrap_or(0))
        .execute(tx)
        .await
        .map_err(at_statement)?;
    Ok(asked as u64)
}

/// Locks the positions of the items, and reads what the store has of their deliveries.
async fn classify(tx: &mut PgConnection, id: RedriveId, seqs: &[i64]) -> Result<Vec<PgRow>, StoreError> {
    sqlx::query(
        "SELECT FROM position WHERE id IN (
             SELECT position_id FROM redrive_item WHERE redrive_id = $1 AND seq = ANY($2)) ORDER BY id FOR UPDATE",
    )
    .bind(id.0)
    .bind(seqs)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    // Retention locks no position, and would remove a row between the look and the rerun.
    sqlx::query(
        "SELECT FROM redrive_item i JOIN delivery d ON d.position_id = i.position_id AND d.record_offset = i.record_offset
         WHERE i.redrive_id = $1 AND i.seq = ANY($2) AND i.state = 1
         ORDER BY d.position_id, d.record_offset FOR UPDATE OF d",
    )
    .bind(id.0)
    .bind(seqs)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    sqlx::query(
        "SELECT i.seq, i.position_id, i.record_offset, i.number AS planned, i.was_final, d.state AS ended,
             d.number AS ended_number, o.number AS open, p.current AND NOT EXISTS (
                 SELECT FROM listener l WHERE l.group_id = p.group_id AND l.topic = p.topic AND l.node = p.listener
                     AND l.gone_at IS NOT NULL) AS current, i.record_offset < p.next AS passed
         FROM redrive_item i
         JOIN position p ON p.id = i.position_id
         LEFT JOIN delivery d ON d.position_id = i.position_id AND d.record_offset = i.record_offset
         LEFT JOIN open_delivery o ON o.position_id = i.position_id AND o.record_offset = i.record_offset
         WHERE i.redrive_id = $1 AND i.seq = ANY($2) AND i.state = 1 ORDER BY i.seq",
    )
    .bind(id.0)
    .bind(seqs)
    .fetch_all(tx)
    .await
    .map_err(at_statement)
}

/// The delivery that an item is about.
pub(super) fn key_of(row: &PgRow) -> Result<DeliveryKey, StoreError> {
    Ok(DeliveryKey { position: PositionId(row.take("position_id")?), offset: row.offset("record_offset")? })
}

fn found_row(row: &PgRow) -> Result<(i64, DeliveryKey, FoundDelivery), StoreError> {
    let number = |column: &str| Ok::<_, StoreError>(row.take::<Option<i32>>(column)?.map(columns::count));
    let ended = row.take::<Option<i16>>("ended")?.map(columns::state).transpose()?;
    let found = FoundDelivery {
        planned: number("planned")?,
        was_final: row.take("was_final")?,
        ended: ended.zip(number("ended_number")?),
        open: number("open")?,
        current: row.take("current")?,
        passed: row.take("passed")?,
    };
    Ok((row.take("seq")?, key_of(row)?, found))
}

/// Inserts open rows for deliveries that have no row. Their records are read from Kafka.
async fn insert_new(
    store: &PostgresStore,
    tx: &mut PgConnection,
    new: &[(DeliveryKey, &ReplayRecord)],
    at: Timestamp,
    deltas: &mut Deltas,
) -> Result<(), StoreError> {
    if new.is_empty() {
        return Ok(());
    }
    let ranges: Vec<_> = new.iter().map(|(key, _)| (key.position.0, key.offset.0, key.offset.0 + 1)).collect();
    super::attempts::remove_left_over(tx, &ranges).await?;
    let (positions, offsets): (Vec<i64>, Vec<i64>) = new.iter().map(|(key, _)| (key.position.0, key.offset.0)).unzip();
    let nodes = {
        let known = store.words.known();
        new.iter().map(|(_, record)| number(&known, &record.node)).collect::<Result<Vec<i32>, _>>()?
    };
    let times: Vec<i64> = new.iter().map(|(_, record)| record.record_time.0).collect();
    let ids: Vec<_> = new.iter().map(|(_, record)| clean(&record.message_id)).collect();
    let keys: Vec<Option<&[u8]>> = new.iter().map(|(_, record)| record.key.as_deref()).collect();
    let types: Vec<_> = new.iter().map(|(_, record)| clean(&record.type_name)).collect();
    let reopened: Vec<DeliveryKey> = new.iter().map(|(key, _)| *key).collect();
    let invoked = super::handled_sets::reopen(tx, &reopened, deltas).await?;
    let rows = sqlx::query(
        "WITH made AS (
             INSERT INTO open_delivery (position_id, record_offset, record_time, received_at, next_attempt_at, asked_at,
                 group_id, node_id, number, counted, state, held, message_id, key, type_name)
             SELECT n.position_id, n.record_offset, n.record_time, $8 + n.place - 1, $8 + n.place - 1,
                 $8 + n.place - 1, p.group_id, n.node_id, n.number, 0, 2, false, n.message_id, n.key, n.type_name
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::text[], $6::bytea[], $7::text[],
                 $9::integer[]) WITH ORDINALITY
                 AS n (position_id, record_offset, record_time, node_id, message_id, key, type_name, number, place)
             JOIN position p ON p.id = n.position_id
             RETURNING group_id
         )
         SELECT group_id, count(*) AS count FROM made GROUP BY group_id",
    )
    .bind(&positions)
    .bind(&offsets)
    .bind(&times)
    .bind(&nodes)
    .bind(&ids)
    .bind(&keys)
    .bind(&types)
    .bind(at.0)
    .bind(&invoked)
    .fetch_all(tx)
    .await
    .map_err(at_statement)?;
    let mut made = 0;
    for row in &rows {
        let count: i64 = row.take("count")?;
        deltas.of(row.take("group_id")?).add(Class::Waiting, count);
        made += count;
    }
    expect(usize::try_from(made).unwrap_or(0), new.len(), "deliveries of a replay")
}

/// Counts the items whose delivery waits for its next attempt.
pub(super) async fn retrying(store: &PostgresStore, id: RedriveId) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT count(*) AS count FROM redrive_item i
         JOIN open_delivery o ON o.position_id = i.position_id AND o.record_offset = i.record_offset
         WHERE i.redrive_id = $1 AND i.state = 2 AND i.state < 3 AND o.next_attempt_at > courier_now()",
    )
    .bind(id.0)
    .fetch_one(&store.pool)
    .await
    .map_err(at_statement)?;
    Ok(row.take::<i64>("count")?.unsigned_abs())
}

/// Writes the results of items, and ends a redrive that has no item left.
pub(super) async fn collect(store: &PostgresStore, lease: &RedriveLease) -> Result<(), StoreError> {
    // Read before the transaction: a delivery that is final stays so until its next rerun is
    // requested, and then it is this item's result all the same.
    let rows = sqlx::query(
        "SELECT i.seq, d.state, o.held, coalesce(d.reason, o.reason) AS reason, d.settled_at, courier_now() AS now
         FROM redrive_item i
         LEFT JOIN delivery d ON d.position_id = i.position_id AND d.record_offset = i.record_offset
         LEFT JOIN open_delivery o ON o.position_id = i.position_id AND o.record_offset = i.record_offset
         WHERE i.redrive_id = $1 AND i.state = 2 AND i.state < 3 AND (o.position_id IS NULL OR o.held)
         ORDER BY i.seq LIMIT $2",
    )
    .bind(lease.id.0)
    .bind(i64::from(MAX_STEP))
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let mut marks = Marks::default();
    for row in &rows {
        let ended = row.take::<Option<i16>>("state")?.map(columns::state).transpose()?;
        let Some(state) = result(ended, row.take("held")?) else { continue };
        let reason = match state {
            ItemState::Handled => None,
            ItemState::Skipped => Some(FORGOTTEN.to_owned()),
            _ => row.take("reason")?,
        };
        marks.seqs.push(row.take("seq")?);
        marks.states.push(state.code());
        marks.reasons.push(reason);
        marks.times.push(row.take::<Option<i64>>("settled_at")?.unwrap_or(row.take("now")?));
    }
    if marks.seqs.is_empty() && (lease.running > 0 || !lease.asks) {
        return Ok(());
    }
    let mut tx = store.begin_tx().await?;
    if !is_ours(&mut tx, lease, None).await? {
        return Ok(());
    }
    let marked = sqlx::query(
        "UPDATE redrive_item i SET state = m.state, reason = m.reason, finished_at = m.finished_at
         FROM unnest($2::bigint[], $3::smallint[], $4::text[], $5::bigint[]) AS m (seq, state, reason, finished_at)
         WHERE i.redrive_id = $1 AND i.seq = m.seq AND i.state = 2",
    )
    .bind(lease.id.0)
    .bind(&marks.seqs)
    .bind(&marks.states)
    .bind(&marks.reasons)
    .bind(&marks.times)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    expect(usize::try_from(marked.rows_affected()).unwrap_or(0), marks.seqs.len(), "results to mark")?;
    sqlx::query(
        "UPDATE redrive SET running = running - $2 - $3 - $4, handled = handled + $2, failed = failed + $3,
             skipped = skipped + $4,
             state = CASE WHEN state = 2 AND matched = handled + failed + skipped + $2 + $3 + $4 THEN 4 ELSE state END,
             finished_at = CASE WHEN state = 2 AND matched = handled + failed + skipped + $2 + $3 + $4
                 THEN courier_now() ELSE finished_at END
         WHERE id = $1",
    )
    .bind(lease.id.0)
    .bind(marks.count(ItemState::Handled))
    .bind(marks.count(ItemState::HandleFail))
    .bind(marks.count(ItemState::Skipped))
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    commit(tx).await
}

/// The results of items.
#[derive(Default)]
struct Marks {
    seqs: Vec<i64>,
    states: Vec<i16>,
    reasons: Vec<Option<String>>,
    times: Vec<i64>,
}

impl Marks {
    fn count(&self, state: ItemState) -> i64 {
        let count = self.states.iter().filter(|marked| **marked == state.code()).count();
        i64::try_from(count).unwrap_or(i64::MAX)
    }
}
