//! Failures that are alike, parked lanes and dead letters.

use std::collections::HashMap;

use async_trait::async_trait;
use courier_core::message::Offset;
use sqlx::postgres::{PgRow, Postgres};
use sqlx::query_builder::QueryBuilder;

use super::columns::{self, PgRowExt};
use super::error::at_statement;
use super::{PostgresStore, bounded};
use crate::store::shared::paging::{key_cursor, key_of, page_of, time_and_key_cursor, time_and_key_of};
use crate::store::shared::text::clean;
use crate::store::troubles::{LANE_COUNTED, cluster, failure_share};
use crate::store::{
    DeadLetterFilter, DeadLetterRow, DeliveryKey, FailedRow, FailureFilter, FailureStore, Failures, LaneRow,
    LetterFate, Listing, MAX_PAGE, Page, PositionId, StoreError,
};

#[async_trait]
impl FailureStore for PostgresStore {
    async fn failures(&self, filter: &FailureFilter) -> Result<Failures, StoreError> {
        bounded(failures(self, filter)).await
    }

    async fn parked(
        &self,
        group: &str,
        topics: Option<&[String]>,
        page: &Page,
    ) -> Result<Listing<LaneRow>, StoreError> {
        bounded(parked(self, group, topics, page)).await
    }

    async fn dead_letters(&self, filter: &DeadLetterFilter, page: &Page) -> Result<Listing<DeadLetterRow>, StoreError> {
        bounded(dead_letters(self, filter, page)).await
    }
}

fn key(row: &PgRow) -> Result<DeliveryKey, StoreError> {
    Ok(DeliveryKey { position: PositionId(row.take("position_id")?), offset: row.offset("record_offset")? })
}

/// Narrows the failures before they are counted against the limit: those that the
/// filter passes over would push out what was asked for, and tell by `truncated` of
/// rows that the caller may not see.
fn among(query: &mut QueryBuilder<Postgres>, filter: &FailureFilter) {
    let asked = filter.topic.clone().map(|topic| vec![topic]);
    for topics in asked.iter().chain(&filter.topics) {
        query
            .push(" AND d.position_id = ANY(ARRAY(SELECT id FROM position WHERE topic = ANY(")
            .push_bind(topics.clone())
            .push(")))");
    }
    if let Some(type_name) = &filter.type_name {
        query.push(" AND d.type_name = ").push_bind(clean(type_name).into_owned());
    }
    if let Some(fingerprint) = &filter.fingerprint {
        query.push(" AND d.fingerprint = ").push_bind(clean(fingerprint).into_owned());
    }
}

async fn failures(store: &PostgresStore, filter: &FailureFilter) -> Result<Failures, StoreError> {
    let mut groups = QueryBuilder::<Postgres>::new("SELECT id FROM consumer_group WHERE true");
    if let Some(group) = &filter.group {
        groups.push(" AND name = ").push_bind(clean(group).into_owned());
    }
    if let Some(names) = &filter.groups {
        groups.push(" AND name = ANY(").push_bind(names.clone()).push(")");
    }
    let groups = groups.build().persistent(false).fetch_all(&store.pool).await.map_err(at_statement)?;
    let groups: Vec<i32> = groups.iter().map(|row| row.take("id")).collect::<Result<_, _>>()?;
    let share = failure_share(groups.len());
    let (mut found, mut truncated) = (Vec::new(), false);
    for (table, at, failed) in [
        ("delivery", "settled_at", "d.state = 4 AND d.state <> 5"),
        // A delivery that waits behind a head has not failed.
        ("open_delivery", "received_at", "d.state <> 2 AND (d.next_attempt_at IS NOT NULL OR d.held)"),
    ] {
        let mut query = QueryBuilder::<Postgres>::new("SELECT g.name, x.*, p.topic, v.word AS version FROM unnest(");
        query.push_bind(groups.clone()).push(") AS wanted (id) JOIN consumer_group g ON g.id = wanted.id ");
        query
            .push("CROSS JOIN LATERAL (SELECT d.position_id, d.record_offset, d.type_name, d.fingerprint, d.verdict, ");
        query
            .push("d.version_id, d.")
            .push(at)
            .push(" AS at, ")
            .push(if table == "delivery" { "d.settled_at" } else { "coalesce(d.started_at, d.received_at)" })
            .push(" AS failed_at FROM ")
            .push(table)
            .push(" d WHERE d.group_id = g.id AND ");
        query.push(failed);
        if let Some(from) = filter.from {
            query.push(" AND d.").push(at).push(" >= ").push_bind(from.0);
        }
        if let Some(to) = filter.to {
            query.push(" AND d.").push(at).push(" < ").push_bind(to.0);
        }
        among(&mut query, filter);
        query.push(" ORDER BY d.").push(at).push(" DESC LIMIT ").push_bind(i64::try_from(share).unwrap_or(i64::MAX));
        query.push(") x JOIN position p ON p.id = x.position_id LEFT JOIN word v ON v.id = x.version_id");
        let rows = query.build().persistent(false).fetch_all(&store.pool).await.map_err(at_statement)?;
        let mut counts: HashMap<String, usize> = HashMap::new();
        for row in &rows {
            let group: String = row.take("name")?;
            let count = counts.entry(group.clone()).or_default();
            *count += 1;
            truncated |= *count >= share;
            found.push(FailedRow {
                key: key(row)?,
                group,
                topic: row.take("topic")?,
                type_name: row.take("type_name")?,
                fingerprint: row.take("fingerprint")?,
                verdict: row.take::<Option<i16>>("verdict")?.map(columns::verdict).transpose()?,
                version: row.take("version")?,
                at: row.time("at")?,
                failed_at: row.time("failed_at")?,
                open: table == "open_delivery",
            });
        }
    }
    let mut items = cluster(found);
    items.truncate(MAX_PAGE as usize);
    let (positions, offsets): (Vec<i64>, Vec<i64>) =
        items.iter().map(|item| (item.example.position.0, item.example.offset.0)).unzip();
    let mut reasons = HashMap::new();
    for table in ["delivery", "open_delivery"] {
        let mut query = QueryBuilder::<Postgres>::new("SELECT d.position_id, d.record_offset, d.reason FROM unnest(");
        query.push_bind(&positions).push(", ").push_bind(&offsets);
        query.push(") AS k (position_id, record_offset) JOIN ").push(table);
        query.push(" d ON d.position_id = k.position_id AND d.record_offset = k.record_offset");
        let rows = query.build().persistent(false).fetch_all(&store.pool).await.map_err(at_statement)?;
        for row in &rows {
            reasons.insert(key(row)?, row.take::<Option<String>>("reason")?);
        }
    }
    for item in &mut items {
        item.reason = reasons.remove(&item.example).flatten();
    }
    Ok(Failures { items, truncated })
}

/// Lists parked lanes. The deliveries behind a head are found by their key alone: `+ 0`
/// keeps the server from an index by which it would read every parked delivery of the
/// partition.
async fn parked(
    store: &PostgresStore,
    group: &str,
    topics: Option<&[String]>,
    page: &Page,
) -> Result<Listing<LaneRow>, StoreError> {
    let after = key_of(page.cursor.as_deref())?.unwrap_or((i64::MIN, i64::MIN));
    let limit = page.limit.clamp(1, MAX_PAGE) as usize;
    let rows = sqlx::query(
        "SELECT d.position_id, d.record_offset, d.key, d.state, d.reason, d.next_attempt_at, d.held, p.topic, p.partition,
             (SELECT count(*) FROM (
                 SELECT FROM open_delivery e
                 WHERE e.position_id + 0 = d.position_id AND substr(e.key, 1, 64) = substr(d.key, 1, 64) AND e.key = d.key
                     AND e.record_offset > d.record_offset LIMIT $5) AS behind) AS waiting
         FROM (
             SELECT * FROM open_delivery o
             WHERE o.group_id = (SELECT id FROM consumer_group WHERE name = $1)
                 AND o.state <> 2 AND (o.next_attempt_at IS NOT NULL OR o.held)
                 AND (o.position_id, o.record_offset) > ($2, $3)
                 AND ($6::text[] IS NULL OR o.position_id IN (SELECT id FROM position WHERE topic = ANY($6)))
             ORDER BY o.position_id, o.record_offset LIMIT $4) AS d
         JOIN position p ON p.id = d.position_id ORDER BY d.position_id, d.record_offset",
    )
    .bind(clean(group))
    .bind(after.0)
    .bind(after.1)
    .bind(i64::try_from(limit + 1).unwrap_or(i64::MAX))
    .bind(i64::from(LANE_COUNTED))
    .bind(topics)
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let lane = |row: &PgRow| {
        Ok::<_, StoreError>(LaneRow {
            head: key(row)?,
            topic: row.take("topic")?,
            partition: row.take("partition")?,
            record_key: row.bytes("key")?,
            state: columns::state(row.take("state")?)?,
            reason: row.take("reason")?,
            waiting: row.take::<i64>("waiting")?.cast_unsigned(),
            next_attempt_at: row.time_opt("next_attempt_at")?,
            held: row.take("held")?,
        })
    };
    let items = rows.iter().map(lane).collect::<Result<_, _>>()?;
    Ok(page_of(items, limit, |lane: &LaneRow| key_cursor(lane.head)))
}

async fn dead_letters(
    store: &PostgresStore,
    filter: &DeadLetterFilter,
    page: &Page,
) -> Result<Listing<DeadLetterRow>, StoreError> {
    let limit = page.limit.clamp(1, MAX_PAGE) as usize;
    let mut query = QueryBuilder::<Postgres>::new(
        "SELECT d.*, g.name AS group_name, p.topic AS source_topic, p.partition, CASE
             WHEN EXISTS (SELECT FROM undelivered u WHERE left(u.message_id, 64) = left(d.message_id, 64)
                 AND u.message_id = d.message_id AND u.topic = d.topic AND NOT u.listed AND u.group_name = g.name
                 AND u.source = coalesce(d.source, u.source)) THEN 'undelivered'
             WHEN EXISTS (SELECT FROM outbound o WHERE left(o.message_id, 64) = left(d.message_id, 64)
                 AND o.message_id = d.message_id AND o.topic = d.topic AND NOT o.listed AND o.group_name = g.name
                 AND o.source = coalesce(d.source, o.source)) THEN 'waiting'
             ELSE 'sent' END AS fate,
             (SELECT e.settled_at FROM delivery e WHERE e.position_id = d.position_id
                 AND e.record_offset = d.record_offset AND e.state = 5 LIMIT 1) AS handled_at
         FROM dead_letter d
         JOIN consumer_group g ON g.id = d.group_id JOIN position p ON p.id = d.position_id WHERE true",
    );
    if let Some(group) = &filter.group {
        query.push(" AND d.group_id = (SELECT id FROM consumer_group WHERE name = ");
        query.push_bind(clean(group).into_owned()).push(")");
    }
    if let Some(groups) = &filter.groups {
        query.push(" AND g.name = ANY(").push_bind(groups.clone()).push(")");
    }
    if let Some(topics) = &filter.source_topics {
        query.push(" AND p.topic = ANY(").push_bind(topics.clone()).push(")");
    }
    if let Some(handled) = filter.handled {
        query.push(if handled { " AND EXISTS (" } else { " AND NOT EXISTS (" });
        query.push("SELECT FROM delivery e WHERE e.position_id = d.position_id");
        query.push(" AND e.record_offset = d.record_offset AND e.state = 5)");
    }
    if let Some(topic) = &filter.topic {
        query.push(" AND d.topic = ").push_bind(clean(topic).into_owned());
    }
    if let Some(from) = filter.from {
        query.push(" AND d.at >= ").push_bind(from.0);
    }
    if let Some(to) = filter.to {
        query.push(" AND d.at < ").push_bind(to.0);
    }
    if let Some((at, position, offset)) = time_and_key_of(page.cursor.as_deref())? {
        query.push(" AND (d.at, d.position_id, d.record_offset) < (").push_bind(at);
        query.push(", ").push_bind(position).push(", ").push_bind(offset).push(")");
    }
    query.push(" ORDER BY d.at DESC, d.position_id DESC, d.record_offset DESC LIMIT ");
    query.push_bind(i64::try_from(limit + 1).unwrap_or(i64::MAX));
    let rows = query.build().persistent(false).fetch_all(&store.pool).await.map_err(at_statement)?;
    let letter = |row: &PgRow| {
        Ok::<_, StoreError>(DeadLetterRow {
            key: key(row)?,
            group: row.take("group_name")?,
            source_topic: row.take("source_topic")?,
            partition: row.take("partition")?,
            topic: row.take("topic")?,
            fate: LetterFate::parse(row.take("fate")?),
            at: row.time("at")?,
            message_id: row.take("message_id")?,
            record_key: row.bytes("key")?,
            type_name: row.take("type_name")?,
            reason: row.take("reason")?,
            number: row.count("number")?,
            handled_at: row.time_opt("handled_at")?,
        })
    };
    let items = rows.iter().map(letter).collect::<Result<_, _>>()?;
    Ok(page_of(items, limit, |last: &DeadLetterRow| time_and_key_cursor(last.at, last.key)))
}

/// Dead letters of a settle as arrays, one for each column.
#[derive(Default)]
pub(super) struct DeadLetters {
    position: Vec<i64>,
    offset: Vec<i64>,
    number: Vec<i32>,
    group: Vec<i32>,
    topic: Vec<String>,
    at: Vec<i64>,
    message_id: Vec<String>,
    source: Vec<String>,
    key: Vec<Option<Vec<u8>>>,
    type_name: Vec<String>,
    reason: Vec<Option<String>>,
}

impl DeadLetters {
    /// Adds the dead letter of an outcome, if it has one.
    pub(super) fn take(&mut self, position: i64, group: i32, row: &crate::store::OutcomeRow) {
        let Some((letter, at)) = row.dead_letter() else { return };
        let Offset(offset) = row.offset;
        self.position.push(position);
        self.offset.push(offset);
        self.number.push(columns::stored(row.attempts_so_far.invoked));
        self.group.push(group);
        self.topic.push(clean(&letter.topic).into_owned());
        self.at.push(at.0);
        self.message_id.push(clean(&row.message_id).into_owned());
        self.source.push(clean(&letter.source).into_owned());
        self.key.push(row.key.as_ref().map(|key| key.to_vec()));
        self.type_name.push(clean(&row.type_name).into_owned());
        self.reason.push(row.reason.as_deref().map(|reason| clean(reason).into_owned()));
    }

    /// Inserts them. A delivery that runs again and fails without an invocation has the
    /// same dead letter.
    pub(super) async fn write(&self, tx: &mut sqlx::PgConnection) -> Result<(), StoreError> {
        if self.offset.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO dead_letter (position_id, record_offset, number, group_id, topic, at, message_id, source, key,
                 type_name, reason)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::integer[], $5::text[], $6::bigint[],
                 $7::text[], $8::text[], $9::bytea[], $10::text[], $11::text[])
             ON CONFLICT (position_id, record_offset, number) DO UPDATE SET topic = excluded.topic, at = excluded.at,
                 source = excluded.source, reason = excluded.reason",
        )
        .bind(&self.position)
        .bind(&self.offset)
        .bind(&self.number)
        .bind(&self.group)
        .bind(&self.topic)
        .bind(&self.at)
        .bind(&self.message_id)
        .bind(&self.source)
        .bind(&self.key)
        .bind(&self.type_name)
        .bind(&self.reason)
        .execute(tx)
        .await
        .map_err(at_statement)?;
        Ok(())
    }
}
