//! Outbound rows: reading those of leased shards, choosing their partitions, and sending a
//! message again.

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Offset;
use courier_core::status::State;
use sqlx::postgres::{PgConnection, PgRow, Postgres};
use sqlx::query_builder::QueryBuilder;

use super::columns::{PgRowExt, count};
use super::error::at_statement;
use super::messages::{MESSAGE_COLUMNS, message_row};
use super::shards::shard_columns;
use super::{PostgresStore, bounded, commit, prompt, relayed};
use crate::store::delayed::{is_cancelled, not_resent};
use crate::store::shared::dialect::StatementConnection as _;
use crate::store::shared::text::clean;
use crate::store::{ChosenPartition, Identity, LeftOut, OutboundRow, OutboundStore, Relayed, StoreError};

#[async_trait]
impl OutboundStore for PostgresStore {
    async fn topics_with_outbound(&self) -> Result<Vec<String>, StoreError> {
        prompt(topics(self)).await
    }

    async fn outbound(
        &self,
        shards: &[(i32, i64)],
        limit: u32,
        left_out: &LeftOut,
    ) -> Result<Vec<OutboundRow>, StoreError> {
        prompt(outbound(self, shards, limit, left_out)).await
    }

    async fn choose_partitions(&self, shards: &[(i32, i64)], chosen: &[ChosenPartition]) -> Result<(), StoreError> {
        prompt(choose_partitions(self, shards, chosen)).await
    }

    async fn unsent_lanes(&self, lanes: &[(String, Bytes)]) -> Result<Vec<usize>, StoreError> {
        prompt(unsent_lanes(self, lanes)).await
    }

    async fn relayed(&self, shards: &[(i32, i64)], results: &[Relayed]) -> Result<(), StoreError> {
        prompt(relayed::relayed(self, shards, results)).await
    }

    async fn resend(&self, message: &Identity) -> Result<(), StoreError> {
        bounded(resend(self, message)).await
    }
}

/// Lists the topics with outbound rows. The recursion jumps along the index from one topic to
/// the next, so that a million rows of a topic cost one read.
async fn topics(store: &PostgresStore) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "WITH RECURSIVE step AS (
             (SELECT topic FROM outbound ORDER BY topic LIMIT 1)
             UNION ALL
             SELECT (SELECT o.topic FROM outbound o WHERE o.topic > step.topic ORDER BY o.topic LIMIT 1)
             FROM step WHERE step.topic IS NOT NULL
         )
         SELECT topic FROM step WHERE topic IS NOT NULL",
    )
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    rows.iter().map(|row| row.take("topic")).collect()
}

/// The beginning of the questions for rows. `hidden` has for each key the first row that
/// is left out, behind which none is taken; a question for each of the reasons uses its
/// index, and costs nothing where nothing is left out.
macro_rules! taken_rows {
    ($rows:literal) => {
        concat!(
            "WITH now AS MATERIALIZED (SELECT courier_now() AS at),
             leased AS MATERIALIZED (
                 SELECT s.shard FROM unnest($1::integer[], $2::bigint[]) AS l (shard, epoch)
                 JOIN relay_shard s ON s.shard = l.shard AND s.epoch = l.epoch
             ), silent AS MATERIALIZED (
                 SELECT topic, partition FROM unnest($4::text[], $5::integer[]) AS s (topic, partition)
             ), left_out AS MATERIALIZED (
                 SELECT o.topic, o.key, o.id FROM outbound o
                 WHERE o.shard IN (SELECT shard FROM leased) AND o.key IS NOT NULL
                     AND o.held_until IS NOT NULL AND o.held_until > (SELECT at FROM now)
                 UNION ALL
                 SELECT o.topic, o.key, o.id FROM outbound o
                 WHERE o.topic = ANY ($3) AND o.key IS NOT NULL AND o.tries > 0
                 UNION ALL
                 SELECT o.topic, o.key, o.id FROM silent s
                 JOIN outbound o ON o.topic = s.topic AND o.partition = s.partition WHERE o.key IS NOT NULL
                 UNION ALL
                 SELECT o.topic, o.key, 0 FROM outbound o WHERE o.id = ANY ($6) AND o.key IS NOT NULL
             ), hidden AS MATERIALIZED (SELECT topic, key, min(id) AS id FROM left_out GROUP BY topic, key)
             SELECT ",
            $rows,
            " o.id, o.shard, o.message_id, o.source, coalesce(o.published_on, o.topic) AS published_on, o.topic,
                 o.partition, o.topic_id, o.unknown_from, o.key, o.record, o.tries
             FROM outbound o
             WHERE o.shard IN (SELECT shard FROM leased)
                 AND (o.held_until IS NULL OR o.held_until <= (SELECT at FROM now))
                 AND o.id NOT IN (SELECT unnest($6::bigint[]))
                 AND NOT EXISTS (SELECT FROM hidden h WHERE h.topic = o.topic AND h.key = o.key AND h.id < o.id)"
        )
    };
}

async fn outbound(
    store: &PostgresStore,
    shards: &[(i32, i64)],
    limit: u32,
    left_out: &LeftOut,
) -> Result<Vec<OutboundRow>, StoreError> {
    let (shards, epochs) = shard_columns(shards);
    let (topics, partitions): (Vec<&str>, Vec<i32>) =
        left_out.partitions.iter().map(|(topic, partition)| (topic.as_str(), *partition)).unzip();
    let taken = |sql: &'static str| {
        sqlx::query(sql)
            .bind(&shards)
            .bind(&epochs)
            .bind(&left_out.topics)
            .bind(&topics)
            .bind(&partitions)
            .bind(&left_out.under_way)
    };
    let mut rows = taken(concat!(
        taken_rows!(""),
        " AND (o.tries = 0 OR o.topic <> ALL ($3))
          AND NOT EXISTS (SELECT FROM silent s WHERE s.topic = o.topic AND s.partition = o.partition)
          ORDER BY o.id LIMIT $7"
    ))
    .bind(i64::from(limit))
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    if !left_out.tried.is_empty() {
        let (tried_topics, tried): (Vec<&str>, Vec<i32>) =
            left_out.tried.iter().map(|(topic, partition)| (topic.as_str(), *partition)).unzip();
        let first = taken(concat!(
            taken_rows!("DISTINCT ON (o.topic, o.partition)"),
            " AND o.topic <> ALL ($3)
              AND EXISTS (SELECT FROM unnest($7::text[], $8::integer[]) AS t (topic, partition)
                          WHERE t.topic = o.topic AND t.partition = o.partition)
              ORDER BY o.topic, o.partition, o.id"
        ))
        .bind(&tried_topics)
        .bind(&tried)
        .fetch_all(&store.pool)
        .await
        .map_err(at_statement)?;
        rows.extend(first);
    }
    let row = |row: &PgRow| {
        Ok(OutboundRow {
            id: row.take("id")?,
            shard: row.take("shard")?,
            message_id: row.take("message_id")?,
            source: row.take("source")?,
            published_on: row.take("published_on")?,
            topic: row.take("topic")?,
            partition: row.take("partition")?,
            topic_id: row.take::<Option<String>>("topic_id")?.unwrap_or_default(),
            unknown_from: row.take::<Option<i64>>("unknown_from")?.map(Offset),
            key: row.bytes("key")?,
            record: row.bytes("record")?.unwrap_or_default(),
            tries: count(row.take("tries")?),
        })
    };
    let mut rows = rows.iter().map(row).collect::<Result<Vec<OutboundRow>, StoreError>>()?;
    rows.sort_unstable_by_key(|row| row.id);
    Ok(rows)
}

/// Stores the chosen partitions. If one shard has a newer epoch, all of them fail and
/// nothing is produced: otherwise a record would go to a partition that the next holder of
/// the shard does not know of. A row that is gone was sent directly after all, and a row
/// with a partition keeps it while the topic is the same.
///
/// It is one statement and so one round trip, since every message waits for it.
async fn choose_partitions(
    store: &PostgresStore,
    shards: &[(i32, i64)],
    chosen: &[ChosenPartition],
) -> Result<(), StoreError> {
    let (numbers, epochs) = shard_columns(shards);
    let ids: Vec<i64> = chosen.iter().map(|chosen| chosen.row).collect();
    let partitions: Vec<i32> = chosen.iter().map(|chosen| chosen.partition).collect();
    let topic_ids: Vec<_> = chosen.iter().map(|chosen| clean(&chosen.topic_id)).collect();
    let rows = sqlx::query(
        "WITH ours AS MATERIALIZED (
             SELECT s.shard FROM unnest($1::integer[], $2::bigint[]) AS l (shard, epoch)
             JOIN relay_shard s ON s.shard = l.shard AND s.epoch = l.epoch ORDER BY s.shard FOR SHARE OF s
         ), stored AS (
             UPDATE outbound o SET partition = c.partition, topic_id = c.topic_id, unknown_from = NULL
             FROM unnest($3::bigint[], $4::integer[], $5::text[]) AS c (id, partition, topic_id)
             WHERE o.id = c.id AND o.shard IN (SELECT shard FROM ours)
                 AND (o.partition IS NULL OR o.topic_id IS DISTINCT FROM c.topic_id OR o.topic_id = '')
         )
         SELECT shard FROM ours",
    )
    .bind(&numbers)
    .bind(&epochs)
    .bind(&ids)
    .bind(&partitions)
    .bind(&topic_ids)
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let ours: HashSet<i32> = rows.iter().map(|row| row.take("shard")).collect::<Result<_, _>>()?;
    match numbers.iter().find(|shard| !ours.contains(shard)) {
        Some(shard) => Err(StoreError::Fenced(format!("relay shard {shard} has a newer epoch"))),
        None => Ok(()),
    }
}

/// Finds the lanes that have unsent rows of any host. Each lane is one look-up by the
/// index: as a join, the question would read all rows before each send, by the plan
/// that the session made while the table was empty.
async fn unsent_lanes(store: &PostgresStore, lanes: &[(String, Bytes)]) -> Result<Vec<usize>, StoreError> {
    let rows = sqlx::query(
        "SELECT l.place FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS l (topic, key, place)
         WHERE (SELECT true FROM outbound o WHERE o.topic = l.topic AND substr(o.key, 1, 64) = substr(l.key, 1, 64)
             AND o.key = l.key LIMIT 1)",
    )
    .bind(lanes.iter().map(|(topic, _)| clean(topic)).collect::<Vec<_>>())
    .bind(lanes.iter().map(|(_, key)| &key[..]).collect::<Vec<_>>())
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    rows.iter().map(|row| Ok(usize::try_from(row.take::<i64>("place")? - 1).unwrap_or_default())).collect()
}

/// Makes the outbound row of a message due now, if it has one, and returns whether it has.
async fn make_due(tx: &mut PgConnection, (id, source, topic): (&str, &str, &str)) -> Result<bool, StoreError> {
    let due = sqlx::query(
        "UPDATE outbound SET held_until = NULL
         WHERE left(message_id, 64) = left($1, 64) AND message_id = $1 AND source = $2
             AND coalesce(published_on, topic) = $3 AND listed",
    )
    .bind(id)
    .bind(source)
    .bind(topic)
    .execute(tx)
    .await
    .map_err(at_statement)?;
    Ok(due.rows_affected() > 0)
}

async fn resend(store: &PostgresStore, message: &Identity) -> Result<(), StoreError> {
    let (id, source, topic) = (clean(&message.id), clean(&message.source), clean(&message.topic));
    let mut tx = store.begin_tx().await?;
    // Outbound rows are locked before messages everywhere, and so are undelivered ones.
    let owed = make_due(&mut tx, (&id, &source, &topic)).await?;
    // An undelivered row of the message is removed, so that it is not sent twice.
    sqlx::query(
        "DELETE FROM undelivered WHERE left(message_id, 64) = left($1, 64) AND message_id = $1 AND source = $2
             AND coalesce(published_on, topic) = $3 AND listed",
    )
    .bind(&*id)
    .bind(&*source)
    .bind(&*topic)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    let mut query = QueryBuilder::<Postgres>::new("SELECT ");
    query.push(MESSAGE_COLUMNS).push(", NULL::bytea AS record FROM message m WHERE m.id = ").push_bind(&*id);
    query.push(" AND m.source = ").push_bind(&*source).push(" AND m.topic = ").push_bind(&*topic).push(" FOR UPDATE");
    let row = query.build().fetch_optional(&mut *tx).await.map_err(at_statement)?;
    let row = row.as_ref().map(message_row).transpose()?;
    let row = row.ok_or_else(|| StoreError::NotFound(format!("there is no message {message}")))?;
    if row.state != State::SendFail {
        let state = row.state;
        return Err(StoreError::Conflict(format!("message {message} is {state}: only SEND_FAIL is sent again")));
    }
    if is_cancelled(&row) {
        return Err(StoreError::Conflict(not_resent(message)));
    }
    // A message with an outbound row needs no second one; that is due now.
    if !owed {
        // A broadcast goes to the companion of its topic.
        let inserted = sqlx::query(
            "INSERT INTO outbound (shard, message_id, topic, type_name, source, key, record, listed, created_at,
                 published_on)
             SELECT shard, id, $4, type_name, source, key, record, true, courier_now(), nullif(topic, $4)
             FROM message WHERE id = $1 AND source = $2 AND topic = $3 AND record IS NOT NULL AND shard IS NOT NULL",
        )
        .bind(&*id)
        .bind(&*source)
        .bind(&*topic)
        .bind(&*row.goes_to())
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
        // Somebody else may have sent it again since the first look.
        if inserted.rows_affected() == 0 && !make_due(&mut tx, (&id, &source, &topic)).await? {
            return Err(StoreError::Conflict(format!("the body of message {message} is not in the store")));
        }
    }
    // From here on its outbound row has the record.
    sqlx::query(
        "UPDATE message SET retrying = true, record = NULL WHERE id = $1 AND source = $2 AND topic = $3 AND state = 1",
    )
    .bind(&*id)
    .bind(&*source)
    .bind(&*topic)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    tx.note().await?;
    commit(tx).await
}
