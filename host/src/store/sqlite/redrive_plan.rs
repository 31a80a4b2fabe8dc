//! Writing the items of a plan.

use courier_core::status::State;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::columns::json;
use super::error::fault;
use crate::store::redrive::{MAX_PLAN_SCAN, MAX_PLANNED, NewRedrive, RedriveId};
use crate::store::shared::tables::DeliveryTable;
use crate::store::shared::text::clean;
use crate::store::{DeliveryFilter, StoreError};

/// Inserts the items of a plan. Returns how many there are and whether more matched than a
/// plan holds.
pub(super) async fn insert(
    tx: &mut SqliteConnection,
    group: i64,
    RedriveId(id): RedriveId,
    plan: &NewRedrive,
) -> Result<(u64, bool), StoreError> {
    if let Some(ranges) = &plan.ranges {
        let ranges: Vec<_> = ranges.iter().map(|range| (range.position.0, range.from.0, range.to.0)).collect();
        return Ok((replayed(tx, id, &json(&ranges)?).await?, false));
    }
    let (rows, cut) = found(tx, id, group, &plan.filter).await?;
    let (bits, more) = super::handled_sets::plan(tx, id, group, &plan.filter, rows).await?;
    Ok((rows + bits, cut || more))
}

/// Inserts an item for every offset of the ranges. Whether its record exists is known only when
/// it is read.
async fn replayed(tx: &mut SqliteConnection, id: i64, ranges: &str) -> Result<u64, StoreError> {
    let inserted = sqlx::query(
        "WITH RECURSIVE span (position, at, until) AS (
             SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?2) WHERE value ->> 1 < value ->> 2
             UNION ALL SELECT position, at + 1, until FROM span WHERE at + 1 < until
         )
         INSERT INTO redrive_item (redrive, seq, position, offset, number, was_final, state)
         SELECT ?1, row_number() OVER (ORDER BY position, at), position, at, NULL, 0, 1 FROM span LIMIT ?3",
    )
    .bind(id)
    .bind(ranges)
    .bind(MAX_PLANNED)
    .execute(tx)
    .await
    .map_err(fault)?;
    Ok(inserted.rows_affected())
}

/// Inserts an item for every delivery that matches, oldest first, and returns how many there are
/// and whether there may be more.
async fn found(
    tx: &mut SqliteConnection,
    id: i64,
    group: i64,
    filter: &DeliveryFilter,
) -> Result<(u64, bool), StoreError> {
    let wants_final = matches!(filter.state, None | Some(State::Handled | State::HandleFail));
    let wants_open = matches!(filter.state, None | Some(State::HandleFail | State::PushFail));
    if !wants_final && !wants_open {
        return Ok((0, false));
    }
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO redrive_item ");
    query.push("(redrive, seq, position, offset, number, was_final, state, message_id) SELECT ").push_bind(id);
    query.push(
        ", row_number() OVER (ORDER BY at, position, offset), position, offset, number, was_final, 1, message_id",
    );
    query.push(" FROM (SELECT * FROM (");
    if wants_final {
        push_table(&mut query, group, filter, DeliveryTable::Final);
    }
    if wants_final && wants_open {
        query.push(" UNION ALL ");
    }
    if wants_open {
        push_table(&mut query, group, filter, DeliveryTable::Open);
    }
    query.push(") ORDER BY at, position, offset LIMIT ").push_bind(i64::from(MAX_PLANNED) + 1).push(")");
    let inserted = query.build().persistent(false).execute(&mut *tx).await.map_err(fault)?.rows_affected();
    if inserted <= u64::from(MAX_PLANNED) {
        return Ok((inserted, wants_final && is_cut(tx, group, filter).await?));
    }
    sqlx::query("DELETE FROM redrive_item WHERE redrive = ? AND seq > ?")
        .bind(id)
        .bind(MAX_PLANNED)
        .execute(tx)
        .await
        .map_err(fault)?;
    Ok((u64::from(MAX_PLANNED), true))
}

/// Whether the rows that a filter looks through are more than one plan may.
async fn is_cut(tx: &mut SqliteConnection, group: i64, filter: &DeliveryFilter) -> Result<bool, StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT count(*) FROM (");
    push_slice(&mut query, group, filter, DeliveryTable::Final);
    query.push(")");
    let rows: i64 = query.build_query_scalar().persistent(false).fetch_one(tx).await.map_err(fault)?;
    Ok(rows >= i64::from(MAX_PLAN_SCAN))
}

/// Appends the rows of a group, state and span of time, oldest first.
fn push_slice(query: &mut QueryBuilder<Sqlite>, group: i64, filter: &DeliveryFilter, table: DeliveryTable) {
    let (name, at) = (table.name(), table.time());
    query.push(format_args!("SELECT {at} AS at, position, offset, number, message_id, type_name, key, fingerprint"));
    query.push(format_args!(" FROM {name} WHERE group_id = ")).push_bind(group);
    match filter.state {
        // A partial index is used only for a condition with its own literal.
        None | Some(State::HandleFail) if table == DeliveryTable::Final => query.push(" AND state <> 5 AND state = 4"),
        None => query.push(" AND state IN (3, 4)"),
        Some(state) => query.push(" AND state = ").push_bind(state.code()),
    };
    if let Some(from) = filter.from {
        query.push(format_args!(" AND {at} >= ")).push_bind(from.0);
    }
    if let Some(to) = filter.to {
        query.push(format_args!(" AND {at} < ")).push_bind(to.0);
    }
    query.push(format_args!(" ORDER BY {at} LIMIT {MAX_PLAN_SCAN}"));
}

fn push_table(query: &mut QueryBuilder<Sqlite>, group: i64, filter: &DeliveryFilter, table: DeliveryTable) {
    let was_final = i32::from(table == DeliveryTable::Final);
    query.push(format_args!("SELECT at, position, offset, number, {was_final} AS was_final, message_id FROM ("));
    push_slice(query, group, filter, table);
    query.push(") WHERE true");
    if let Some(topic) = &filter.topic {
        query.push(" AND position IN (SELECT id FROM position WHERE topic = ");
        query.push_bind(clean(topic).into_owned()).push(")");
    }
    if let Some(type_name) = &filter.type_name {
        query.push(" AND type_name = ").push_bind(clean(type_name).into_owned());
    }
    if let Some(key) = &filter.key {
        query.push(" AND key = ").push_bind(key.to_vec());
    }
    if let Some(fingerprint) = &filter.fingerprint {
        query.push(" AND fingerprint = ").push_bind(clean(fingerprint).into_owned());
    }
    if let Some(message_id) = &filter.message_id {
        query.push(" AND message_id = ").push_bind(clean(message_id).into_owned());
    }
}
