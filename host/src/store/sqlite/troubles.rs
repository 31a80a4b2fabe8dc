//! Failures that are alike, parked lanes and dead letters.

use async_trait::async_trait;
use courier_core::message::Offset;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::SqliteStore;
use super::columns::{Columns, json, optional_json};
use super::error::fault;
use super::settle_rows::Line;
use super::slices::rows;
use crate::store::shared::paging::{key_cursor, key_of, page_of, time_and_key_cursor, time_and_key_of};
use crate::store::shared::text::{clean, clean_opt};
use crate::store::troubles::{LANE_COUNTED, cluster, failure_share};
use crate::store::{
    DeadLetterFilter, DeadLetterRow, DeliveryKey, FailedRow, FailureFilter, FailureStore, Failures, LaneRow,
    LetterFate, Listing, MAX_PAGE, Page, PositionId, StoreError,
};

/// The two tables of failures: the name, the column of the time, the index, and the condition of a
/// failure. A delivery that waits behind a head has not failed.
const FAILED: [(&str, &str, &str, &str); 2] = [
    ("delivery", "settled_at", "delivery_failed", "state <> 5 AND state = 4"),
    ("open_delivery", "received_at", "open_delivery_head", "state <> 2 AND (next_attempt_at IS NOT NULL OR held = 1)"),
];

fn key(columns: &mut Columns<'_>) -> Result<DeliveryKey, StoreError> {
    Ok(DeliveryKey { position: PositionId(columns.take()?), offset: columns.offset()? })
}

/// Narrows the failures before they are counted against the limit: those that the
/// filter passes over would push out what was asked for, and tell by `truncated` of
/// rows that the caller may not see.
fn among(query: &mut QueryBuilder<Sqlite>, filter: &FailureFilter) -> Result<(), StoreError> {
    let asked = filter.topic.clone().map(|topic| vec![topic]);
    for topics in asked.iter().chain(&filter.topics) {
        query.push(" AND position IN (SELECT id FROM position WHERE topic IN (SELECT value FROM json_each(");
        query.push_bind(json(topics)?).push(")))");
    }
    if let Some(type_name) = &filter.type_name {
        query.push(" AND type_name = ").push_bind(clean(type_name).into_owned());
    }
    if let Some(fingerprint) = &filter.fingerprint {
        query.push(" AND fingerprint = ").push_bind(clean(fingerprint).into_owned());
    }
    Ok(())
}

#[async_trait]
impl FailureStore for SqliteStore {
    async fn failures(&self, filter: &FailureFilter) -> Result<Failures, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT id, name FROM consumer_group WHERE TRUE");
        if let Some(group) = &filter.group {
            query.push(" AND name = ").push_bind(clean(group).into_owned());
        }
        if let Some(groups) = &filter.groups {
            query.push(" AND name IN (SELECT value FROM json_each(").push_bind(json(groups)?).push("))");
        }
        let groups = query.build().fetch_all(&self.connections.readers).await.map_err(fault)?;
        let share = failure_share(groups.len());
        let (mut found, mut truncated) = (Vec::new(), false);
        for group in &groups {
            let mut columns = Columns::of(group);
            let (id, name): (i64, String) = (columns.take()?, columns.take()?);
            for (table, at, index, failed) in FAILED {
                let mut query = QueryBuilder::<Sqlite>::new("SELECT d.position, d.offset, p.topic, d.type_name, ");
                let failed_at =
                    if table == "delivery" { "d.settled_at" } else { "coalesce(d.started_at, d.received_at)" };
                query.push(format_args!("d.fingerprint, d.verdict, v.text, d.{at}, {failed_at} FROM "));
                query.push(format_args!("(SELECT * FROM {table} "));
                query.push(format_args!("INDEXED BY {index} WHERE {failed} AND group_id = ")).push_bind(id);
                if let Some(from) = filter.from {
                    query.push(format_args!(" AND {at} >= ")).push_bind(from.0);
                }
                if let Some(to) = filter.to {
                    query.push(format_args!(" AND {at} < ")).push_bind(to.0);
                }
                among(&mut query, filter)?;
                query.push(format_args!(" ORDER BY {at} DESC LIMIT ")).push_bind(rows(share));
                query.push(") d JOIN position p ON p.id = d.position LEFT JOIN word v ON v.id = d.version");
                let failures = query.build().fetch_all(&self.connections.readers).await.map_err(fault)?;
                truncated |= failures.len() >= share;
                for row in &failures {
                    let mut columns = Columns::of(row);
                    found.push(FailedRow {
                        key: key(&mut columns)?,
                        group: name.clone(),
                        topic: columns.take()?,
                        type_name: columns.take()?,
                        fingerprint: columns.take()?,
                        verdict: columns.verdict_option()?,
                        version: columns.take()?,
                        at: columns.time()?,
                        failed_at: columns.time()?,
                        open: table == "open_delivery",
                    });
                }
            }
        }
        let mut items = cluster(found);
        items.truncate(MAX_PAGE as usize);
        for item in &mut items {
            item.reason = sqlx::query_scalar::<_, Option<String>>(
                "SELECT reason FROM delivery WHERE position = ?1 AND offset = ?2
                 UNION ALL SELECT reason FROM open_delivery WHERE position = ?1 AND offset = ?2 LIMIT 1",
            )
            .bind(item.example.position.0)
            .bind(item.example.offset.0)
            .fetch_optional(&self.connections.readers)
            .await
            .map_err(fault)?
            .flatten();
        }
        Ok(Failures { items, truncated })
    }

    async fn parked(
        &self,
        group: &str,
        topics: Option<&[String]>,
        page: &Page,
    ) -> Result<Listing<LaneRow>, StoreError> {
        let after = key_of(page.cursor.as_deref())?.unwrap_or((i64::MIN, i64::MIN));
        let limit = page.limit.clamp(1, MAX_PAGE) as usize;
        let found = sqlx::query(
            "SELECT d.position, d.offset, p.topic, p.partition, d.key, d.state, d.reason,
                 (SELECT count(*) FROM (
                     SELECT 1 FROM open_delivery e INDEXED BY open_delivery_key
                     WHERE e.key = d.key AND e.position = d.position AND e.offset > d.offset LIMIT ?5)),
                 d.next_attempt_at, d.held
             FROM (
                 SELECT * FROM open_delivery INDEXED BY open_delivery_head
                 WHERE group_id = (SELECT id FROM consumer_group WHERE name = ?1)
                     AND state <> 2 AND (next_attempt_at IS NOT NULL OR held = 1)
                     AND (position, offset) > (?2, ?3)
                     AND (?6 IS NULL OR position IN (
                         SELECT id FROM position WHERE topic IN (SELECT value FROM json_each(?6))))
                 ORDER BY position, offset LIMIT ?4) d
             JOIN position p ON p.id = d.position ORDER BY d.position, d.offset",
        )
        .bind(clean(group))
        .bind(after.0)
        .bind(after.1)
        .bind(rows(limit + 1))
        .bind(i64::from(LANE_COUNTED))
        .bind(optional_json(topics)?)
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        let lane = |row: &SqliteRow| {
            let mut columns = Columns::of(row);
            Ok::<_, StoreError>(LaneRow {
                head: key(&mut columns)?,
                topic: columns.take()?,
                partition: columns.number()?,
                record_key: columns.bytes_option()?,
                state: columns.state()?,
                reason: columns.take()?,
                waiting: columns.number()?,
                next_attempt_at: columns.time_option()?,
                held: columns.flag()?,
            })
        };
        let items = found.iter().map(lane).collect::<Result<_, _>>()?;
        Ok(page_of(items, limit, |lane: &LaneRow| key_cursor(lane.head)))
    }

    async fn dead_letters(&self, filter: &DeadLetterFilter, page: &Page) -> Result<Listing<DeadLetterRow>, StoreError> {
        let limit = page.limit.clamp(1, MAX_PAGE) as usize;
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT d.position, d.offset, g.name, p.topic, p.partition, d.topic, d.at, d.message_id, d.key, d.type_name,
                 d.reason, d.number, CASE
                     WHEN EXISTS (SELECT 1 FROM undelivered u WHERE u.message_id = d.message_id AND u.topic = d.topic
                         AND u.listed = 0 AND u.group_name = g.name AND u.source = coalesce(d.source, u.source))
                         THEN 'undelivered'
                     WHEN EXISTS (SELECT 1 FROM outbound o WHERE o.message_id = d.message_id AND o.topic = d.topic
                         AND o.listed = 0 AND o.group_name = g.name AND o.source = coalesce(d.source, o.source))
                         THEN 'waiting'
                     ELSE 'sent' END,
                 (SELECT e.settled_at FROM delivery e WHERE e.position = d.position AND e.offset = d.offset
                     AND e.state = 5)
             FROM dead_letter d CROSS JOIN consumer_group g ON g.id = d.group_id
             CROSS JOIN position p ON p.id = d.position WHERE TRUE",
        );
        if let Some(group) = &filter.group {
            query.push(" AND d.group_id = (SELECT id FROM consumer_group WHERE name = ");
            query.push_bind(clean(group).into_owned()).push(")");
        }
        if let Some(groups) = &filter.groups {
            query.push(" AND g.name IN (SELECT value FROM json_each(").push_bind(json(groups)?).push("))");
        }
        if let Some(topics) = &filter.source_topics {
            query.push(" AND p.topic IN (SELECT value FROM json_each(").push_bind(json(topics)?).push("))");
        }
        if let Some(handled) = filter.handled {
            query.push(if handled { " AND EXISTS (" } else { " AND NOT EXISTS (" });
            query.push(
                "SELECT 1 FROM delivery e WHERE e.position = d.position AND e.offset = d.offset AND e.state = 5)",
            );
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
            query.push(" AND (d.at, d.position, d.offset) < (").push_bind(at);
            query.push(", ").push_bind(position).push(", ").push_bind(offset).push(")");
        }
        query.push(" ORDER BY d.at DESC, d.position DESC, d.offset DESC LIMIT ").push_bind(rows(limit + 1));
        let found = query.build().fetch_all(&self.connections.readers).await.map_err(fault)?;
        let letter = |row: &SqliteRow| {
            let mut columns = Columns::of(row);
            Ok::<_, StoreError>(DeadLetterRow {
                key: key(&mut columns)?,
                group: columns.take()?,
                source_topic: columns.take()?,
                partition: columns.number()?,
                topic: columns.take()?,
                at: columns.time()?,
                message_id: columns.take()?,
                record_key: columns.bytes_option()?,
                type_name: columns.take()?,
                reason: columns.take()?,
                number: columns.number()?,
                fate: LetterFate::parse(columns.take()?),
                handled_at: columns.time_option()?,
            })
        };
        let items = found.iter().map(letter).collect::<Result<_, _>>()?;
        Ok(page_of(items, limit, |last: &DeadLetterRow| time_and_key_cursor(last.at, last.key)))
    }
}

/// Inserts the dead letters of a settle. A delivery that runs again and fails without an
/// invocation has the same dead letter.
pub(super) async fn write_dead_letters(tx: &mut SqliteConnection, lines: &[Line<'_>]) -> Result<(), StoreError> {
    for line in lines {
        let Some((letter, at)) = line.outcome.dead_letter() else { continue };
        let Offset(offset) = line.outcome.offset;
        sqlx::query(
            "INSERT INTO dead_letter (position, offset, number, group_id, topic, at, message_id, source, key, type_name,
                 reason)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (position, offset, number) DO UPDATE SET topic = excluded.topic, at = excluded.at,
                 source = excluded.source, reason = excluded.reason",
        )
        .bind(line.position.0)
        .bind(offset)
        .bind(i64::from(line.outcome.attempts_so_far.invoked))
        .bind(line.group)
        .bind(clean(&letter.topic))
        .bind(at.0)
        .bind(clean(&line.outcome.message_id))
        .bind(clean(&letter.source))
        .bind(line.outcome.key.as_deref())
        .bind(clean(&line.outcome.type_name))
        .bind(clean_opt(line.outcome.reason.as_deref()))
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
    }
    Ok(())
}
