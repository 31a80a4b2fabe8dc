//! Lists of deliveries: open and final rows, newest first.
//!
//! At most one page of each table is read, in the same order, and the two are merged. The
//! order is that of the times at which deliveries were settled or, while they are open,
//! received.
//!
//! A filter that an index answers is exact. Any other filter reads one slice of each
//! table: the [`SLICE_ROWS`] rows before the cursor by the best index ([`led`]), down to
//! the same time in both. The page is `truncated` then, and its cursor leads to the next
//! slice, also when this one had no match.

use async_trait::async_trait;
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;
use sqlx::postgres::{PgRow, Postgres};
use sqlx::query_builder::QueryBuilder;

use super::columns::{self, PgRowExt};
use super::error::at_statement;
use super::{PostgresStore, SLICE_ROWS, attempts, bounded};
use crate::store::shared::paging::no_cursor;
use crate::store::shared::tables::DeliveryTable;
use crate::store::shared::text::clean;
use crate::store::{
    AttemptRow, DeliveryFilter, DeliveryKey, DeliveryRow, DeliveryStore, Listing, MAX_PAGE, Page, PositionId,
    SourceHash, StoreError,
};

#[async_trait]
impl DeliveryStore for PostgresStore {
    async fn deliveries(&self, filter: &DeliveryFilter, page: &Page) -> Result<Listing<DeliveryRow>, StoreError> {
        // A token of one group reads by that group's indexes, and not among the rows of others.
        let mut filter = filter.clone();
        if let (None, Some([only])) = (&filter.group, filter.groups.as_deref()) {
            filter.group = Some(only.clone());
        }
        bounded(deliveries(self, &filter, page)).await
    }

    async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError> {
        bounded(delivery(self, key)).await
    }

    async fn attempts(&self, keys: &[DeliveryKey]) -> Result<Vec<Vec<AttemptRow>>, StoreError> {
        bounded(attempts::attempts(self, keys)).await
    }
}

/// The cursor of a page: the time and key of its last row.
#[derive(Clone, Copy)]
struct DeliveryCursor {
    at: i64,
    position: i64,
    offset: i64,
}

impl DeliveryCursor {
    fn parse(text: &str) -> Result<Self, StoreError> {
        let numbers: Option<Vec<i64>> = text.split('.').map(|number| number.parse().ok()).collect();
        match numbers.as_deref() {
            Some([at, position, offset]) => Ok(Self { at: *at, position: *position, offset: *offset }),
            _ => Err(no_cursor(text)),
        }
    }

    fn of(row: &DeliveryRow) -> Self {
        let Timestamp(at) = row.settled_at.unwrap_or(row.received_at);
        let Offset(offset) = row.key.offset;
        Self { at, position: row.key.position.0, offset }
    }

    fn order(self) -> (i64, i64, i64) {
        (self.at, self.position, self.offset)
    }

    fn text(self) -> String {
        format!("{}.{}.{}", self.at, self.position, self.offset)
    }
}

async fn deliveries(
    store: &PostgresStore,
    filter: &DeliveryFilter,
    page: &Page,
) -> Result<Listing<DeliveryRow>, StoreError> {
    let cursor = page.cursor.as_deref().map(DeliveryCursor::parse).transpose()?;
    let limit = page.limit.clamp(1, MAX_PAGE) as usize;
    let tables = [DeliveryTable::Open, DeliveryTable::Final];
    let tables = tables.into_iter().filter(|table| filter.state.is_none_or(|state| table.has(state)));
    let mut slice: Option<i64> = None;
    for table in tables.clone() {
        slice = slice.max(slice_start(store, table, filter, cursor).await?);
    }
    let mut items = Vec::new();
    for table in tables {
        let mut query = select(table, filter, cursor, slice, limit + 1);
        let rows = query.build().persistent(false).fetch_all(&store.pool).await.map_err(at_statement)?;
        for row in &rows {
            items.push(delivery_row(row)?);
        }
    }
    items.sort_by_key(|row| std::cmp::Reverse(DeliveryCursor::of(row).order()));
    // A delivery that was settled between the two reads is in both.
    let mut seen = std::collections::HashSet::new();
    items.retain(|row| seen.insert(row.key));
    let more = items.len() > limit;
    items.truncate(limit);
    let cut = slice.filter(|start| filter.from.is_none_or(|from| from.0 < *start));
    let next = match (more, items.last(), cut) {
        (true, Some(last), _) => Some(DeliveryCursor::of(last).text()),
        (_, _, Some(start)) => Some(DeliveryCursor { at: start, position: 0, offset: 0 }.text()),
        _ => None,
    };
    Ok(Listing { items, next, truncated: !more && cut.is_some() })
}

/// The part of a filter that an index answers in the order of the list.
fn led(table: DeliveryTable, filter: &DeliveryFilter) -> DeliveryFilter {
    // Rows of one message or key are few.
    if filter.message_id.is_some() || filter.key.is_some() {
        return filter.clone();
    }
    let mut led = DeliveryFilter { from: filter.from, to: filter.to, ..DeliveryFilter::default() };
    if filter.group.is_none() {
        return led;
    }
    let failed = filter.state.filter(|state| matches!(state, State::HandleFail | State::PushFail));
    let alike = filter.fingerprint.clone();
    // No index of final rows begins with the group alone.
    if table == DeliveryTable::Open || failed.is_some() || alike.is_some() {
        led.group.clone_from(&filter.group);
        led.groups.clone_from(&filter.groups);
        (led.state, led.fingerprint) = (failed, alike);
    }
    led
}

/// Reads where the slice of a table before the cursor begins; `None` when an index answers
/// all of the filter, or the slice reaches to the oldest row.
async fn slice_start(
    store: &PostgresStore,
    table: DeliveryTable,
    filter: &DeliveryFilter,
    cursor: Option<DeliveryCursor>,
) -> Result<Option<i64>, StoreError> {
    let led = led(table, filter);
    if led == *filter {
        return Ok(None);
    }
    let before = cursor.map_or(i64::MAX, |place| place.at).min(filter.to.map_or(i64::MAX, |to| to.0));
    let (name, at) = (table.name(), format!("d.{}", table.time()));
    let mut query = QueryBuilder::new("SELECT ");
    query.push(&at).push(" AS at FROM ").push(name).push(" d WHERE ").push(&at).push(" <= ").push_bind(before);
    narrow(&mut query, table, &led);
    query.push(" ORDER BY ").push(&at).push(" DESC LIMIT 1 OFFSET ").push_bind(SLICE_ROWS);
    let row = query.build().persistent(false).fetch_optional(&store.pool).await.map_err(at_statement)?;
    row.map(|row| row.take("at")).transpose()
}

fn select(
    table: DeliveryTable,
    filter: &DeliveryFilter,
    cursor: Option<DeliveryCursor>,
    slice: Option<i64>,
    limit: usize,
) -> QueryBuilder<Postgres> {
    let (name, at) = (table.name(), format!("d.{}", table.time()));
    let columns = match table {
        DeliveryTable::Open => "NULL::bigint AS settled_at, d.next_attempt_at",
        DeliveryTable::Final => "d.settled_at, NULL::bigint AS next_attempt_at",
    };
    let mut query = QueryBuilder::new(
        "SELECT x.*, g.name AS group_name, p.topic, nullif(p.listener, '') AS listener, p.incarnation, p.partition, ",
    );
    query.push("n.word AS node, v.word AS version FROM (SELECT d.position_id, d.record_offset, d.record_time, ");
    query.push("d.received_at, d.started_at, ").push(columns);
    query.push(", d.group_id, d.node_id, d.version_id, d.number, d.counted, d.state, d.verdict, d.message_id, d.key, ");
    query
        .push("d.type_name, d.reason, d.fingerprint, d.source_hash, NULL::bytea AS record FROM ")
        .push(name)
        .push(" d WHERE true");
    narrow(&mut query, table, filter);
    let mut at_least = |at_least: i64| {
        query.push(" AND ").push(&at).push(" >= ").push_bind(at_least);
    };
    slice.into_iter().chain(filter.from.map(|from| from.0)).for_each(&mut at_least);
    if let Some(to) = filter.to {
        query.push(" AND ").push(&at).push(" < ").push_bind(to.0);
    }
    if let Some(place) = cursor {
        query.push(" AND (").push(&at).push(", d.position_id, d.record_offset) < (").push_bind(place.at);
        query.push(", ").push_bind(place.position).push(", ").push_bind(place.offset).push(")");
    }
    query.push(" ORDER BY ").push(&at).push(" DESC, d.position_id DESC, d.record_offset DESC LIMIT ");
    query.push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
    query.push(") x JOIN position p ON p.id = x.position_id JOIN consumer_group g ON g.id = x.group_id ");
    query.push("LEFT JOIN word n ON n.id = x.node_id LEFT JOIN word v ON v.id = x.version_id");
    query
}

fn narrow(query: &mut QueryBuilder<Postgres>, table: DeliveryTable, filter: &DeliveryFilter) {
    if let Some(group) = &filter.group {
        query.push(" AND d.group_id = (SELECT id FROM consumer_group WHERE name = ");
        query.push_bind(clean(group).into_owned()).push(")");
    }
    if let Some(groups) = &filter.groups {
        query.push(" AND d.group_id IN (SELECT id FROM consumer_group WHERE name = ANY(");
        query.push_bind(groups.clone()).push("))");
    }
    if let Some(topic) = &filter.topic {
        query.push(" AND d.position_id IN (SELECT id FROM position WHERE topic = ");
        query.push_bind(clean(topic).into_owned()).push(")");
    }
    if let Some(topics) = &filter.topics {
        query.push(" AND d.position_id IN (SELECT id FROM position WHERE topic = ANY(");
        query.push_bind(topics.clone()).push("))");
    }
    if let Some(state) = filter.state {
        query.push(" AND d.state = ").push_bind(state.code());
        // A partial index is used only for a condition in its own words.
        if table == DeliveryTable::Final && state == State::HandleFail {
            query.push(" AND d.state <> 5");
        }
        if table == DeliveryTable::Open && matches!(state, State::HandleFail | State::PushFail) {
            query.push(" AND d.state <> 2");
        }
    }
    if let Some(type_name) = &filter.type_name {
        query.push(" AND d.type_name = ").push_bind(clean(type_name).into_owned());
    }
    if let Some(key) = &filter.key {
        query.push(" AND substr(d.key, 1, 64) = substr(").push_bind(key.to_vec()).push(", 1, 64)");
        query.push(" AND d.key = ").push_bind(key.to_vec());
    }
    if let Some(fingerprint) = &filter.fingerprint {
        query.push(" AND d.fingerprint = ").push_bind(clean(fingerprint).into_owned());
        if table == DeliveryTable::Final {
            query.push(" AND d.state <> 5");
        }
    }
    if let Some(message_id) = &filter.message_id {
        let id = clean(message_id).into_owned();
        query.push(" AND left(d.message_id, 64) = left(").push_bind(id.clone()).push(", 64)");
        query.push(" AND d.message_id = ").push_bind(id);
    }
    if let Some(SourceHash(source)) = filter.source {
        query.push(" AND (d.source_hash = ").push_bind(source).push(" OR d.source_hash IS NULL)");
    }
}

/// Reads a row of the columns that [`select`] and [`delivery`] name.
pub(super) fn delivery_row(row: &PgRow) -> Result<DeliveryRow, StoreError> {
    Ok(DeliveryRow {
        key: DeliveryKey { position: PositionId(row.take("position_id")?), offset: row.offset("record_offset")? },
        message_id: row.take("message_id")?,
        source_hash: row.take::<Option<i64>>("source_hash")?.map(SourceHash),
        group: row.take("group_name")?,
        topic: row.take("topic")?,
        listener: row.take("listener")?,
        incarnation: row.take("incarnation")?,
        partition: row.take("partition")?,
        record_key: row.bytes("key")?,
        type_name: row.take("type_name")?,
        state: columns::state(row.take("state")?)?,
        verdict: row.take::<Option<i16>>("verdict")?.map(columns::verdict).transpose()?,
        reason: row.take("reason")?,
        fingerprint: row.take("fingerprint")?,
        node: row.take("node")?,
        version: row.take("version")?,
        record_time: row.time("record_time")?,
        received_at: row.time("received_at")?,
        started_at: row.time_opt("started_at")?,
        settled_at: row.time_opt("settled_at")?,
        next_attempt_at: row.time_opt("next_attempt_at")?,
        number: row.count("number")?,
        counted: row.count("counted")?,
        record: row.bytes("record")?,
    })
}

/// Reads one delivery from both tables in one snapshot. At most one of them has it, since
/// a settle and a rerun move it from one to the other in one transaction.
async fn delivery(store: &PostgresStore, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError> {
    let row = sqlx::query(
        "SELECT d.*, g.name AS group_name, p.topic, nullif(p.listener, '') AS listener, p.incarnation, p.partition, n.word AS node, v.word AS version
         FROM (
             SELECT position_id, record_offset, record_time, received_at, started_at, NULL::bigint AS settled_at,
                 next_attempt_at, group_id, node_id, version_id, number, counted, state, verdict, message_id, key,
                 type_name, reason, fingerprint, record, source_hash
             FROM open_delivery WHERE position_id = $1 AND record_offset = $2
             UNION ALL
             SELECT position_id, record_offset, record_time, received_at, started_at, settled_at, NULL, group_id,
                 node_id, version_id, number, counted, state, verdict, message_id, key, type_name, reason,
                 fingerprint, record, source_hash
             FROM delivery WHERE position_id = $1 AND record_offset = $2
         ) AS d
         JOIN position p ON p.id = d.position_id
         JOIN consumer_group g ON g.id = d.group_id
         LEFT JOIN word n ON n.id = d.node_id
         LEFT JOIN word v ON v.id = d.version_id",
    )
    .bind(key.position.0)
    .bind(key.offset.0)
    .fetch_optional(&store.pool)
    .await
    .map_err(at_statement)?;
    row.as_ref().map(delivery_row).transpose()
}
