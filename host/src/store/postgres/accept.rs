//! Accepting messages of senders, and recording what became of direct sends.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use courier_core::status::State;
use sqlx::postgres::{PgConnection, PgRow};

use super::columns::PgRowExt;
use super::delayed::{DelayedColumns, due_columns};
use super::error::at_statement;
use super::identities::{IdentityColumns, lock_for_taking, reserved};
use super::messages::{message_row, record_of_message};
use super::settle_rows::{OutboundColumns, insert_outbound};
use super::{PostgresStore, commit, prompt};
use crate::store::delayed::CANCELLED;
use crate::store::shared::identities::stored_identity;
use crate::store::shared::text::{clean, clean_opt};
use crate::store::{
    AcceptStore, Accepted, Identity, MessageRow, NewMessage, RefusedMessage, SentBy, SentMessage, StoreError,
    UnsentMessage,
};

#[async_trait]
impl AcceptStore for PostgresStore {
    async fn accept(&self, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
        prompt(accept(self, messages)).await
    }

    async fn sent(&self, sent: &[SentMessage]) -> Result<(), StoreError> {
        prompt(self::sent(self, sent)).await
    }

    async fn release_outbound(&self, messages: &[UnsentMessage]) -> Result<(), StoreError> {
        prompt(release_outbound(self, messages)).await
    }

    async fn refuse_outbound(&self, messages: &[RefusedMessage]) -> Result<(), StoreError> {
        prompt(refuse_outbound(self, messages)).await
    }
}

async fn accept(store: &PostgresStore, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
    if messages.iter().all(|message| message.place.is_some()) {
        return accept_sent(store, messages).await;
    }
    let mut tx = store.begin_tx().await?;
    let answers = accept_in(&mut tx, messages).await?;
    commit(tx).await?;
    Ok(answers)
}

/// Accepts messages that Kafka has already, which is the usual direct send. No other
/// row is written with theirs, so that one statement is the transaction.
///
/// Messages that are stored already are looked up in a transaction of their own. When
/// that fails and the call is repeated, those that this one inserted are `Same`.
async fn accept_sent(store: &PostgresStore, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
    let identities: Vec<Identity> = messages.iter().map(stored_identity).collect();
    let first = firsts(&identities);
    let mut connection = store.pool.acquire().await.map_err(at_statement)?;
    let new = insert(&mut connection, messages, &first, &OutboundColumns::default()).await?;
    drop(connection);
    let mut answers = vec![Accepted::New; messages.len()];
    if new.len() == messages.len() {
        return Ok(answers);
    }
    let is_new = |index: usize| new.contains(&identities[index]) && first.get(&identities[index]) == Some(&index);
    let places: Vec<usize> = (0..messages.len()).filter(|index| !is_new(*index)).collect();
    let known: Vec<NewMessage> = places.iter().map(|place| messages[*place].clone()).collect();
    let mut tx = store.begin_tx().await?;
    let told = accept_in(&mut tx, &known).await?;
    commit(tx).await?;
    for (place, answer) in places.into_iter().zip(told) {
        answers[place] = answer;
    }
    Ok(answers)
}

/// Accepts messages within a transaction.
pub(super) async fn accept_in(tx: &mut PgConnection, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
    let identities: Vec<Identity> = messages.iter().map(stored_identity).collect();
    // A message that Kafka has already is not refused for a reservation. Its id was made
    // by this host, so that no transaction can be reserving it, and the usual direct send
    // saves the round trip of the lock.
    let unsent = messages.iter().zip(&identities).filter(|(message, _)| message.place.is_none());
    let unsent: Vec<&Identity> = unsent.map(|(_, identity)| identity).collect();
    if !unsent.is_empty() {
        lock_for_taking(tx, &unsent).await?;
    }
    accept_locked(tx, messages, &identities).await
}

/// Accepts messages whose identities are locked.
pub(super) async fn accept_locked(
    tx: &mut PgConnection,
    messages: &[NewMessage],
    identities: &[Identity],
) -> Result<Vec<Accepted>, StoreError> {
    let first = firsts(identities);
    let is_first = |index: usize| first.get(&identities[index]) == Some(&index);
    let owed = owed_for(messages, identities, is_first);
    let mut new = insert(tx, messages, &first, &owed).await?;
    let are_owed_written = new.len() == first.len();
    if !are_owed_written {
        // Messages that were refused before make room for corrected ones.
        let freed = forget_refused(tx, messages, &first, &new).await?;
        if !freed.is_empty() {
            new.extend(insert(tx, messages, &freed, &OutboundColumns::default()).await?);
        }
    }
    let is_new = |index: usize| new.contains(&identities[index]) && is_first(index);
    if !are_owed_written {
        let owed = owed_for(messages, identities, is_new);
        if !owed.is_empty() {
            owed.insert().execute(&mut *tx).await.map_err(at_statement)?;
        }
    }
    let mut delayed = DelayedColumns::default();
    for (index, message) in messages.iter().enumerate().filter(|(index, _)| is_new(*index)) {
        if let (Some(row), Some(_)) = (&message.outbound, message.due) {
            delayed.push(row, &identities[index]);
        }
    }
    if !delayed.is_empty() {
        delayed.insert().execute(&mut *tx).await.map_err(at_statement)?;
    }
    let all_new = new.len() == messages.len();
    let known = if all_new { HashMap::new() } else { known(tx, identities).await? };
    let reserved = if all_new { HashMap::new() } else { reserved(tx, identities).await? };
    messages
        .iter()
        .enumerate()
        .map(|(index, message)| {
            let identity = &identities[index];
            if is_new(index) {
                return Ok(Accepted::New);
            }
            match (known.get(identity), reserved.get(identity)) {
                // A message that was sent before its identity was reserved is returned as
                // it is.
                (Some(known), transaction) if transaction.is_none() || !known.is_refused() => {
                    // The refused message of another sender is not shown, also when it is
                    // the same.
                    let is_told = !known.is_refused() || known.makes_room_for(message);
                    let same = is_told && known.digest.as_deref() == Some(&message.digest[..]);
                    Ok(if same { Accepted::Same(Box::new(known.row.clone())) } else { Accepted::Other })
                }
                (_, Some(transaction)) => Ok(Accepted::Reserved { transaction: transaction.clone() }),
                // Retention has just removed it.
                _ => Err(StoreError::Unavailable(format!("message {identity} is just being removed"))),
            }
        })
        .collect()
}

/// The index in a batch of the first message of each identity. The first of several
/// messages with one identity is the message that is stored.
type Firsts<'i> = HashMap<&'i Identity, usize>;

fn firsts(identities: &[Identity]) -> Firsts<'_> {
    let mut first: Firsts<'_> = HashMap::with_capacity(identities.len());
    for (index, identity) in identities.iter().enumerate() {
        first.entry(identity).or_insert(index);
    }
    first
}

/// Collects the outbound rows of those messages of a batch that `counts` selects, in the
/// order of the batch, in which the relay sends them.
fn owed_for<'m>(
    messages: &'m [NewMessage],
    identities: &'m [Identity],
    counts: impl Fn(usize) -> bool,
) -> OutboundColumns<'m> {
    let mut owed = OutboundColumns::default();
    for (index, message) in messages.iter().enumerate().filter(|(index, _)| counts(*index)) {
        if let (Some(row), None) = (&message.outbound, message.due) {
            owed.push_for(row, &identities[index]);
        }
    }
    owed
}

/// Sorts the indexes of a batch by identity. All hosts lock rows in this order, so that
/// two that accept the same messages at once do not wait for each other in a circle.
fn in_order<'i>(places: impl Iterator<Item = (&'i Identity, usize)>) -> Vec<usize> {
    let mut places: Vec<_> = places.collect();
    places.sort_unstable();
    places.into_iter().map(|(_, place)| place).collect()
}

/// Inserts messages and returns their identities. The first 20 parameters are the columns
/// of [`insert`].
macro_rules! insert_messages {
    () => {
        "INSERT INTO message (id, digest, key, source, topic, type_name, kind, time, created_at, state, reason,
             retrying, partition, kafka_offset, record, shard, deliver_at, sender, source_proven)
         SELECT r.id, r.digest, r.key, r.source, r.topic, r.type_name, r.kind, r.time, now.at + r.place, r.state,
             r.reason, r.retrying, r.partition, r.kafka_offset, r.record, r.shard,
             coalesce(r.due, (now.at + r.wait + 999) / 1000 * 1000), r.sender, r.source_proven
         FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[],
             $8::bigint[], $9::bigint[], $10::smallint[], $11::text[], $12::boolean[], $13::integer[], $14::bigint[],
             $15::bytea[], $16::integer[], $17::bigint[], $18::bigint[], $19::text[], $20::boolean[]) WITH ORDINALITY
             AS r (id, digest, key, source, topic, type_name, kind, time, place, state, reason, retrying, partition,
                 kafka_offset, record, shard, due, wait, sender, source_proven, turn),
             (SELECT courier_now() AS at) AS now
         WHERE NOT EXISTS (SELECT FROM half_item h
             WHERE h.message_id = r.id AND h.source = r.source AND h.topic = r.topic AND h.reserved)
         ORDER BY r.turn
         ON CONFLICT (id, source, topic) DO NOTHING RETURNING id, source, topic"
    };
}

/// Inserts messages with their outbound rows. The outbound rows are written only when all
/// messages are new; otherwise those that are written later would not be in order.
const INSERT_WITH_OWED: &str = concat!(
    "WITH taken AS (",
    insert_messages!(),
    "), owed AS (",
    insert_outbound!(
        "$21::integer[], $22::text[], $23::text[], $24::text[], $25::text[], $26::bytea[], $27::bytea[],
         $28::bigint[], $29::boolean[], $30::text[], $31::text[]",
        "(SELECT count(*) FROM taken) = cardinality($1::text[])"
    ),
    ") SELECT id, source, topic FROM taken"
);

/// Inserts the messages whose identity is new and not reserved, and `owed` when all of
/// them are; returns the identities of the inserted ones.
///
/// An outbound row has the record's bytes while there is one. The `created_at` of the
/// messages are a microsecond apart, so that lists show the order of the batch.
async fn insert(
    tx: &mut PgConnection,
    messages: &[NewMessage],
    first: &Firsts<'_>,
    owed: &OutboundColumns<'_>,
) -> Result<HashSet<Identity>, StoreError> {
    let places = in_order(first.iter().map(|(identity, place)| (*identity, *place)));
    let rows: Vec<&NewMessage> = places.iter().map(|place| &messages[*place]).collect();
    let statement = if owed.is_empty() { insert_messages!() } else { INSERT_WITH_OWED };
    let query = sqlx::query(statement)
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
        .bind(rows.iter().map(|row| row.sent_by.as_ref().map(|by| clean(&by.sender))).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.sent_by.as_ref().map(|by| by.source_proven)).collect::<Vec<_>>());
    let query = if owed.is_empty() { query } else { owed.bind(query) };
    let inserted = query.fetch_all(tx).await.map_err(at_statement)?;
    inserted.iter().map(identity).collect()
}

fn identity(row: &PgRow) -> Result<Identity, StoreError> {
    Ok(Identity { id: row.take("id")?, source: row.take("source")?, topic: row.take("topic")? })
}

/// Deletes the rows of messages that were refused for a fault of their own, so that a
/// corrected message, or the same one if it is right by now, is accepted in their place;
/// returns those that can be inserted now. A message whose identity a prepared
/// transaction holds stays, and so does one of another sender, see
/// [`SentBy::makes_room`].
///
/// None of them is in Kafka or on its way there: a message that the relay ever had has a
/// shard.
async fn forget_refused<'i>(
    tx: &mut PgConnection,
    messages: &[NewMessage],
    first: &Firsts<'i>,
    new: &HashSet<Identity>,
) -> Result<Firsts<'i>, StoreError> {
    let not_new = first.iter().filter(|(identity, _)| !new.contains(**identity));
    let places = in_order(not_new.map(|(identity, place)| (*identity, *place)));
    let rows: Vec<&NewMessage> = places.iter().map(|place| &messages[*place]).collect();
    let gone = sqlx::query(
        "WITH old AS (
             SELECT m.id, m.source, m.topic
             FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::boolean[], $6::text[], $7::boolean[])
                 AS r (id, source, topic, digest, refused, sender, proven)
             JOIN message m ON m.id = r.id AND m.source = r.source AND m.topic = r.topic
             WHERE m.state = 1 AND NOT m.retrying AND m.partition IS NULL AND m.shard IS NULL
                 AND m.reason IS DISTINCT FROM 'cancelled' AND (m.digest <> r.digest OR NOT r.refused)
                 AND (m.sender IS NULL OR m.sender = r.sender OR (r.proven AND NOT coalesce(m.source_proven, false)))
                 AND NOT EXISTS (SELECT FROM half_item h
                     WHERE h.message_id = r.id AND h.source = r.source AND h.topic = r.topic AND h.reserved)
             ORDER BY m.id, m.source, m.topic FOR UPDATE OF m
         )
         DELETE FROM message WHERE (id, source, topic) IN (SELECT id, source, topic FROM old)
         RETURNING id, source, topic",
    )
    .bind(rows.iter().map(|row| clean(&row.id)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| clean(&row.source)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| clean(&row.topic)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| &row.digest[..]).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.is_refused()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.sent_by.as_ref().map(|by| clean(&by.sender))).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.sent_by.as_ref().map(|by| by.source_proven)).collect::<Vec<_>>())
    .fetch_all(tx)
    .await
    .map_err(at_statement)?;
    let gone = gone.iter().map(identity).collect::<Result<HashSet<_>, _>>()?;
    Ok(first.iter().filter(|(identity, _)| gone.contains(**identity)).map(|(one, place)| (*one, *place)).collect())
}

/// A stored message, as [`accept_locked`] compares it with a new one.
pub(super) struct StoredMessage {
    /// `None` for a message that a handler published.
    pub digest: Option<Vec<u8>>,
    pub row: MessageRow,
    /// Whether the relay ever had it, which then may have sent it.
    had_shard: bool,
}

impl StoredMessage {
    /// Whether the senders allow that `message` replaces it.
    pub fn makes_room_for(&self, message: &NewMessage) -> bool {
        SentBy::makes_room(self.row.sent_by.as_ref(), message.sent_by.as_ref())
    }

    /// Whether it was refused for a fault of its own, so that it makes room for another.
    pub fn is_refused(&self) -> bool {
        let row = &self.row;
        let unsent = row.state == State::SendFail && !row.retrying && row.place.is_none();
        unsent && !self.had_shard && row.reason.as_deref() != Some(CANCELLED)
    }
}

/// Reads the messages that are stored under these identities.
///
/// It is a statement of its own because the snapshot of the insert does not contain what
/// another host committed while the insert waited.
pub(super) async fn known(
    tx: &mut PgConnection,
    identities: &[Identity],
) -> Result<HashMap<Identity, StoredMessage>, StoreError> {
    let columns: IdentityColumns = identities.iter().collect();
    let rows = sqlx::query(concat!(
        "SELECT m.id, m.digest, m.key, m.source, m.topic, m.type_name, m.kind, m.time, m.created_at, m.state, m.reason,
             m.retrying, m.partition, m.kafka_offset, m.deliver_at, m.sender, m.source_proven,
             m.shard IS NOT NULL AS had_shard, ",
        record_of_message!(),
        " FROM unnest($1::text[], $2::text[], $3::text[]) AS r (id, source, topic)
          JOIN message m ON m.id = r.id AND m.source = r.source AND m.topic = r.topic",
    ))
    .bind(&columns.id)
    .bind(&columns.source)
    .bind(&columns.topic)
    .fetch_all(tx)
    .await
    .map_err(at_statement)?;
    rows.iter()
        .map(|row| {
            let known = StoredMessage {
                digest: row.take("digest")?,
                row: message_row(row)?,
                had_shard: row.take("had_shard")?,
            };
            Ok((known.row.identity(), known))
        })
        .collect()
}

/// Locks the outbound rows of senders' messages in the order of their ids, as the relay does.
/// The parameters are the columns of the identities. A row with a group is a handler's, which
/// may have chosen the same identity.
macro_rules! lock_owed {
    () => {
        "SELECT o.id FROM unnest($1::text[], $2::text[], $3::text[]) AS m (id, source, topic)
         JOIN outbound o ON left(o.message_id, 64) = left(m.id, 64) AND o.message_id = m.id AND o.source = m.source
             AND coalesce(o.published_on, o.topic) = m.topic AND o.listed AND o.group_name IS NULL
         ORDER BY o.id FOR UPDATE OF o"
    };
}

/// Locks the outbound rows of messages before anything is changed.
async fn lock_outbound(tx: &mut PgConnection, messages: &IdentityColumns) -> Result<Vec<i64>, StoreError> {
    let rows = sqlx::query(lock_owed!())
        .bind(&messages.id)
        .bind(&messages.source)
        .bind(&messages.topic)
        .fetch_all(tx)
        .await
        .map_err(at_statement)?;
    rows.iter().map(|row| row.take("id")).collect()
}

/// Records direct sends that Kafka took. A message that the relay sent too, because its
/// row was no longer held, is in Kafka twice; the place that was written first stays.
///
/// One statement is the transaction. The filter of the update counts the deleted outbound
/// rows, so that they are locked, in the order of their ids, before a message is: the
/// relay takes its locks in the same order.
async fn sent(store: &PostgresStore, sent: &[SentMessage]) -> Result<(), StoreError> {
    let messages: IdentityColumns = sent.iter().map(|message| &message.identity).collect();
    sqlx::query(concat!(
        "WITH owed AS MATERIALIZED (",
        lock_owed!(),
        "), gone AS (DELETE FROM outbound WHERE id IN (SELECT id FROM owed) RETURNING id)
         UPDATE message m SET state = 2, reason = NULL, retrying = false, partition = s.partition,
             kafka_offset = s.kafka_offset, record = NULL, shard = NULL
         FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::bigint[])
             AS s (id, source, topic, partition, kafka_offset)
         WHERE m.id = s.id AND m.source = s.source AND m.topic = s.topic AND m.partition IS NULL
             AND (SELECT count(*) FROM gone) >= 0",
    ))
    .bind(&messages.id)
    .bind(&messages.source)
    .bind(&messages.topic)
    .bind(sent.iter().map(|message| message.partition).collect::<Vec<_>>())
    .bind(sent.iter().map(|message| message.offset.0).collect::<Vec<_>>())
    .execute(&store.pool)
    .await
    .map_err(at_statement)?;
    Ok(())
}

async fn release_outbound(store: &PostgresStore, unsent: &[UnsentMessage]) -> Result<(), StoreError> {
    let messages: IdentityColumns = unsent.iter().map(|message| &message.identity).collect();
    let reasons: Vec<_> = unsent.iter().map(|message| clean(&message.reason)).collect();
    let mut tx = store.begin_tx().await?;
    let rows = lock_outbound(&mut tx, &messages).await?;
    sqlx::query("UPDATE outbound SET held_until = NULL WHERE id = ANY($1)")
        .bind(&rows)
        .execute(&mut *tx)
        .await
        .map_err(at_statement)?;
    // The relay may have sent it meanwhile: a message that Kafka has stays COMMITTED.
    sqlx::query(
        "UPDATE message m SET state = 1, reason = r.reason, retrying = true
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS r (id, source, topic, reason)
         WHERE m.id = r.id AND m.source = r.source AND m.topic = r.topic AND m.partition IS NULL AND EXISTS (
             SELECT FROM outbound o WHERE left(o.message_id, 64) = left(m.id, 64) AND o.message_id = m.id
                 AND o.source = m.source AND coalesce(o.published_on, o.topic) = m.topic AND o.listed
                 AND o.group_name IS NULL)",
    )
    .bind(&messages.id)
    .bind(&messages.source)
    .bind(&messages.topic)
    .bind(&reasons)
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    commit(tx).await
}

async fn refuse_outbound(store: &PostgresStore, refused: &[RefusedMessage]) -> Result<(), StoreError> {
    let messages: IdentityColumns = refused.iter().map(|message| &message.identity).collect();
    let mut tx = store.begin_tx().await?;
    let rows = lock_outbound(&mut tx, &messages).await?;
    // Without a shard it counts as never sent, and makes room for a corrected message.
    sqlx::query(
        "WITH gone AS (DELETE FROM outbound WHERE id = ANY($1)
             RETURNING message_id, source, coalesce(published_on, topic) AS topic)
         UPDATE message m SET state = 1, reason = r.reason, retrying = false, record = r.body, shard = NULL
         FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[]) AS r (id, source, topic, reason, body)
         JOIN gone g ON g.message_id = r.id AND g.source = r.source AND g.topic = r.topic
         WHERE m.id = r.id AND m.source = r.source AND m.topic = r.topic AND m.partition IS NULL",
    )
    .bind(&rows)
    .bind(&messages.id)
    .bind(&messages.source)
    .bind(&messages.topic)
    .bind(refused.iter().map(|message| clean(&message.reason)).collect::<Vec<_>>())
    .bind(refused.iter().map(|message| &message.body[..]).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await
    .map_err(at_statement)?;
    commit(tx).await
}
