//! Messages of the send side, by id and in lists.

use async_trait::async_trait;
use courier_core::message::{Offset, Timestamp};
use courier_core::status::State;
use sqlx::postgres::{PgRow, Postgres};
use sqlx::query_builder::QueryBuilder;

use super::columns::{self, PgRowExt};
use super::error::at_statement;
use super::{PostgresStore, SLICE_ROWS, bounded};
use crate::store::shared::paging::no_cursor;
use crate::store::shared::text::clean;
use crate::store::{
    Identity, Listing, MAX_PAGE, MAX_SAME_ID, MessageFilter, MessageRow, MessageStore, Page, SentBy, StoreError,
};

#[async_trait]
impl MessageStore for PostgresStore {
    async fn messages(&self, filter: &MessageFilter, page: &Page) -> Result<Listing<MessageRow>, StoreError> {
        bounded(messages(self, filter, page)).await
    }

    async fn messages_with_id(&self, id: &str, topics: Option<&[String]>) -> Result<Vec<MessageRow>, StoreError> {
        bounded(messages_with_id(self, id, topics)).await
    }

    async fn message_of(&self, message: &Identity) -> Result<Option<MessageRow>, StoreError> {
        bounded(message_of(self, message)).await
    }
}

/// The columns of a message but for its record.
pub(super) const MESSAGE_COLUMNS: &str = "m.id, m.key, m.source, m.topic, m.type_name, m.kind, m.time, m.created_at,
    m.state, m.reason, m.retrying, m.partition, m.kafka_offset, m.deliver_at, m.sender, m.source_proven";

pub(super) fn message_row(row: &PgRow) -> Result<MessageRow, StoreError> {
    let place = match (row.take::<Option<i32>>("partition")?, row.take::<Option<i64>>("kafka_offset")?) {
        (Some(partition), Some(offset)) => Some((partition, Offset(offset))),
        _ => None,
    };
    Ok(MessageRow {
        id: row.take("id")?,
        key: row.bytes("key")?,
        source: row.take("source")?,
        topic: row.take("topic")?,
        type_name: row.take("type_name")?,
        kind: row.take("kind")?,
        time: row.time("time")?,
        created_at: row.time("created_at")?,
        state: columns::state(row.take("state")?)?,
        reason: row.take("reason")?,
        retrying: row.take("retrying")?,
        place,
        record: row.bytes("record")?,
        deliver_at: row.time_opt("deliver_at")?,
        sent_by: SentBy::from_columns(row.take("sender")?, row.take("source_proven")?),
    })
}

/// The record of message `m`. While the message waits to be sent or to be due, its outbound
/// or delayed row has the record.
macro_rules! record_of_message {
    () => {
        "coalesce(m.record, (
             SELECT o.record FROM outbound o
             WHERE left(o.message_id, 64) = left(m.id, 64) AND o.message_id = m.id AND o.source = m.source
                 AND coalesce(o.published_on, o.topic) = m.topic AND o.listed
             ORDER BY o.id LIMIT 1), (
             SELECT d.record FROM delayed d
             WHERE left(d.message_id, 64) = left(m.id, 64) AND d.message_id = m.id AND d.source = m.source
                 AND d.published_on = m.topic)) AS record"
    };
}
pub(super) use record_of_message;

/// Reads the message of an identity.
async fn message_of(store: &PostgresStore, message: &Identity) -> Result<Option<MessageRow>, StoreError> {
    let row = sqlx::query(concat!(
        "SELECT m.id, m.key, m.source, m.topic, m.type_name, m.kind, m.time, m.created_at, m.state, m.reason,
             m.retrying, m.partition, m.kafka_offset, m.deliver_at, m.sender, m.source_proven, ",
        record_of_message!(),
        " FROM message m WHERE m.id = $1 AND m.source = $2 AND m.topic = $3",
    ))
    .bind(clean(&message.id))
    .bind(clean(&message.source))
    .bind(clean(&message.topic))
    .fetch_optional(&store.pool)
    .await
    .map_err(at_statement)?;
    row.as_ref().map(message_row).transpose()
}

/// Lists the messages of one id on these topics, newest first.
async fn messages_with_id(
    store: &PostgresStore,
    id: &str,
    topics: Option<&[String]>,
) -> Result<Vec<MessageRow>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT m.id, m.key, m.source, m.topic, m.type_name, m.kind, m.time, m.created_at, m.state, m.reason,
             m.retrying, m.partition, m.kafka_offset, m.deliver_at, m.sender, m.source_proven, ",
        record_of_message!(),
        " FROM message m WHERE m.id = $1 AND ($3::text[] IS NULL OR m.topic = ANY($3))
          ORDER BY m.created_at DESC, m.source DESC, m.topic DESC LIMIT $2",
    ))
    .bind(clean(id))
    .bind(i64::from(MAX_SAME_ID))
    .bind(topics)
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    rows.iter().map(message_row).collect()
}

/// The cursor of a page: the time and identity of its last row.
struct MessageCursor {
    at: i64,
    last: Identity,
}

impl MessageCursor {
    fn parse(text: &str) -> Result<Self, StoreError> {
        let wrong = || no_cursor(text);
        let (at, last) = text.split_once('.').ok_or_else(wrong)?;
        let (id, source, topic) = match last {
            "" => Default::default(),
            last => serde_json::from_str(last).map_err(|_| wrong())?,
        };
        Ok(Self { at: at.parse().map_err(|_| wrong())?, last: Identity { id, source, topic } })
    }

    fn after(row: &MessageRow) -> String {
        format!("{}.{}", row.created_at.0, serde_json::json!([row.id, row.source, row.topic]))
    }
}

/// Lists messages, newest first. A filter that an index answers is exact. Any other filter
/// reads the newest [`SLICE_ROWS`] rows before the cursor by an index; the page then says
/// so, and its cursor leads to the next ones.
async fn messages(
    store: &PostgresStore,
    filter: &MessageFilter,
    page: &Page,
) -> Result<Listing<MessageRow>, StoreError> {
    let cursor = page.cursor.as_deref().map(MessageCursor::parse).transpose()?;
    let limit = page.limit.clamp(1, MAX_PAGE);
    let indexed = filter.key.is_some()
        || (filter.type_name.is_none()
            && filter.source.is_none()
            && filter.topics.is_none()
            && (filter.state.is_none() || (is_unsent(filter) && filter.topic.is_none())));
    let before = cursor.as_ref().map_or(i64::MAX, |cursor| cursor.at).min(filter.to.map_or(i64::MAX, |to| to.0));
    let slice = if indexed { None } else { slice_start(store, filter, before).await? };
    let mut query = select(filter, cursor.as_ref(), slice);
    query
        .push(" ORDER BY m.created_at DESC, m.id DESC, m.source DESC, m.topic DESC LIMIT ")
        .push_bind(i64::from(limit) + 1);
    let rows = query.build().persistent(false).fetch_all(&store.pool).await.map_err(at_statement)?;
    let mut items: Vec<MessageRow> = rows.iter().map(message_row).collect::<Result<_, _>>()?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let cut = slice.filter(|start| filter.from.is_none_or(|from| from < Timestamp(*start)));
    let next = match (more, items.last(), cut) {
        (true, Some(last), _) => Some(MessageCursor::after(last)),
        (_, _, Some(start)) => Some(format!("{start}.")),
        _ => None,
    };
    Ok(Listing { items, next, truncated: !more && cut.is_some() })
}

fn is_unsent(filter: &MessageFilter) -> bool {
    filter.state == Some(State::SendFail)
}

/// Reads where the slice before a time begins, by the best index; `None` when it reaches to
/// the oldest row.
async fn slice_start(store: &PostgresStore, filter: &MessageFilter, before: i64) -> Result<Option<i64>, StoreError> {
    let mut query = QueryBuilder::<Postgres>::new("SELECT created_at FROM message WHERE created_at <= ");
    query.push_bind(before);
    if is_unsent(filter) {
        query.push(" AND state = 1");
    } else if let Some(topic) = &filter.topic {
        query.push(" AND topic = ").push_bind(clean(topic).into_owned());
    }
    query.push(" ORDER BY created_at DESC LIMIT 1 OFFSET ").push_bind(SLICE_ROWS);
    let row = query.build().persistent(false).fetch_optional(&store.pool).await.map_err(at_statement)?;
    row.map(|row| row.take("created_at")).transpose()
}

fn select<'a>(
    filter: &'a MessageFilter,
    cursor: Option<&'a MessageCursor>,
    slice: Option<i64>,
) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(
        "SELECT m.id, m.key, m.source, m.topic, m.type_name, m.kind, m.time, m.created_at, m.state, m.reason,
             m.retrying, m.partition, m.kafka_offset, m.deliver_at, m.sender, m.source_proven, NULL::bytea AS record
         FROM message m WHERE true",
    );
    if let Some(cursor) = cursor {
        query
            .push(" AND (m.created_at, m.id, m.source, m.topic) < (")
            .push_bind(cursor.at)
            .push(", ")
            .push_bind(&cursor.last.id)
            .push(", ")
            .push_bind(&cursor.last.source)
            .push(", ")
            .push_bind(&cursor.last.topic)
            .push(")");
    }
    if let Some(start) = slice {
        query.push(" AND m.created_at >= ").push_bind(start);
    }
    if let Some(topic) = &filter.topic {
        query.push(" AND m.topic = ").push_bind(clean(topic).into_owned());
    }
    if let Some(topics) = &filter.topics {
        query.push(" AND m.topic = ANY(").push_bind(topics.clone()).push(")");
    }
    if let Some(type_name) = &filter.type_name {
        query.push(" AND m.type_name = ").push_bind(clean(type_name).into_owned());
    }
    if let Some(key) = &filter.key {
        query.push(" AND substr(m.key, 1, 64) = substr(").push_bind(key.to_vec()).push(", 1, 64)");
        query.push(" AND m.key = ").push_bind(key.to_vec());
    }
    if let Some(source) = &filter.source {
        query.push(" AND m.source = ").push_bind(clean(source).into_owned());
    }
    if let Some(state) = filter.state {
        // A partial index is used only for a constant.
        if is_unsent(filter) {
            query.push(" AND m.state = 1");
        } else {
            query.push(" AND m.state = ").push_bind(state.code());
        }
    }
    if let Some(from) = filter.from {
        query.push(" AND m.created_at >= ").push_bind(from.0);
    }
    if let Some(to) = filter.to {
        query.push(" AND m.created_at < ").push_bind(to.0);
    }
    query
}
