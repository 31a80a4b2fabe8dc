//! Messages of the send side, by id and in lists.

use async_trait::async_trait;
use courier_core::message::Offset;
use courier_core::status::State;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::SqliteStore;
use super::columns::{Columns, json};
use super::error::fault;
use super::slices::{ListPlace, Slice, end_of_slice, merge, rows, share, start};
use crate::store::shared::text::clean;
use crate::store::{Identity, Listing, MAX_SAME_ID, MessageFilter, MessageRow, MessageStore, Page, SentBy, StoreError};

/// The columns of a message but for its record, which comes last.
pub(super) const MESSAGE_COLUMNS: &str = "m.created_at, m.id, m.key, m.source, m.topic, m.type_name, m.kind, m.time,
    m.state, m.reason, m.retrying, m.partition, m.offset, m.deliver_at, m.sender, m.source_proven";

/// Begins a query for messages with their records. While a message waits to be sent or to be
/// due, its outbound or delayed row has the record.
fn with_records() -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("SELECT m.created_at, m.seq, 0, ");
    query.push(MESSAGE_COLUMNS).push(
        ", coalesce(m.record,
             (SELECT o.record FROM outbound o WHERE o.message_id = m.id AND o.source = m.source
              AND coalesce(o.published_on, o.topic) = m.topic AND o.listed = 1 AND m.partition IS NULL LIMIT 1),
             (SELECT d.record FROM delayed d
              WHERE d.message_id = m.id AND d.source = m.source AND d.published_on = m.topic))
         FROM message m WHERE m.id = ",
    );
    query
}

/// Reads the message of an identity.
pub(super) async fn message_of(
    connection: &mut SqliteConnection,
    message: &Identity,
) -> Result<Option<MessageRow>, StoreError> {
    let mut query = with_records();
    query.push_bind(clean(&message.id).into_owned());
    query.push(" AND m.source = ").push_bind(clean(&message.source).into_owned());
    query.push(" AND m.topic = ").push_bind(clean(&message.topic).into_owned());
    let row = query.build().fetch_optional(connection).await.map_err(fault)?;
    row.map(|row| message_row(&row).map(|(_, row)| row)).transpose()
}

pub(super) fn message_row(row: &SqliteRow) -> Result<(ListPlace, MessageRow), StoreError> {
    let mut columns = Columns::of(row);
    let place = ListPlace([columns.take()?, columns.take()?, columns.take()?]);
    let message = MessageRow {
        created_at: columns.time()?,
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
        deliver_at: columns.time_option()?,
        sent_by: SentBy::from_columns(columns.take()?, columns.take::<Option<bool>>()?),
        record: columns.bytes_option()?,
    };
    Ok((place, message))
}

/// How the rows of a filter are found, newest first.
#[derive(Clone, Copy)]
enum Walk {
    /// By the slots of the key's index, in the order of insertion.
    Key,
    /// By the index of messages that are not on Kafka, by time.
    Unsent,
    /// By the index of all messages, by time.
    All,
}

impl Walk {
    fn of(filter: &MessageFilter) -> Self {
        match (&filter.key, filter.state) {
            (Some(_), _) => Self::Key,
            (None, Some(State::SendFail)) => Self::Unsent,
            (None, _) => Self::All,
        }
    }

    /// The columns of a [`ListPlace`].
    fn place(self) -> &'static str {
        match self {
            Self::Key => "seq, 0, 0",
            Self::Unsent | Self::All => "created_at, seq, 0",
        }
    }

    /// Appends the walk over all rows that it may read.
    fn push(self, query: &mut QueryBuilder<Sqlite>, columns: &str, filter: &MessageFilter, after: Option<ListPlace>) {
        let from = match self {
            // The numbers of the slots, newest first. The index has one slot for each 8,192
            // messages.
            Self::Key => {
                "(WITH RECURSIVE s (n) AS (
                     SELECT max(seq) / 8192 FROM message
                     UNION ALL
                     SELECT n - 1 FROM s WHERE n > (SELECT min(seq) / 8192 FROM message)
                 ) SELECT n FROM s LIMIT -1) s
                 CROSS JOIN message AS m INDEXED BY message_key WHERE m.seq / 8192 = s.n"
            }
            // A partial index is used only for a condition with its own literal.
            Self::Unsent => "message AS m INDEXED BY message_unsent WHERE state = 1",
            Self::All => "message AS m INDEXED BY message_time WHERE TRUE",
        };
        query.push(format_args!("SELECT {columns} FROM {from}"));
        if let Some(key) = &filter.key {
            query.push(" AND key = ").push_bind(key.to_vec());
        }
        if let Some(from) = filter.from {
            query.push(" AND created_at >= ").push_bind(from.0);
        }
        if let Some(to) = filter.to {
            query.push(" AND created_at < ").push_bind(to.0);
        }
        match (self, after) {
            (Self::Key, Some(ListPlace([seq, ..]))) => {
                query.push(" AND s.n <= ").push_bind(seq).push(" / 8192 AND seq < ").push_bind(seq);
            }
            (_, Some(ListPlace([time, seq, _]))) => {
                query.push(" AND (created_at, seq) < (").push_bind(time).push(", ").push_bind(seq).push(")");
            }
            (_, None) => {}
        }
        query.push(match self {
            Self::Key => " ORDER BY seq DESC",
            Self::Unsent | Self::All => " ORDER BY created_at DESC, seq DESC",
        });
    }
}

/// Appends the conditions that the walk does not have.
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

#[async_trait]
impl MessageStore for SqliteStore {
    async fn messages(&self, filter: &MessageFilter, page: &Page) -> Result<Listing<MessageRow>, StoreError> {
        let (after, limit) = start(page)?;
        let (walk, share, more) = (Walk::of(filter), share(1), limit + 1);
        let mut query = QueryBuilder::new("SELECT ");
        query.push(walk.place()).push(", ").push(MESSAGE_COLUMNS).push(", NULL FROM (");
        walk.push(&mut query, "m.*", filter, after);
        query.push(" LIMIT ").push_bind(rows(share)).push(") m WHERE TRUE");
        push_filter(&mut query, filter)?;
        // Without a second ORDER BY, for which SQLite would read and sort the whole slice
        // before it returned the first row.
        query.push(" LIMIT ").push_bind(rows(more));
        let found = query.build().fetch_all(&self.connections.readers).await.map_err(fault)?;
        let found: Vec<_> = found.iter().map(message_row).collect::<Result<_, _>>()?;
        let mut ended = None;
        if found.len() < more {
            let mut places = QueryBuilder::new("");
            walk.push(&mut places, walk.place(), filter, after);
            ended = end_of_slice(&self.connections.readers, places, share).await?;
        }
        Ok(merge(vec![Slice { rows: found, ended }], limit))
    }

    async fn messages_with_id(&self, id: &str, topics: Option<&[String]>) -> Result<Vec<MessageRow>, StoreError> {
        let mut query = with_records();
        query.push_bind(clean(id).into_owned());
        if let Some(topics) = topics {
            query.push(" AND m.topic IN (SELECT value FROM json_each(").push_bind(json(&topics)?).push("))");
        }
        query.push(" ORDER BY m.created_at DESC, m.seq DESC LIMIT ").push_bind(MAX_SAME_ID);
        let found = query.build().fetch_all(&self.connections.readers).await.map_err(fault)?;
        found.iter().map(|row| message_row(row).map(|(_, row)| row)).collect()
    }

    async fn message_of(&self, message: &Identity) -> Result<Option<MessageRow>, StoreError> {
        let mut reader = self.connections.readers.acquire().await.map_err(fault)?;
        message_of(&mut reader, message).await
    }
}
