//! Outcomes as arrays, one for each column, so that a statement carries thousands of rows
//! in one round trip.
//!
//! The order of the columns here is the order of `$1, $2, ..` in the
//! statements of [`super::settle`] and [`super::settle_open`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use super::columns::stored;
use super::words::{WordNumbers, number};
use crate::store::shared::text::{clean, clean_opt};
use crate::store::{AttemptRow, Identity, NewOutbound, OutcomeRow, StoreError};

type Text<'a> = Cow<'a, str>;

/// The position of a part, and its group's number.
#[derive(Clone, Copy)]
pub(super) struct PartPosition {
    pub(super) position: i64,
    pub(super) group: i32,
}

/// Rows of `delivery`.
#[derive(Default)]
pub(super) struct FinalColumns<'a> {
    pub(super) position: Vec<i64>,
    pub(super) offset: Vec<i64>,
    record_time: Vec<i64>,
    received_at: Vec<i64>,
    started_at: Vec<Option<i64>>,
    settled_at: Vec<i64>,
    day: Vec<i32>,
    group: Vec<i32>,
    node: Vec<i32>,
    version: Vec<Option<i32>>,
    number: Vec<i32>,
    counted: Vec<i32>,
    state: Vec<i16>,
    verdict: Vec<Option<i16>>,
    message_id: Vec<Text<'a>>,
    key: Vec<Option<&'a [u8]>>,
    type_name: Vec<Text<'a>>,
    reason: Vec<Option<Text<'a>>>,
    fingerprint: Vec<Option<Text<'a>>>,
    record: Vec<Option<&'a [u8]>>,
    source_hash: Vec<Option<i64>>,
}

impl<'a> FinalColumns<'a> {
    pub(super) fn push(
        &mut self,
        place: PartPosition,
        row: &'a OutcomeRow,
        (state, settled_at, record): (i16, i64, Option<&'a [u8]>),
        words: &WordNumbers,
    ) -> Result<(), StoreError> {
        self.position.push(place.position);
        self.offset.push(row.offset.0);
        self.record_time.push(row.record_time.0);
        self.received_at.push(row.received_at.0);
        self.started_at.push(row.started_at.map(|at| at.0));
        self.settled_at.push(settled_at);
        self.day.push(row.record_time.day());
        self.group.push(place.group);
        self.node.push(number(words, &row.node)?);
        self.version.push(row.version.as_deref().map(|version| number(words, version)).transpose()?);
        self.number.push(stored(row.attempts_so_far.invoked));
        self.counted.push(stored(row.attempts_so_far.used));
        self.state.push(state);
        self.verdict.push(row.verdict.map(|verdict| verdict.code()));
        self.message_id.push(clean(&row.message_id));
        self.key.push(row.key.as_deref());
        self.type_name.push(clean(&row.type_name));
        self.reason.push(clean_opt(row.reason.as_deref()));
        self.fingerprint.push(clean_opt(row.fingerprint.as_deref()));
        self.record.push(record);
        self.source_hash.push(row.source_hash.map(|hash| hash.0));
        Ok(())
    }

    /// The positions, and the first and last offset in each.
    pub(super) fn ranges(&self) -> (Vec<i64>, Vec<i64>, Vec<i64>) {
        let mut ranges = BTreeMap::new();
        for (&position, &offset) in self.position.iter().zip(&self.offset) {
            let (first, last) = ranges.entry(position).or_insert((offset, offset));
            (*first, *last) = (offset.min(*first), offset.max(*last));
        }
        ranges.into_iter().map(|(position, (first, last))| (position, first, last)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.offset.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offset.is_empty()
    }

    /// Binds `$1` to `$21`.
    pub(super) fn bind<'q>(&'q self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        query
            .bind(&self.position)
            .bind(&self.offset)
            .bind(&self.record_time)
            .bind(&self.received_at)
            .bind(&self.started_at)
            .bind(&self.settled_at)
            .bind(&self.day)
            .bind(&self.group)
            .bind(&self.node)
            .bind(&self.version)
            .bind(&self.number)
            .bind(&self.counted)
            .bind(&self.state)
            .bind(&self.verdict)
            .bind(&self.message_id)
            .bind(&self.key)
            .bind(&self.type_name)
            .bind(empty_if_all_null(&self.reason))
            .bind(empty_if_all_null(&self.fingerprint))
            .bind(empty_if_all_null(&self.record))
            .bind(&self.source_hash)
    }
}

/// The values of a column, or none if all are null: `unnest` fills a shorter array up
/// with nulls. A handled delivery has no reason, no fingerprint and no record.
fn empty_if_all_null<T>(column: &[Option<T>]) -> &[Option<T>] {
    if column.iter().all(Option::is_none) { &[] } else { column }
}

/// Rows of `open_delivery`.
#[derive(Default)]
pub(super) struct OpenColumns<'a> {
    pub(super) position: Vec<i64>,
    pub(super) offset: Vec<i64>,
    pub(super) record_time: Vec<i64>,
    received_at: Vec<i64>,
    next_attempt_at: Vec<Option<i64>>,
    started_at: Vec<Option<i64>>,
    group: Vec<i32>,
    node: Vec<i32>,
    version: Vec<Option<i32>>,
    number: Vec<i32>,
    counted: Vec<i32>,
    state: Vec<i16>,
    verdict: Vec<Option<i16>>,
    held: Vec<bool>,
    message_id: Vec<Text<'a>>,
    key: Vec<Option<&'a [u8]>>,
    type_name: Vec<Text<'a>>,
    reason: Vec<Option<Text<'a>>>,
    fingerprint: Vec<Option<Text<'a>>>,
    record: Vec<Option<&'a [u8]>>,
    source_hash: Vec<Option<i64>>,
}

impl<'a> OpenColumns<'a> {
    pub(super) fn push(
        &mut self,
        place: PartPosition,
        row: &'a OutcomeRow,
        (state, next_attempt_at, held, record): (i16, Option<i64>, bool, Option<&'a [u8]>),
        words: &WordNumbers,
    ) -> Result<(), StoreError> {
        self.position.push(place.position);
        self.offset.push(row.offset.0);
        self.record_time.push(row.record_time.0);
        self.received_at.push(row.received_at.0);
        self.next_attempt_at.push(next_attempt_at);
        self.started_at.push(row.started_at.map(|at| at.0));
        self.group.push(place.group);
        self.node.push(number(words, &row.node)?);
        self.version.push(row.version.as_deref().map(|version| number(words, version)).transpose()?);
        self.number.push(stored(row.attempts_so_far.invoked));
        self.counted.push(stored(row.attempts_so_far.used));
        self.state.push(state);
        self.verdict.push(row.verdict.map(|verdict| verdict.code()));
        self.held.push(held);
        self.message_id.push(clean(&row.message_id));
        self.key.push(row.key.as_deref());
        self.type_name.push(clean(&row.type_name));
        self.reason.push(clean_opt(row.reason.as_deref()));
        self.fingerprint.push(clean_opt(row.fingerprint.as_deref()));
        self.record.push(record);
        self.source_hash.push(row.source_hash.map(|hash| hash.0));
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.offset.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offset.is_empty()
    }

    /// Binds `$1` to `$21`.
    pub(super) fn bind<'q>(&'q self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        query
            .bind(&self.position)
            .bind(&self.offset)
            .bind(&self.record_time)
            .bind(&self.received_at)
            .bind(&self.next_attempt_at)
            .bind(&self.started_at)
            .bind(&self.group)
            .bind(&self.node)
            .bind(&self.version)
            .bind(&self.number)
            .bind(&self.counted)
            .bind(&self.state)
            .bind(&self.verdict)
            .bind(&self.held)
            .bind(&self.message_id)
            .bind(&self.key)
            .bind(&self.type_name)
            .bind(&self.reason)
            .bind(&self.fingerprint)
            .bind(&self.record)
            .bind(&self.source_hash)
    }
}

/// Rows of `attempt`.
#[derive(Default)]
pub(super) struct AttemptColumns<'a> {
    position: Vec<i64>,
    offset: Vec<i64>,
    number: Vec<i32>,
    node: Vec<i32>,
    version: Vec<Option<i32>>,
    started_at: Vec<i64>,
    finished_at: Vec<i64>,
    verdict: Vec<i16>,
    counted: Vec<bool>,
    reason: Vec<Option<Text<'a>>>,
    fingerprint: Vec<Option<Text<'a>>>,
    log: Vec<Option<Text<'a>>>,
}

impl<'a> AttemptColumns<'a> {
    pub(super) fn push(
        &mut self,
        place: PartPosition,
        offset: i64,
        row: &'a AttemptRow,
        words: &WordNumbers,
    ) -> Result<(), StoreError> {
        self.position.push(place.position);
        self.offset.push(offset);
        self.number.push(stored(row.number));
        self.node.push(number(words, &row.node)?);
        self.version.push(row.version.as_deref().map(|version| number(words, version)).transpose()?);
        self.started_at.push(row.started_at.0);
        self.finished_at.push(row.finished_at.0);
        self.verdict.push(row.verdict.code());
        self.counted.push(row.counted);
        self.reason.push(clean_opt(row.reason.as_deref()));
        self.fingerprint.push(clean_opt(row.fingerprint.as_deref()));
        self.log.push(clean_opt(row.log.as_deref()));
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offset.is_empty()
    }

    /// Binds `$1` to `$12`.
    pub(super) fn bind<'q>(&'q self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        query
            .bind(&self.position)
            .bind(&self.offset)
            .bind(&self.number)
            .bind(&self.node)
            .bind(&self.version)
            .bind(&self.started_at)
            .bind(&self.finished_at)
            .bind(&self.verdict)
            .bind(&self.counted)
            .bind(&self.reason)
            .bind(&self.fingerprint)
            .bind(&self.log)
    }
}

/// Inserts the rows of [`OutboundColumns`], whose parameters come first, where a condition
/// holds. Ids are drawn after the sort, so that they ascend in the order of the arrays.
macro_rules! insert_outbound {
    ($columns:literal, $condition:literal) => {
        concat!(
            "INSERT INTO outbound (shard, message_id, topic, type_name, source, key, record, held_until, listed,
                 group_name, published_on, created_at)
             SELECT r.shard, r.message_id, r.topic, r.type_name, r.source, r.key, r.record, now.at + r.held_for,
                 r.listed, r.group_name, r.published_on, now.at
             FROM unnest(",
            $columns,
            ") WITH ORDINALITY AS r (shard, message_id, topic, type_name, source, key, record, held_for, listed,
                 group_name, published_on, place), (SELECT courier_now() AS at) AS now
             WHERE ",
            $condition,
            " ORDER BY r.place"
        )
    };
}
pub(super) use insert_outbound;

/// A statement whose parameters are the columns of outbound rows.
type OutboundQuery<'q> = Query<'q, Postgres, PgArguments>;

/// Rows of `outbound`, in the order in which they are to be sent.
#[derive(Default)]
pub(super) struct OutboundColumns<'a> {
    shard: Vec<i32>,
    message_id: Vec<Text<'a>>,
    topic: Vec<Text<'a>>,
    type_name: Vec<Text<'a>>,
    source: Vec<Text<'a>>,
    key: Vec<Option<&'a [u8]>>,
    record: Vec<&'a [u8]>,
    held_for: Vec<Option<i64>>,
    listed: Vec<bool>,
    group: Vec<Option<Text<'a>>>,
    published_on: Vec<Option<Text<'a>>>,
}

impl<'a> OutboundColumns<'a> {
    pub(super) fn push(&mut self, row: &'a NewOutbound) {
        self.shard.push(row.shard);
        self.message_id.push(clean(&row.message_id));
        self.topic.push(clean(&row.topic));
        self.type_name.push(clean(&row.type_name));
        self.source.push(clean(&row.source));
        self.key.push(row.key.as_deref());
        self.record.push(&row.record);
        self.held_for.push(row.held_for.map(super::micros));
        self.listed.push(row.listed);
        self.group.push(clean_opt(row.group.as_deref()));
        self.published_on.push(None);
    }

    /// Adds the outbound row of a message.
    pub(super) fn push_for(&mut self, row: &'a NewOutbound, message: &'a Identity) {
        self.push(row);
        if let (Some(source), Some(published_on)) = (self.source.last_mut(), self.published_on.last_mut()) {
            *source = clean(&message.source);
            *published_on = (row.topic != message.topic).then(|| clean(&message.topic));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shard.is_empty()
    }

    /// The statement that inserts them.
    pub(super) fn insert(&self) -> OutboundQuery<'_> {
        self.bind(sqlx::query(insert_outbound!(
            "$1::integer[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[], $8::bigint[],
             $9::boolean[], $10::text[], $11::text[]",
            "true"
        )))
    }

    /// Binds the columns as the next parameters of a statement.
    pub(super) fn bind<'q>(&'q self, query: OutboundQuery<'q>) -> OutboundQuery<'q> {
        query
            .bind(&self.shard)
            .bind(&self.message_id)
            .bind(&self.topic)
            .bind(&self.type_name)
            .bind(&self.source)
            .bind(&self.key)
            .bind(&self.record)
            .bind(&self.held_for)
            .bind(&self.listed)
            .bind(&self.group)
            .bind(&self.published_on)
    }
}
