//! The items of a redrive: finding those that are due, requesting their reruns, and collecting
//! their results.

use std::collections::BTreeMap;

use courier_core::message::{Kind, Timestamp};
use courier_core::status::State;
use sqlx::sqlite::SqliteRow;
use sqlx::{Arguments, SqliteConnection};

use super::SqliteStore;
use super::bulk::Bulk;
use super::columns::{Columns, expect_rows, json, now};
use super::error::{commit_fault, fault};
use super::reruns::{asking_time, reopen_many, wake_many};
use crate::store::redrive::{
    DueItem, FORGOTTEN, FoundDelivery, ItemAsk, ItemState, MAX_STEP, RedriveId, RedriveLease, RedriveState,
    ReplayRecord, Step, result, step,
};
use crate::store::shared::text::{clean, clean_opt};
use crate::store::{DeliveryKey, PositionId, StoreError};

/// Marks items of the redrive `?1` by the list `?2`: number, state, reason and message id.
///
/// The list is materialized so that each of its items is looked up by its number. Otherwise
/// SQLite reads all items of the redrive and the whole list for each: a step of 1,000 in a
/// redrive of 20,000 took ten seconds, for which no outcome was written.
const MARK_ASKED: &str = "
    WITH m AS MATERIALIZED (
        SELECT value ->> 0 AS seq, value ->> 1 AS state, value ->> 2 AS reason, value ->> 3 AS message_id
        FROM json_each(?2))
    UPDATE redrive_item SET state = m.state, reason = m.reason,
        message_id = coalesce(redrive_item.message_id, m.message_id,
            (SELECT o.message_id FROM open_delivery o
             WHERE o.position = redrive_item.position AND o.offset = redrive_item.offset)),
        asked_at = iif(m.state = 2, ?3, NULL),
        finished_at = iif(m.state = 2, NULL, ?3)
    FROM m WHERE redrive = ?1 AND redrive_item.seq = m.seq AND redrive_item.state = 1";
/// Marks items of the redrive `?1` by the list `?2`: number, state, reason and time. It is
/// materialized as in [`MARK_ASKED`].
const MARK_RESULTS: &str = "
    WITH m AS MATERIALIZED (
        SELECT value ->> 0 AS seq, value ->> 1 AS state, value ->> 2 AS reason, value ->> 3 AS at FROM json_each(?2))
    UPDATE redrive_item SET state = m.state, reason = m.reason, finished_at = m.at
    FROM m WHERE redrive = ?1 AND redrive_item.seq = m.seq AND redrive_item.state = 2";

/// Lists the next items, with what the store has of their deliveries.
pub(super) async fn due(store: &SqliteStore, id: RedriveId, limit: u32) -> Result<Vec<DueItem>, StoreError> {
    let rows = sqlx::query(
        "SELECT i.seq, i.position, i.offset, g.name, p.topic, p.partition, p.listener <> '',
             EXISTS (SELECT 1 FROM open_delivery o WHERE o.position = i.position AND o.offset = i.offset)
             OR EXISTS (SELECT 1 FROM delivery d WHERE d.position = i.position AND d.offset = i.offset),
             EXISTS (SELECT 1 FROM kept_record k WHERE k.position = i.position AND k.offset = i.offset)
         FROM redrive_item i JOIN position p ON p.id = i.position JOIN consumer_group g ON g.id = p.group_id
         WHERE i.redrive = ? AND i.state = 1 AND i.state < 3 ORDER BY i.seq LIMIT ?",
    )
    .bind(id.0)
    .bind(limit.min(MAX_STEP))
    .fetch_all(&store.connections.readers)
    .await
    .map_err(fault)?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok(DueItem {
                seq: columns.take()?,
                key: DeliveryKey { position: PositionId(columns.take()?), offset: columns.offset()? },
                group: columns.take()?,
                topic: columns.take()?,
                partition: columns.number()?,
                kind: if columns.flag()? { Kind::Broadcast } else { Kind::Event },
                has_row: columns.flag()?,
                has_record: columns.flag()?,
            })
        })
        .collect()
}

/// Requests the reruns of items or skips them, as `asks` says, and returns how many were
/// requested.
pub(super) async fn ask(store: &SqliteStore, lease: &RedriveLease, asks: &[(i64, ItemAsk)]) -> Result<u64, StoreError> {
    let nodes = asks.iter().filter_map(|(_, ask)| match ask {
        ItemAsk::Replay(record) => Some(record.node.as_str()),
        _ => None,
    });
    store.words.learn(&store.connections, nodes.collect::<Vec<_>>().into_iter()).await?;
    let mut tx = store.connections.write().await?;
    if !is_ours(&mut tx, lease, Some(RedriveState::Running)).await? {
        return Ok(0);
    }
    let asks: BTreeMap<i64, &ItemAsk> = asks.iter().map(|(seq, ask)| (*seq, ask)).collect();
    let mut found = Vec::new();
    for row in &classify(&mut tx, lease.id, &asks.keys().copied().collect::<Vec<_>>()).await? {
        let (seq, key, has) = found_row(row)?;
        if let Some(ask) = asks.get(&seq) {
            found.push((seq, key, *ask, step(ask, has)));
        }
    }
    let at = asking_time(&mut tx).await?;
    let keys = |which: Step| found.iter().filter(move |one| one.3 == which).map(|one| one.1).collect::<Vec<_>>();
    let (reopened, woken) = (keys(Step::Reopen), keys(Step::Wake));
    reopen_many(&mut tx, &reopened, at).await?;
    let at_woken = Timestamp(at.0 + i64::try_from(reopened.len()).unwrap_or(0));
    wake_many(&mut tx, &woken, at_woken).await?;
    let at_new = Timestamp(at_woken.0 + i64::try_from(woken.len()).unwrap_or(0));
    let new: Vec<(DeliveryKey, &ReplayRecord)> = found
        .iter()
        .filter_map(|(_, key, ask, step)| match (step, ask) {
            (Step::Insert, ItemAsk::Replay(record)) => Some((*key, record)),
            _ => None,
        })
        .collect();
    insert_new(&mut tx, &new, at_new, &store.words).await?;
    let (mut asked, mut skipped) = (0_i64, 0_i64);
    let mut marks: Vec<(i64, i16, Option<&str>, Option<&str>)> = Vec::with_capacity(found.len());
    for (seq, _, ask, step) in &found {
        let id = match ask {
            ItemAsk::Replay(record) => Some(record.message_id.as_str()),
            _ => None,
        };
        match step {
            Step::Skip(why) => {
                skipped += 1;
                marks.push((*seq, ItemState::Skipped.code(), Some(why), id));
            }
            _ => {
                asked += 1;
                marks.push((*seq, ItemState::Running.code(), None, id));
            }
        }
    }
    let marked = sqlx::query(MARK_ASKED)
        .bind(lease.id.0)
        .bind(json(&marks)?)
        .bind(at.0)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
    expect_rows("marking items", marks.len(), marked.rows_affected())?;
    sqlx::query("UPDATE redrive SET running = running + ?2, skipped = skipped + ?3 WHERE id = ?1")
        .bind(lease.id.0)
        .bind(asked)
        .bind(skipped)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
    tx.commit().await.map_err(commit_fault)?;
    Ok(asked.unsigned_abs())
}

/// Counts the items whose delivery waits for its next attempt.
pub(super) async fn retrying(store: &SqliteStore, id: RedriveId) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM redrive_item i
         JOIN open_delivery o ON o.position = i.position AND o.offset = i.offset
         WHERE i.redrive = ? AND i.state = 2 AND i.state < 3 AND o.next_attempt_at > ?",
    )
    .bind(id.0)
    .bind(now().0)
    .fetch_one(&store.connections.readers)
    .await
    .map_err(fault)?;
    Ok(count.unsigned_abs())
}

/// Writes the results of items, and ends a redrive that has no item left.
pub(super) async fn collect(store: &SqliteStore, lease: &RedriveLease) -> Result<(), StoreError> {
    // Read before the transaction: a delivery that is final stays so until its next rerun is
    // requested, and then it is this item's result all the same.
    let rows = sqlx::query(
        "SELECT i.seq, d.state, o.held, coalesce(d.reason, o.reason), d.settled_at
         FROM redrive_item i
         LEFT JOIN delivery d ON d.position = i.position AND d.offset = i.offset
         LEFT JOIN open_delivery o ON o.position = i.position AND o.offset = i.offset
         WHERE i.redrive = ? AND i.state = 2 AND i.state < 3 AND (o.position IS NULL OR o.held = 1)
         ORDER BY i.seq LIMIT ?",
    )
    .bind(lease.id.0)
    .bind(MAX_STEP)
    .fetch_all(&store.connections.readers)
    .await
    .map_err(fault)?;
    let mut marks: Vec<(i64, i16, Option<String>, i64)> = Vec::new();
    for row in &rows {
        let mut columns = Columns::of(row);
        let (seq, ended, held): (i64, Option<i16>, Option<i64>) =
            (columns.take()?, columns.number_option()?, columns.take()?);
        let (reason, settled_at): (Option<String>, Option<i64>) = (columns.take()?, columns.take()?);
        match result(ended.and_then(State::from_code), held.map(|held| held != 0)) {
            Some(ItemState::Skipped) => {
                marks.push((seq, ItemState::Skipped.code(), Some(FORGOTTEN.to_owned()), now().0));
            }
            Some(state) => {
                let reason = reason.filter(|_| state != ItemState::Handled);
                marks.push((seq, state.code(), reason, settled_at.unwrap_or(now().0)));
            }
            None => {}
        }
    }
    if marks.is_empty() && (lease.running > 0 || !lease.asks) {
        return Ok(());
    }
    let mut tx = store.connections.write().await?;
    if !is_ours(&mut tx, lease, None).await? {
        return Ok(());
    }
    let marked =
        sqlx::query(MARK_RESULTS).bind(lease.id.0).bind(json(&marks)?).execute(&mut *tx).await.map_err(fault)?;
    expect_rows("marking results", marks.len(), marked.rows_affected())?;
    let count =
        |state: ItemState| super::slices::rows(marks.iter().filter(|(_, marked, ..)| *marked == state.code()).count());
    sqlx::query(
        "UPDATE redrive SET running = running - ?2 - ?3 - ?4, handled = handled + ?2, failed = failed + ?3,
             skipped = skipped + ?4 WHERE id = ?1",
    )
    .bind(lease.id.0)
    .bind(count(ItemState::Handled))
    .bind(count(ItemState::HandleFail))
    .bind(count(ItemState::Skipped))
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    sqlx::query(
        "UPDATE redrive SET state = 4, finished_at = ?2
         WHERE id = ?1 AND state = 2 AND matched = handled + failed + skipped",
    )
    .bind(lease.id.0)
    .bind(now().0)
    .execute(&mut *tx)
    .await
    .map_err(fault)?;
    tx.commit().await.map_err(commit_fault)
}

/// Reads whether the lease is the present one and the redrive in this state.
async fn is_ours(
    tx: &mut SqliteConnection,
    lease: &RedriveLease,
    state: Option<RedriveState>,
) -> Result<bool, StoreError> {
    let found: i64 = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM redrive WHERE id = ?1 AND epoch = ?2 AND state = coalesce(?3, state))",
    )
    .bind(lease.id.0)
    .bind(lease.epoch)
    .bind(state.map(RedriveState::code))
    .fetch_one(tx)
    .await
    .map_err(fault)?;
    Ok(found != 0)
}

/// Reads what the store has of the items' deliveries.
async fn classify(tx: &mut SqliteConnection, id: RedriveId, seqs: &[i64]) -> Result<Vec<SqliteRow>, StoreError> {
    sqlx::query(
        "SELECT i.seq, i.position, i.offset, i.number, i.was_final, d.state, d.number, o.number,
             NOT p.gone AND NOT EXISTS (SELECT 1 FROM position n WHERE n.group_id = p.group_id AND n.topic = p.topic
                         AND n.partition = p.partition AND n.listener = p.listener
                         AND n.incarnation > p.incarnation)
                 AND NOT EXISTS (SELECT 1 FROM listener l WHERE l.group_id = p.group_id AND l.topic = p.topic
                                 AND l.node = p.listener AND l.gone_at IS NOT NULL),
             i.offset < p.next
         FROM json_each(?2) s CROSS JOIN redrive_item i ON i.redrive = ?1 AND i.seq = s.value
         JOIN position p ON p.id = i.position
         LEFT JOIN delivery d ON d.position = i.position AND d.offset = i.offset
         LEFT JOIN open_delivery o ON o.position = i.position AND o.offset = i.offset
         WHERE i.state = 1 ORDER BY i.seq",
    )
    .bind(id.0)
    .bind(json(&seqs)?)
    .fetch_all(tx)
    .await
    .map_err(fault)
}

fn found_row(row: &SqliteRow) -> Result<(i64, DeliveryKey, FoundDelivery), StoreError> {
    let mut columns = Columns::of(row);
    let seq = columns.take()?;
    let key = DeliveryKey { position: PositionId(columns.take()?), offset: columns.offset()? };
    let (planned, was_final) = (columns.number_option()?, columns.flag()?);
    let (state, number): (Option<i16>, Option<u32>) = (columns.number_option()?, columns.number_option()?);
    let ended = state.and_then(State::from_code).zip(number);
    let found = FoundDelivery {
        planned,
        was_final,
        ended,
        open: columns.number_option()?,
        current: columns.flag()?,
        passed: columns.flag()?,
    };
    Ok((seq, key, found))
}

/// Inserts open rows for deliveries that have no row. Their records are read from Kafka.
async fn insert_new(
    tx: &mut SqliteConnection,
    new: &[(DeliveryKey, &ReplayRecord)],
    at: Timestamp,
    words: &super::words::SqliteWords,
) -> Result<(), StoreError> {
    const INSERT: Bulk = Bulk {
        insert: "INSERT INTO open_delivery (position, offset, group_id, state, next_attempt_at, held, asked_at,
                 record_time, received_at, number, counted, node, message_id, key, type_name)",
        columns: 15,
        then: "",
    };
    let mut groups: BTreeMap<i64, i64> = BTreeMap::new();
    for (key, _) in new {
        if let std::collections::btree_map::Entry::Vacant(entry) = groups.entry(key.position.0) {
            let group = sqlx::query_scalar("SELECT group_id FROM position WHERE id = ?")
                .bind(key.position.0)
                .fetch_one(&mut *tx)
                .await
                .map_err(fault)?;
            entry.insert(group);
        }
    }
    let keys: Vec<DeliveryKey> = new.iter().map(|(key, _)| *key).collect();
    let invoked = super::handled_sets::reopen(tx, &keys).await?;
    let rows: Vec<(i64, u32, &(DeliveryKey, &ReplayRecord))> =
        (0_i64..).zip(invoked).zip(new).map(|((place, invoked), new)| (place, invoked, new)).collect();
    let inserted = INSERT
        .run(tx, &rows, |arguments, (place, invoked, (key, record))| {
            let at = at.0 + place;
            arguments.add(key.position.0)?;
            arguments.add(key.offset.0)?;
            arguments.add(groups.get(&key.position.0).copied())?;
            arguments.add(State::Committed.code())?;
            arguments.add(at)?;
            arguments.add(0_i64)?;
            arguments.add(at)?;
            arguments.add(record.record_time.0)?;
            arguments.add(at)?;
            arguments.add(i64::from(*invoked))?;
            arguments.add(0_i64)?;
            arguments.add(words.number(&record.node)?)?;
            arguments.add(clean(&record.message_id).as_ref())?;
            arguments.add(record.key.as_deref())?;
            arguments.add(clean_opt(Some(&record.type_name)).as_deref())
        })
        .await?;
    expect_rows("opening deliveries of a replay", rows.len(), inserted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::connect::Connections;

    #[tokio::test]
    async fn items_are_marked_by_their_number_and_not_by_a_scan_of_the_redrive() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("store.db").display());
        let connections = Connections::open(&url).await.unwrap();
        for statement in [MARK_ASKED, MARK_RESULTS] {
            let mut tx = connections.write().await.unwrap();
            let plan = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
                .fetch_all(&mut *tx)
                .await
                .unwrap();
            let plan: Vec<String> = plan.iter().map(|row| sqlx::Row::get(row, 3)).collect();
            let searches = |line: &String| line.starts_with("SEARCH redrive_item") && line.contains("seq=?");
            assert!(plan.iter().any(searches), "{plan:?}");
        }
    }
}
