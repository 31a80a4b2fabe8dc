//! Messages handed in by senders, and what became of direct sends.

use std::collections::{HashMap, HashSet};

use super::columns::Columns;
use super::delayed::{DelayedColumns, due_columns};
use super::error::at_statement;
use super::messages::message_row;
use super::settle_columns::OutboundColumns;
use super::text::{clean, clean_opt};
use super::{PostgresStore, commit};
use crate::store::{Accepted, MessageRow, NewMessage, SentMessage, StoreError};
use sqlx::postgres::PgConnection;

pub(super) async fn accept(store: &PostgresStore, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
    let mut tx = store.begin_tx().await?;
    let answers = accept_in(&mut tx, messages).await?;
    commit(tx).await?;
    Ok(answers)
}

/// The same within a transaction.
pub(super) async fn accept_in(tx: &mut PgConnection, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
    // The first of several with one id within the batch is the one to store.
    let mut first: HashMap<&str, usize> = HashMap::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        first.entry(&message.id).or_insert(index);
    }
    let mut new = insert(tx, messages, &first).await?;
    if new.len() < first.len() {
        // Those that were refused before make room for what takes their place.
        let freed = forget_refused(tx, messages, &first, &new).await?;
        if !freed.is_empty() {
            new.extend(insert(tx, messages, &freed).await?);
        }
    }
    let (mut outbound, mut delayed) = (OutboundColumns::default(), DelayedColumns::default());
    for (index, message) in messages.iter().enumerate() {
        if new.contains_key(&*clean(&message.id)) && first.get(&*message.id) == Some(&index) {
            match (&message.outbound, message.due) {
                (Some(row), Some(_)) => delayed.push(row),
                (Some(row), None) => outbound.push(row),
                (None, _) => {}
            }
        }
    }
    if !outbound.is_empty() {
        outbound.insert().execute(&mut *tx).await.map_err(at_statement)?;
    }
    if !delayed.is_empty() {
        delayed.insert().execute(&mut *tx).await.map_err(at_statement)?;
    }
    let known = if new.len() == messages.len() { HashMap::new() } else { known(tx, messages).await? };
    messages
        .iter()
        .enumerate()
        .map(|(index, message)| {
            let id = clean(&message.id);
            if new.contains_key(&*id) && first.get(&*message.id) == Some(&index) {
                return Ok(Accepted::New);
            }
            let (digest, row) = known.get(&*id).ok_or_else(|| {
                // It was there a moment ago and retention took it.
                StoreError::Unavailable(format!("message {id} is just being removed"))
            })?;
            let same = digest.as_deref() == Some(&message.digest[..]);
            Ok(if same { Accepted::Same(Box::new(row.clone())) } else { Accepted::Other })
        })
        .collect()
}

/// Inserts those whose id is new; answers their ids.
///
/// An outbound row has the record's bytes while there is one.
///
/// In the order of ids: two hosts that are handed the same ids at the same
/// time then wait for each other in one direction only. `created_at` gives
/// the batch's own order back, a microsecond apart.
async fn insert(
    tx: &mut PgConnection,
    messages: &[NewMessage],
    first: &HashMap<&str, usize>,
) -> Result<HashMap<String, ()>, StoreError> {
    let mut places: Vec<usize> = first.values().copied().collect();
    places.sort_unstable_by(|a, b| messages[*a].id.cmp(&messages[*b].id));
    let rows: Vec<&NewMessage> = places.iter().map(|place| &messages[*place]).collect();
    let inserted = sqlx::query(
        "INSERT INTO message (id, digest, key, source, topic, type_name, kind, time, created_at, state, reason,
             retrying, partition, kafka_offset, record, shard, deliver_at)
         SELECT r.id, r.digest, r.key, r.source, r.topic, r.type_name, r.kind, r.time, now.at + r.place, r.state,
             r.reason, r.retrying, r.partition, r.kafka_offset, r.record, r.shard,
             coalesce(r.due, (now.at + r.wait + 999) / 1000 * 1000)
         FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[],
             $8::bigint[], $9::bigint[], $10::smallint[], $11::text[], $12::boolean[], $13::integer[], $14::bigint[],
             $15::bytea[], $16::integer[], $17::bigint[], $18::bigint[])
             AS r (id, digest, key, source, topic, type_name, kind, time, place, state, reason, retrying, partition,
                 kafka_offset, record, shard, due, wait),
             (SELECT courier_now() AS at) AS now
         ORDER BY r.id COLLATE \"C\"
         ON CONFLICT (id) DO NOTHING RETURNING id",
    )
    .bind(rows.iter().map(|row| clean(&row.id)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| &row.digest[..]).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.key.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| clean(&row.source)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| clean(&row.topic)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| clean(&row.type_name)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.kind).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.time.0).collect::<Vec<_>>())
    .bind(places.iter().map(|place| i64::try_from(*place).unwrap_or(0)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.state.code()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| clean_opt(row.reason.as_deref())).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.retrying).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.place.map(|(partition, _)| partition)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.place.map(|(_, offset)| offset.0)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.record.as_deref().filter(|_| row.outbound.is_none())).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.outbound.as_ref().map(|outbound| outbound.shard)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| due_columns(row.due).0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| due_columns(row.due).1).collect::<Vec<_>>())
    .fetch_all(tx)
    .await
    .map_err(at_statement)?;
    inserted.iter().map(|row| Ok((row.take("id")?, ()))).collect()
}

/// Removes the rows of messages that were refused for what was wrong with
/// them, so that a corrected message, or the same one where it is right by
/// now, is taken under its id; answers those that can be inserted now.
///
/// Nothing of them is in Kafka or on its way there: a row that the relay ever
/// had has a shard.
async fn forget_refused<'m>(
    tx: &mut PgConnection,
    messages: &'m [NewMessage],
    first: &HashMap<&'m str, usize>,
    new: &HashMap<String, ()>,
) -> Result<HashMap<&'m str, usize>, StoreError> {
    let mut places: Vec<usize> =
        first.values().copied().filter(|place| !new.contains_key(&*clean(&messages[*place].id))).collect();
    places.sort_unstable_by(|a, b| messages[*a].id.cmp(&messages[*b].id));
    let rows: Vec<&NewMessage> = places.iter().map(|place| &messages[*place]).collect();
    let gone = sqlx::query(
        "WITH old AS (
             SELECT m.id FROM unnest($1::text[], $2::bytea[], $3::boolean[]) AS r (id, digest, refused)
             JOIN message m ON m.id = r.id
             WHERE m.state = 1 AND NOT m.retrying AND m.partition IS NULL AND m.shard IS NULL
                 AND m.reason IS DISTINCT FROM 'cancelled' AND (m.digest <> r.digest OR NOT r.refused)
             ORDER BY m.id COLLATE \"C\" FOR UPDATE OF m
         )
         DELETE FROM message WHERE id IN (SELECT id FROM old) RETURNING id",
    )
    .bind(rows.iter().map(|row| clean(&row.id)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| &row.digest[..]).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.is_refused()).collect::<Vec<_>>())
    .fetch_all(tx)
    .await
    .map_err(at_statement)?;
    let gone = gone.iter().map(|row| row.take::<String>("id")).collect::<Result<HashSet<_>, _>>()?;
    Ok(first.iter().filter(|(id, _)| gone.contains(&*clean(id))).map(|(id, place)| (*id, *place)).collect())
}

/// The messages that are stored under the ids, with their digests.
///
/// In a statement of its own: what another host committed while the insert
/// waited for it is not in the insert's snapshot.
async fn known(
    tx: &mut PgConnection,
    messages: &[NewMessage],
) -> Result<HashMap<String, (Option<Vec<u8>>, MessageRow)>, StoreError> {
    let ids: Vec<_> = messages.iter().map(|message| clean(&message.id)).collect();
    let rows = sqlx::query(
        "SELECT m.id, m.digest, m.key, m.source, m.topic, m.type_name, m.kind, m.time, m.created_at, m.state, m.reason,
             m.retrying, m.partition, m.kafka_offset, m.deliver_at, coalesce(m.record, (
                 SELECT o.record FROM outbound o
                 WHERE left(o.message_id, 64) = left(m.id, 64) AND o.message_id = m.id AND o.listed
                 ORDER BY o.id LIMIT 1), (
                 SELECT d.record FROM delayed d
                 WHERE left(d.message_id, 64) = left(m.id, 64) AND d.message_id = m.id)) AS record
         FROM message m WHERE m.id = ANY($1)",
    )
    .bind(&ids)
    .fetch_all(tx)
    .await
    .map_err(at_statement)?;
    rows.iter().map(|row| Ok((row.take("id")?, (row.take("digest")?, message_row(row)?)))).collect()
}

/// Locks the outbound rows of messages in id order, as the relay does, before
/// anything of them is changed.
async fn lock_outbound(tx: &mut PgConnection, ids: &[std::borrow::Cow<'_, str>]) -> Result<Vec<i64>, StoreError> {
    let rows = sqlx::query(
        "SELECT o.id FROM unnest($1::text[]) AS m (id)
         JOIN outbound o ON left(o.message_id, 64) = left(m.id, 64) AND o.message_id = m.id AND o.listed
         ORDER BY o.id FOR UPDATE OF o",
    )
    .bind(ids)
    .fetch_all(tx)
    .await
    .map_err(at_statement)?;
    rows.iter().map(|row| row.take("id")).collect()
}

/// A message that the relay sent too, because its row was no longer held, is
/// in Kafka twice; the place that was written first stays.
pub(super) async fn sent(store: &PostgresStore, sent: &[SentMessage]) -> Result<(), StoreError> {
    let ids: Vec<_> = sent.iter().map(|message| clean(&message.id)).collect();
    let mut tx = store.begin_tx().await?;
    let rows = lock_outbound(&mut tx, &ids).await?;
    if !rows.is_empty() {
        sqlx::query("DELETE FROM outbound WHERE id = ANY($1)")
            .bind(&rows)
            .execute(&mut *tx)
            .await
            .map_err(at_statement)?;
    }
    sqlx::query(
        "UPDATE message m SET state = 2, reason = NULL, retrying = false, partition = s.partition,
             kafka_offset = s.kafka_offset, record = NULL, shard = NULL
         FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS s (id, partition, kafka_offset)
         WHERE m.id = s.id AND m.partition IS NULL",
    )
    .bind(&ids)
    .bind(sent.iter().map(|message| message.partition).collect::<Vec<_>>())
    .bind(sent.iter().map(|message| message.offset.0).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    commit(tx).await
}

pub(super) async fn release_outbound(store: &PostgresStore, messages: &[(String, String)]) -> Result<(), StoreError> {
    let ids: Vec<_> = messages.iter().map(|(id, _)| clean(id)).collect();
    let reasons: Vec<_> = messages.iter().map(|(_, reason)| clean(reason)).collect();
    let mut tx = store.begin_tx().await?;
    let rows = lock_outbound(&mut tx, &ids).await?;
    sqlx::query("UPDATE outbound SET held_until = NULL WHERE id = ANY($1)")
        .bind(&rows)
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
    // The relay may have been quicker: what Kafka has stays COMMITTED.
    sqlx::query(
        "UPDATE message m SET state = 1, reason = r.reason, retrying = true
         FROM unnest($1::text[], $2::text[]) AS r (id, reason)
         WHERE m.id = r.id AND m.partition IS NULL AND EXISTS (
             SELECT FROM outbound o WHERE left(o.message_id, 64) = left(m.id, 64) AND o.message_id = m.id AND o.listed)",
    )
    .bind(&ids)
    .bind(&reasons)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    commit(tx).await
}
