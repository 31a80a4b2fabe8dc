//! Writing the items of a plan.

use courier_core::status::State;
use sqlx::postgres::{PgConnection, Postgres};
use sqlx::query_builder::QueryBuilder;

use super::columns::PgRowExt;
use super::error::at_statement;
use crate::store::redrive::{MAX_PLAN_SCAN, MAX_PLANNED, NewRedrive, RedriveId};
use crate::store::shared::tables::DeliveryTable;
use crate::store::shared::text::clean;
use crate::store::{DeliveryFilter, StoreError};

/// Inserts the items of a plan. Returns how many there are and whether more matched than a
/// plan holds.
pub(super) async fn insert(
    tx: &mut PgConnection,
    group: i32,
    RedriveId(id): RedriveId,
    plan: &NewRedrive,
) -> Result<(u64, bool), StoreError> {
    if let Some(ranges) = &plan.ranges {
        let positions: Vec<i64> = ranges.iter().map(|range| range.position.0).collect();
        let from: Vec<i64> = ranges.iter().map(|range| range.from.0).collect();
        let to: Vec<i64> = ranges.iter().map(|range| range.to.0).collect();
        return Ok((replayed(tx, id, &positions, &from, &to).await?, false));
    }
    let (rows, cut) = found(tx, id, group, &plan.filter).await?;
    let (bits, more) = super::handled_sets::plan(tx, id, group, &plan.filter, rows).await?;
    Ok((rows + bits, cut || more))
}

/// Inserts an item for every offset of the ranges. Whether its record exists is known only
/// when it is read.
async fn replayed(
    tx: &mut PgConnection,
    id: i64,
    positions: &[i64],
    from: &[i64],
    to: &[i64],
) -> Result<u64, StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO redrive_item (redrive_id, seq, position_id, record_offset, number, was_final, state)
         SELECT $1, row_number() OVER (ORDER BY r.position_id, at), r.position_id, at, NULL, false, 1
         FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS r (position_id, first, until),
             generate_series(r.first, r.until - 1) AS at LIMIT $5",
    )
    .bind(id)
    .bind(positions)
    .bind(from)
    .bind(to)
    .bind(i64::from(MAX_PLANNED))
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok(inserted.rows_affected())
}

/// Inserts an item for every delivery that matches, oldest first, and returns how many there
/// are and whether there may be more.
async fn found(tx: &mut PgConnection, id: i64, group: i32, filter: &DeliveryFilter) -> Result<(u64, bool), StoreError> {
    let wants_final = matches!(filter.state, None | Some(State::Handled | State::HandleFail));
    let wants_open = matches!(filter.state, None | Some(State::HandleFail | State::PushFail));
    let positions = positions(tx, group, filter).await?;
    if !wants_final && !wants_open {
        return Ok((0, false));
    }
    let mut query = QueryBuilder::<Postgres>::new("INSERT INTO redrive_item ");
    query.push("(redrive_id, seq, position_id, record_offset, number, was_final, state, message_id) SELECT ");
    query.push_bind(id).push(", row_number() OVER (ORDER BY at, position_id, record_offset), position_id, ");
    query.push("record_offset, number, was_final, 1, message_id FROM (SELECT * FROM (");
    if wants_final {
        push_table(&mut query, group, &positions, filter, DeliveryTable::Final);
    }
    if wants_final && wants_open {
        query.push(" UNION ALL ");
    }
    if wants_open {
        push_table(&mut query, group, &positions, filter, DeliveryTable::Open);
    }
    query.push(") a ORDER BY at, position_id, record_offset LIMIT ").push_bind(i64::from(MAX_PLANNED) + 1).push(") b");
    let inserted = query.build().persistent(false).execute(&mut *tx).await.map_err(at_statement)?.rows_affected();
    if inserted <= u64::from(MAX_PLANNED) {
        return Ok((inserted, wants_final && is_cut(tx, group, &positions, filter).await?));
    }
    sqlx::query("DELETE FROM redrive_item WHERE redrive_id = $1 AND seq > $2")
        .bind(id)
        .bind(i64::from(MAX_PLANNED))
        .execute(tx)
        .await
        .map_err(at_statement)?;
    Ok((u64::from(MAX_PLANNED), true))
}

/// Reads the positions of a group, on the filter's topic if it names one.
async fn positions(tx: &mut PgConnection, group: i32, filter: &DeliveryFilter) -> Result<Vec<i64>, StoreError> {
    sqlx::query_scalar("SELECT id FROM position WHERE group_id = $1 AND ($2::text IS NULL OR topic = $2)")
        .bind(group)
        .bind(filter.topic.as_deref().map(clean))
        .fetch_all(tx)
        .await
        .map_err(at_statement)
}

/// Whether the rows that a filter looks through are more than one plan may.
async fn is_cut(
    tx: &mut PgConnection,
    group: i32,
    positions: &[i64],
    filter: &DeliveryFilter,
) -> Result<bool, StoreError> {
    let mut query = QueryBuilder::<Postgres>::new("SELECT count(*) FROM (");
    push_slice(&mut query, group, positions, filter, DeliveryTable::Final);
    query.push(") s");
    let row = query.build().persistent(false).fetch_one(tx).await.map_err(at_statement)?;
    Ok(row.take::<i64>(0)? >= i64::from(MAX_PLAN_SCAN))
}

/// Appends the rows of a group, state and span of time, oldest first. Failed ones are found by
/// their group. No index of handled ones begins with the group: the server finds them by their
/// positions or by time, whichever it expects to read less for. Rows of other groups are not
/// counted in either case; they would hide those of this group.
fn push_slice(
    query: &mut QueryBuilder<Postgres>,
    group: i32,
    positions: &[i64],
    filter: &DeliveryFilter,
    table: DeliveryTable,
) {
    let (name, at) = (table.name(), table.time());
    query.push("SELECT ").push(at).push(" AS at, position_id, record_offset, number, message_id, type_name, key, ");
    query.push("fingerprint, group_id, state FROM ").push(name).push(" WHERE ");
    match filter.state {
        Some(state @ State::Handled) => {
            query.push("state = ").push_bind(state.code()).push(" AND position_id = ANY(");
            query.push_bind(positions.to_vec()).push(")")
        }
        // A partial index is used only for a condition in its own words.
        None | Some(State::HandleFail) if table == DeliveryTable::Final => {
            query.push("state <> 5 AND state = 4 AND group_id = ").push_bind(group)
        }
        None => query.push("state IN (3, 4) AND group_id = ").push_bind(group),
        Some(state) => query.push("state = ").push_bind(state.code()).push(" AND group_id = ").push_bind(group),
    };
    if let Some(from) = filter.from {
        query.push(" AND ").push(at).push(" >= ").push_bind(from.0);
    }
    if let Some(to) = filter.to {
        query.push(" AND ").push(at).push(" < ").push_bind(to.0);
    }
    query.push(" ORDER BY ").push(at).push(" LIMIT ").push_bind(i64::from(MAX_PLAN_SCAN));
}

fn push_table(
    query: &mut QueryBuilder<Postgres>,
    group: i32,
    positions: &[i64],
    filter: &DeliveryFilter,
    table: DeliveryTable,
) {
    query.push("SELECT at, position_id, record_offset, number, ").push(table == DeliveryTable::Final);
    query.push(" AS was_final, message_id FROM (");
    push_slice(query, group, positions, filter, table);
    query.push(") s WHERE group_id = ").push_bind(group);
    if let Some(state) = filter.state {
        query.push(" AND state = ").push_bind(state.code());
    }
    if let Some(topic) = &filter.topic {
        query.push(" AND position_id IN (SELECT id FROM position WHERE topic = ");
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
