//! Recording what became of outbound rows.
//!
//! Locks are taken in one order, also by a direct send that ends at the same time: shards,
//! outbound rows by id, then their messages.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::shards::{lock_shards, shard_columns};
use super::{PostgresStore, commit, micros};
use crate::store::shared::text::clean;
use crate::store::{RelayResult, Relayed, StoreError};

pub(super) async fn relayed(
    store: &PostgresStore,
    shards: &[(i32, i64)],
    results: &[Relayed],
) -> Result<(), StoreError> {
    let mut tx = store.begin_tx().await?;
    let mine = lock(&mut tx, shards, results).await?;
    let results: Vec<&Relayed> = results.iter().filter(|r| mine.get(&r.id) == Some(&r.shard)).collect();
    taken(&mut tx, &results).await?;
    undelivered(&mut tx, &results).await?;
    later(&mut tx, &results).await?;
    commit(tx).await
}

/// Locks the shards that still have these epochs against a new lease, then the rows, and
/// returns the rows with their shards. A row that is gone was sent directly.
async fn lock(
    tx: &mut PgConnection,
    shards: &[(i32, i64)],
    results: &[Relayed],
) -> Result<HashMap<i64, i32>, StoreError> {
    let (shards, epochs) = shard_columns(shards);
    let ours: Vec<i32> = lock_shards(tx, &shards, &epochs).await?.into_iter().collect();
    let rows =
        sqlx::query("SELECT id, shard FROM outbound WHERE id = ANY($1) AND shard = ANY($2) ORDER BY id FOR UPDATE")
            .bind(results.iter().map(|result| result.id).collect::<Vec<_>>())
            .bind(&ours)
            .fetch_all(tx)
            .await
            .map_err(at_statement)?;
    rows.iter().map(|row| Ok((row.take("id")?, row.take("shard")?))).collect()
}

/// Deletes rows that Kafka took; their messages become COMMITTED. A direct send may have
/// written the message's place before, which then stays.
async fn taken(tx: &mut PgConnection, results: &[&Relayed]) -> Result<(), StoreError> {
    let (mut ids, mut partitions, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
    for result in results {
        if let RelayResult::Taken { partition, offset } = result.result {
            ids.push(result.id);
            partitions.push(partition);
            offsets.push(offset.0);
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH gone AS (DELETE FROM outbound WHERE id = ANY($1) RETURNING *)
         INSERT INTO message AS m (id, key, source, topic, type_name, kind, time, created_at, state, retrying,
             partition, kafka_offset)
         SELECT DISTINCT ON (g.message_id, g.source, coalesce(g.published_on, g.topic)) g.message_id, g.key, g.source,
             coalesce(g.published_on, g.topic), g.type_name, 'event', g.created_at,
             g.created_at, 2, false, t.partition, t.kafka_offset
         FROM gone g JOIN unnest($1::bigint[], $2::integer[], $3::bigint[]) AS t (id, partition, kafka_offset)
             ON t.id = g.id
         WHERE g.listed ORDER BY g.message_id, g.source, coalesce(g.published_on, g.topic), g.id
         ON CONFLICT (id, source, topic) DO UPDATE SET state = 2, reason = NULL, retrying = false, partition = excluded.partition,
             kafka_offset = excluded.kafka_offset, record = NULL, shard = NULL
         WHERE m.partition IS NULL",
    )
    .bind(&ids)
    .bind(&partitions)
    .bind(&offsets)
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok(())
}

/// Makes rows undelivered that can never be sent as they are. The message keeps the record
/// too, so that a person can send either of the two again.
async fn undelivered(tx: &mut PgConnection, results: &[&Relayed]) -> Result<(), StoreError> {
    let (mut ids, mut codes, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    for result in results {
        if let RelayResult::Undelivered { code, reason } = &result.result {
            ids.push(result.id);
            codes.push(*code);
            reasons.push(clean(reason));
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH gone AS (DELETE FROM outbound WHERE id = ANY($1) RETURNING *),
         kept AS (
             INSERT INTO undelivered (shard, message_id, topic, type_name, source, key, record, listed, group_name,
                 published_on, code, reason, tries, created_at, kept_at)
             SELECT g.shard, g.message_id, g.topic, g.type_name, g.source, g.key, g.record, g.listed, g.group_name,
                 g.published_on, r.code, r.reason, g.tries + 1, g.created_at, courier_now()
             FROM gone g JOIN unnest($1::bigint[], $2::text[], $3::text[]) AS r (id, reason, code) ON r.id = g.id
             ORDER BY g.id
         )
         INSERT INTO message AS m (id, key, source, topic, type_name, kind, time, created_at, state, reason, retrying,
             record, shard)
         SELECT DISTINCT ON (g.message_id, g.source, coalesce(g.published_on, g.topic)) g.message_id, g.key, g.source,
             coalesce(g.published_on, g.topic), g.type_name, 'event', g.created_at,
             g.created_at, 1, r.reason, false, g.record, g.shard
         FROM gone g JOIN unnest($1::bigint[], $2::text[]) AS r (id, reason) ON r.id = g.id
         WHERE g.listed ORDER BY g.message_id, g.source, coalesce(g.published_on, g.topic), g.id
         ON CONFLICT (id, source, topic) DO UPDATE SET state = 1, reason = excluded.reason, retrying = false,
             record = excluded.record, shard = excluded.shard
         WHERE m.partition IS NULL",
    )
    .bind(&ids)
    .bind(&reasons)
    .bind(&codes)
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok(())
}

/// Holds rows until they are tried again. A held row holds back the rows with its key.
async fn later(tx: &mut PgConnection, results: &[&Relayed]) -> Result<(), StoreError> {
    let (mut ids, mut reasons, mut waits, mut unknown) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for result in results {
        if let RelayResult::Later { reason, wait, unknown_from } = &result.result {
            ids.push(result.id);
            reasons.push(clean(reason));
            waits.push(micros(*wait));
            unknown.push(unknown_from.map(|from| from.0));
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH kept AS (
             UPDATE outbound o SET tries = o.tries + 1, held_until = courier_now() + l.wait,
                 unknown_from = l.unknown_from
             FROM unnest($1::bigint[], $3::bigint[], $4::bigint[]) AS l (id, wait, unknown_from) WHERE o.id = l.id RETURNING o.*
         )
         INSERT INTO message AS m (id, key, source, topic, type_name, kind, time, created_at, state, reason, retrying)
         SELECT DISTINCT ON (k.message_id, k.source, coalesce(k.published_on, k.topic)) k.message_id, k.key, k.source,
             coalesce(k.published_on, k.topic), k.type_name, 'event', k.created_at,
             k.created_at, 1, l.reason, true
         FROM kept k JOIN unnest($1::bigint[], $2::text[]) AS l (id, reason) ON l.id = k.id
         WHERE k.listed ORDER BY k.message_id, k.source, coalesce(k.published_on, k.topic), k.id
         ON CONFLICT (id, source, topic) DO UPDATE SET state = 1, reason = excluded.reason, retrying = true
         WHERE m.partition IS NULL",
    )
    .bind(&ids)
    .bind(&reasons)
    .bind(&waits)
    .bind(&unknown)
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok(())
}
