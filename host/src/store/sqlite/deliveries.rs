//! Lists of deliveries: open and final rows, newest first.

use async_trait::async_trait;
use courier_core::message::Offset;
use courier_core::status::State;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};

use super::SqliteStore;
use super::columns::{Columns, json};
use super::error::fault;
use super::slices::{ListPlace, Slice, end_of_slice, merge, rows, share, start};
use crate::store::shared::tables::DeliveryTable;
use crate::store::shared::text::clean;
use crate::store::{
    AttemptRow, DeliveryFilter, DeliveryKey, DeliveryRow, DeliveryStore, Listing, Page, PositionId, SourceHash,
    StoreError,
};

/// The columns of a [`DeliveryRow`] after its place, from this table as `d`; a
/// record is loaded only for a single delivery.
fn columns(table: DeliveryTable, record: &str) -> String {
    let (settled_at, next_attempt_at) = match table {
        DeliveryTable::Open => ("NULL", "d.next_attempt_at"),
        DeliveryTable::Final => ("d.settled_at", "NULL"),
    };
    format!(
        "d.{}, d.position, d.offset, d.message_id, d.source_hash, g.name, p.topic, nullif(p.listener, ''), p.incarnation, p.partition, d.key, d.type_name,
             d.state, d.verdict, d.reason, d.fingerprint, n.text, v.text, d.record_time, d.received_at, d.started_at,
             {settled_at}, {next_attempt_at}, d.number, d.counted, {record}",
        table.time()
    )
}

/// The tables of the columns beside `d`. CROSS JOIN keeps `d` the outer loop, and with it the
/// order of its rows.
const JOINS: &str = " d CROSS JOIN position p ON p.id = d.position CROSS JOIN consumer_group g ON g.id = d.group_id
     LEFT JOIN word n ON n.id = d.node LEFT JOIN word v ON v.id = d.version ";

/// A range of an index, by the values that it is limited to.
#[derive(Clone, Copy)]
enum Range<'f> {
    Message(&'f str),
    Key(&'f [u8]),
    Alike(i64, &'f str),
    Failed(i64),
    Group(i64),
}

impl<'f> Range<'f> {
    /// The range for `filter` in all groups, if its message or key limits it enough.
    fn narrow(filter: &'f DeliveryFilter) -> Option<Self> {
        match (&filter.message_id, &filter.key) {
            (Some(id), _) => Some(Self::Message(id)),
            (None, Some(key)) => Some(Self::Key(key)),
            (None, None) => None,
        }
    }

    fn of_group(table: DeliveryTable, group: i64, filter: &'f DeliveryFilter) -> Self {
        match (&filter.fingerprint, filter.state) {
            (Some(print), _) if table == DeliveryTable::Final => Self::Alike(group, print),
            (None, Some(State::HandleFail)) if table == DeliveryTable::Final => Self::Failed(group),
            _ => Self::Group(group),
        }
    }

    /// Appends the rows of the range, newest first.
    fn push(
        self,
        query: &mut QueryBuilder<Sqlite>,
        columns: &str,
        table: DeliveryTable,
        filter: &DeliveryFilter,
        after: Option<ListPlace>,
    ) -> Result<(), StoreError> {
        let time = table.time();
        let name = table.name();
        let index = match self {
            Self::Message(_) => "message",
            Self::Key(_) => "key",
            Self::Alike(..) => "alike",
            Self::Failed(_) => "failed",
            Self::Group(_) => "time",
        };
        // Slots follow one another in time, so that a walk over them from new to old, with
        // a walk over each index from new to old, is in the order of the list.
        let slotted = table == DeliveryTable::Final && matches!(self, Self::Message(_) | Self::Key(_));
        let slots = if slotted { "slot s CROSS JOIN " } else { "" };
        query.push(format_args!("SELECT {columns} FROM {slots}{name} AS f INDEXED BY {name}_{index} WHERE "));
        if slotted {
            query.push("f.slot = s.start_at AND ");
            let latest = [after.map(|ListPlace([at, ..])| at), filter.to.map(|to| to.0)].into_iter().flatten().min();
            if let Some(latest) = latest {
                query.push("s.start_at <= ").push_bind(latest).push(" AND ");
            }
        }
        match self {
            Self::Message(id) => query.push("message_id = ").push_bind(clean(id).into_owned()),
            Self::Key(key) => query.push("key = ").push_bind(key.to_vec()),
            // A partial index is used only for a condition with its own literals.
            Self::Alike(group, print) => query
                .push("state <> 5 AND group_id = ")
                .push_bind(group)
                .push(" AND fingerprint = ")
                .push_bind(clean(print).into_owned()),
            Self::Failed(group) => query.push("state <> 5 AND state = 4 AND group_id = ").push_bind(group),
            Self::Group(group) => query.push("group_id = ").push_bind(group),
        };
        if matches!(self, Self::Message(_) | Self::Key(_)) {
            push_scope(query, filter)?;
        }
        if let Some(from) = filter.from {
            query.push(format_args!(" AND {time} >= ")).push_bind(from.0);
        }
        if let Some(to) = filter.to {
            query.push(format_args!(" AND {time} < ")).push_bind(to.0);
        }
        if let Some(ListPlace([at, position, offset])) = after {
            query.push(format_args!(" AND ({time}, position, offset) < ("));
            query.push_bind(at).push(", ").push_bind(position).push(", ").push_bind(offset).push(")");
        }
        let slots = if slotted { "s.start_at DESC, " } else { "" };
        query.push(format_args!(" ORDER BY {slots}{time} DESC, position DESC, offset DESC"));
        Ok(())
    }
}

/// Appends to a range over all groups which groups, topics and source are meant, so that
/// the rows of others with the message or key neither fill the slice nor end it. The `+`
/// keeps the walk in the order of the range's index.
fn push_scope(query: &mut QueryBuilder<Sqlite>, filter: &DeliveryFilter) -> Result<(), StoreError> {
    if let Some(group) = &filter.group {
        query.push(" AND +group_id IN (SELECT id FROM consumer_group WHERE name = ");
        query.push_bind(clean(group).into_owned()).push(")");
    }
    if let Some(groups) = &filter.groups {
        query.push(" AND +group_id IN (SELECT id FROM consumer_group WHERE name IN (SELECT value FROM json_each(");
        query.push_bind(json(groups)?).push(")))");
    }
    if let Some(topic) = &filter.topic {
        query.push(" AND +position IN (SELECT id FROM position WHERE topic = ");
        query.push_bind(clean(topic).into_owned()).push(")");
    }
    if let Some(topics) = &filter.topics {
        query.push(" AND +position IN (SELECT id FROM position WHERE topic IN (SELECT value FROM json_each(");
        query.push_bind(json(topics)?).push(")))");
    }
    if let Some(SourceHash(source)) = filter.source {
        query.push(" AND (source_hash = ").push_bind(source).push(" OR source_hash IS NULL)");
    }
    Ok(())
}

/// Appends the conditions that the ranges do not have.
fn push_filter(query: &mut QueryBuilder<Sqlite>, filter: &DeliveryFilter) -> Result<(), StoreError> {
    if let Some(group) = &filter.group {
        query.push(" AND g.name = ").push_bind(clean(group).into_owned());
    }
    if let Some(groups) = &filter.groups {
        query.push(" AND g.name IN (SELECT value FROM json_each(").push_bind(json(groups)?).push("))");
    }
    if let Some(topic) = &filter.topic {
        query.push(" AND p.topic = ").push_bind(clean(topic).into_owned());
    }
    if let Some(topics) = &filter.topics {
        query.push(" AND p.topic IN (SELECT value FROM json_each(").push_bind(json(topics)?).push("))");
    }
    if let Some(state) = filter.state {
        query.push(" AND d.state = ").push_bind(state.code());
    }
    if let Some(type_name) = &filter.type_name {
        query.push(" AND d.type_name = ").push_bind(clean(type_name).into_owned());
    }
    if let Some(key) = &filter.key {
        query.push(" AND d.key = ").push_bind(key.to_vec());
    }
    if let Some(fingerprint) = &filter.fingerprint {
        query.push(" AND d.fingerprint = ").push_bind(clean(fingerprint).into_owned());
    }
    if let Some(SourceHash(source)) = filter.source {
        query.push(" AND (d.source_hash = ").push_bind(source).push(" OR d.source_hash IS NULL)");
    }
    Ok(())
}

fn delivery_row(row: &SqliteRow) -> Result<(ListPlace, DeliveryRow), StoreError> {
    let mut columns = Columns::of(row);
    let place = ListPlace([columns.take()?, columns.take()?, columns.take()?]);
    let delivery = DeliveryRow {
        key: DeliveryKey { position: PositionId(place.0[1]), offset: Offset(place.0[2]) },
        message_id: columns.take()?,
        source_hash: columns.take::<Option<i64>>()?.map(SourceHash),
        group: columns.take()?,
        topic: columns.take()?,
        listener: columns.take()?,
        incarnation: columns.number()?,
        partition: columns.number()?,
        record_key: columns.bytes_option()?,
        type_name: columns.take()?,
        state: columns.state()?,
        verdict: columns.verdict_option()?,
        reason: columns.take()?,
        fingerprint: columns.take()?,
        node: columns.take()?,
        version: columns.take()?,
        record_time: columns.time()?,
        received_at: columns.time()?,
        started_at: columns.time_option()?,
        settled_at: columns.time_option()?,
        next_attempt_at: columns.time_option()?,
        number: columns.number()?,
        counted: columns.number()?,
        record: columns.bytes_option()?,
    };
    Ok((place, delivery))
}

#[async_trait]
impl DeliveryStore for SqliteStore {
    async fn deliveries(&self, filter: &DeliveryFilter, page: &Page) -> Result<Listing<DeliveryRow>, StoreError> {
        let (after, limit) = start(page)?;
        let groups = self.groups_of(filter).await?;
        let mut ranges = Vec::new();
        for table in [DeliveryTable::Open, DeliveryTable::Final] {
            if filter.state.is_some_and(|state| !table.has(state)) {
                continue;
            }
            match Range::narrow(filter) {
                Some(range) => ranges.push((table, range)),
                None => ranges.extend(groups.iter().map(|group| (table, Range::of_group(table, *group, filter)))),
            }
        }
        let share = share(ranges.len());
        let mut slices = Vec::with_capacity(ranges.len());
        for (table, range) in ranges {
            slices.push(self.delivery_slice(table, range, filter, after, share, limit + 1).await?);
        }
        Ok(merge(slices, limit))
    }

    async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError> {
        // One snapshot, so that a delivery which settles meanwhile is found in one table or
        // in the other.
        let mut tx = self.connections.readers.begin().await.map_err(fault)?;
        let mut found = None;
        for table in [DeliveryTable::Open, DeliveryTable::Final] {
            let mut query = QueryBuilder::new("SELECT ");
            query.push(columns(table, "r.record")).push(" FROM ").push(table.name()).push(JOINS);
            query.push("LEFT JOIN kept_record r ON r.position = d.position AND r.offset = d.offset");
            query.push(" WHERE d.position = ").push_bind(key.position.0);
            query.push(" AND d.offset = ").push_bind(key.offset.0);
            let row = query.build().fetch_optional(&mut *tx).await.map_err(fault)?;
            found = found.or(row.map(|row| delivery_row(&row)).transpose()?);
        }
        tx.rollback().await.map_err(fault)?;
        Ok(found.map(|(_, row)| row))
    }

    async fn attempts(&self, keys: &[DeliveryKey]) -> Result<Vec<Vec<AttemptRow>>, StoreError> {
        self.load_attempts(keys).await
    }
}

impl SqliteStore {
    /// Reads the groups that a filter allows and that read one of its topics, for ranges
    /// by group.
    async fn groups_of(&self, filter: &DeliveryFilter) -> Result<Vec<i64>, StoreError> {
        let mut query = QueryBuilder::new("SELECT id FROM consumer_group WHERE TRUE");
        if let Some(group) = &filter.group {
            query.push(" AND name = ").push_bind(clean(group).into_owned());
        }
        if let Some(groups) = &filter.groups {
            query.push(" AND name IN (SELECT value FROM json_each(").push_bind(json(groups)?).push("))");
        }
        if let Some(topics) = &filter.topics {
            query.push(" AND id IN (SELECT group_id FROM position WHERE topic IN (SELECT value FROM json_each(");
            query.push_bind(json(topics)?).push(")))");
        }
        query.build_query_scalar().fetch_all(&self.connections.readers).await.map_err(fault)
    }

    async fn delivery_slice(
        &self,
        table: DeliveryTable,
        range: Range<'_>,
        filter: &DeliveryFilter,
        after: Option<ListPlace>,
        share: usize,
        more: usize,
    ) -> Result<Slice<DeliveryRow>, StoreError> {
        let mut query = QueryBuilder::new("SELECT ");
        query.push(columns(table, "NULL")).push(" FROM (");
        range.push(&mut query, "f.*", table, filter, after)?;
        query.push(" LIMIT ").push_bind(rows(share)).push(")").push(JOINS).push("WHERE TRUE");
        push_filter(&mut query, filter)?;
        // Without a second ORDER BY, for which SQLite would read and sort the whole slice
        // before it returned the first row.
        query.push(" LIMIT ").push_bind(rows(more));
        let found = query.build().fetch_all(&self.connections.readers).await.map_err(fault)?;
        let found: Vec<_> = found.iter().map(delivery_row).collect::<Result<_, _>>()?;
        let mut ended = None;
        if found.len() < more {
            let mut places = QueryBuilder::new("");
            range.push(&mut places, &format!("{}, position, offset", table.time()), table, filter, after)?;
            ended = end_of_slice(&self.connections.readers, places, share).await?;
        }
        Ok(Slice { rows: found, ended })
    }
}
