//! Messages of the send side as people ask for them.

use courier_core::message::Offset;
use courier_core::status::State;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::SqliteStore;
use super::fault::fault;
use super::slices::{Place, Slice, end_of_slice, merge, rows, share, start};
use super::values::{Columns, clean, json};
use crate::store::{Listing, MessageFilter, MessageRow, Page, StoreError};

/// A message that is known by its id. While it is owed to Kafka, its outbound
/// row has the record.
pub(super) async fn message_by_id(
    connection: &mut SqliteConnection,
    id: &str,
) -> Result<Option<MessageRow>, StoreError> {
    let row = sqlx::query(
        "SELECT m.created_at, m.seq, 0, m.id, m.key, m.source, m.topic, m.type_name, m.kind, m.time, m.state, m.reason,
             m.retrying, m.partition, m.offset,
             coalesce(m.record, (SELECT o.record FROM outbound o WHERE o.message_id = m.id AND o.listed = 1
                                 AND m.partition IS NULL LIMIT 1))
         FROM message m WHERE m.id = ?",
    )
    .bind(clean(id))
    .fetch_optional(connection)
    .await
    .map_err(fault)?;
    row.map(|row| message_row(&row).map(|(_, row)| row)).transpose()
}

fn message_row(row: &SqliteRow) -> Result<(Place, MessageRow), StoreError> {
    let mut columns = Columns::of(row);
    let place = Place([columns.take()?, columns.take()?, columns.take()?]);
    let message = MessageRow {
        created_at: courier_core::message::Timestamp(place.0[0]),
        id: columns.take()?,
        key: columns.bytes_option()?,
        source: columns.take()?,
        topic: columns.take()?,
        type_name: columns.take()?,
        kind: columns.take()?,
        time: columns.time()?,
        state: columns.state()?,
        reason: columns.take()?,
        retrying: columns.flag()?,
        place: {
            let (partition, offset): (Option<i32>, Option<i64>) = (columns.number_option()?, columns.take()?);
            partition.zip(offset.map(Offset))
        },
        record: columns.bytes_option()?,
        deliver_at: None,
    };
    Ok((place, message))
}

/// Appends the range of an index that a filter narrows to, newest first.
fn push_range(query: &mut QueryBuilder<Sqlite>, columns: &str, filter: &MessageFilter, after: Option<Place>) {
    let index = match (&filter.key, filter.state) {
        (Some(_), _) => "message_key",
        (None, Some(State::SendFail)) => "message_unsent",
        (None, _) => "message_time",
    };
    query.push(format_args!("SELECT {columns} FROM message INDEXED BY {index} WHERE TRUE"));
    if let Some(key) = &filter.key {
        query.push(" AND key = ").push_bind(key.to_vec());
    } else if filter.state == Some(State::SendFail) {
        // A literal, since only that makes the partial index fit.
        query.push(" AND state = 1");
    }
    if let Some(from) = filter.from {
        query.push(" AND created_at >= ").push_bind(from.0);
    }
    if let Some(to) = filter.to {
        query.push(" AND created_at < ").push_bind(to.0);
    }
    if let Some(Place([time, seq, _])) = after {
        query.push(" AND (created_at, seq) < (").push_bind(time).push(", ").push_bind(seq).push(")");
    }
    query.push(" ORDER BY created_at DESC, seq DESC");
}

/// Appends what the range leaves open.
fn push_filter(query: &mut QueryBuilder<Sqlite>, filter: &MessageFilter) -> Result<(), StoreError> {
    if let Some(topic) = &filter.topic {
        query.push(" AND topic = ").push_bind(clean(topic).into_owned());
    }
    if let Some(topics) = &filter.topics {
        query.push(" AND topic IN (SELECT value FROM json_each(").push_bind(json(topics)?).push("))");
    }
    if let Some(type_name) = &filter.type_name {
        query.push(" AND type_name = ").push_bind(clean(type_name).into_owned());
    }
    if let Some(source) = &filter.source {
        query.push(" AND source = ").push_bind(clean(source).into_owned());
    }
    if let Some(state) = filter.state {
        query.push(" AND state = ").push_bind(state.code());
    }
    Ok(())
}

impl SqliteStore {
    pub(super) async fn one_message(&self, id: &str) -> Result<Option<MessageRow>, StoreError> {
        let mut reader = self.connections.readers.acquire().await.map_err(fault)?;
        message_by_id(&mut reader, id).await
    }

    pub(super) async fn list_messages(
        &self,
        filter: &MessageFilter,
        page: &Page,
    ) -> Result<Listing<MessageRow>, StoreError> {
        let (after, limit) = start(page)?;
        let (share, more) = (share(1), limit + 1);
        let mut query = QueryBuilder::new(
            "SELECT created_at, seq, 0, id, key, source, topic, type_name, kind, time, state, reason, retrying,
                 partition, offset, NULL FROM (",
        );
        push_range(&mut query, "*", filter, after);
        query.push(" LIMIT ").push_bind(rows(share)).push(") WHERE TRUE");
        push_filter(&mut query, filter)?;
        query.push(" ORDER BY created_at DESC, seq DESC LIMIT ").push_bind(rows(more));
        let found = query.build().fetch_all(&self.connections.readers).await.map_err(fault)?;
        let found: Vec<_> = found.iter().map(message_row).collect::<Result<_, _>>()?;
        let mut ended = None;
        if found.len() < more {
            let mut places = QueryBuilder::new("");
            push_range(&mut places, "created_at, seq, 0", filter, after);
            ended = end_of_slice(&self.connections.readers, places, share).await?;
        }
        Ok(merge(vec![Slice { rows: found, ended }], limit))
    }
}
