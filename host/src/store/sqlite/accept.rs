//! The send side: messages that senders hand in.
//!
//! A message has a row of its own for people, and an outbound row as long as
//! it is owed to Kafka, or a delayed one until then. The record's bytes stand in
//! one of them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use courier_core::message::Timestamp;
use courier_core::status::State;
use sqlx::{Arguments, SqliteConnection};

use super::columns::{Bulk, Columns, clean, clean_option, expect_rows, json, now};
use super::delayed::{Waiting, due_at, write_delayed};
use super::error::{commit_fault, fault};
use super::messages::message_of;
use super::{SqliteStore, audits};
use crate::store::delayed::{is_cancelled, not_resent};
use crate::store::{
    Accepted, Identity, NewMessage, NewOutbound, RefusedMessage, SentBy, SentMessage, StoreError, UnsentMessage,
};

/// Who an outbound row belongs to.
#[derive(Clone, Copy)]
pub(super) enum Origin<'m> {
    /// A sender: it stands for the row of this message, which a direct send
    /// settles.
    Sender(&'m NewMessage),
    /// A handler's emission or a dead letter. The latter has the id of the
    /// message that failed, and must not be taken for that message.
    Handler,
}

/// Inserts outbound rows in the order given.
pub(super) async fn write_outbound<'o>(
    tx: &mut SqliteConnection,
    rows: impl Iterator<Item = (&'o NewOutbound, Origin<'o>)> + Send,
) -> Result<(), StoreError> {
    const INSERT: Bulk = Bulk {
        insert: "INSERT INTO outbound (shard, message_id, topic, key, type_name, source, held_until, sender, listed,
                 group_name, created_at, published_on, record)",
        columns: 13,
        then: "",
    };
    let now = now();
    let rows: Vec<_> = rows.collect();
    let inserted = INSERT
        .run(tx, &rows, |arguments, (row, origin)| {
            let topic = clean(&row.topic);
            let (source, published_on, sender) = match origin {
                Origin::Sender(message) => (&message.source, clean(&message.topic), 1_i64),
                Origin::Handler => (&row.source, topic.clone(), 0),
            };
            arguments.add(row.shard)?;
            arguments.add(clean(&row.message_id).as_ref())?;
            arguments.add(topic.as_ref())?;
            arguments.add(row.key.as_deref())?;
            arguments.add(clean(&row.type_name).as_ref())?;
            arguments.add(clean(source).as_ref())?;
            arguments.add(row.held_for.map_or(0, |held| now.after(held).0))?;
            arguments.add(sender)?;
            arguments.add(i64::from(row.listed))?;
            arguments.add(clean_option(row.group.as_deref()).as_deref())?;
            arguments.add(now.0)?;
            arguments.add(Some(published_on.as_ref()).filter(|published_on| *published_on != topic))?;
            arguments.add(row.record.as_ref())
        })
        .await?;
    expect_rows("inserting outbound rows", rows.len(), inserted)
}

/// The ids of outbound rows that stand for messages which senders handed in.
/// The one parameter is a JSON list whose items begin with [`columns`].
macro_rules! owed_rows {
    () => {
        "SELECT o.id FROM json_each(?) m CROSS JOIN outbound o
         ON o.message_id = m.value ->> '$[0][0]' AND o.source = m.value ->> '$[0][1]'
             AND coalesce(o.published_on, o.topic) = m.value ->> '$[0][2]' AND o.sender = 1"
    };
}

impl SqliteStore {
    pub(super) async fn accept_messages(&self, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
        let mut tx = self.connections.write().await?;
        let answers = accept_in(&mut tx, messages).await?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(answers)
    }

    pub(super) async fn mark_sent(&self, sent: &[SentMessage]) -> Result<(), StoreError> {
        let rows: Vec<_> = sent.iter().map(|s| (columns(&s.identity), s.partition, s.offset.0)).collect();
        let rows = json(&rows)?;
        let mut tx = self.connections.write().await?;
        // Without a place: a row that the relay sent meanwhile, because its
        // hold ran out, keeps the place it got there.
        sqlx::query(
            "UPDATE message SET state = ?, reason = NULL, retrying = 0, record = NULL, shard = NULL,
                 partition = s.value ->> 1, offset = s.value ->> 2
             FROM json_each(?) s WHERE message.id = s.value ->> '$[0][0]' AND message.source = s.value ->> '$[0][1]'
                 AND message.topic = s.value ->> '$[0][2]' AND message.partition IS NULL",
        )
        .bind(State::Committed.code())
        .bind(&rows)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        sqlx::query(concat!("DELETE FROM outbound WHERE id IN (", owed_rows!(), ")"))
            .bind(&rows)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        tx.commit().await.map_err(commit_fault)
    }

    pub(super) async fn release_held(&self, messages: &[UnsentMessage]) -> Result<(), StoreError> {
        let rows: Vec<_> = messages.iter().map(|unsent| (columns(&unsent.identity), clean(&unsent.reason))).collect();
        let rows = json(&rows)?;
        let mut tx = self.connections.write().await?;
        sqlx::query(concat!("UPDATE outbound SET held_until = 0 WHERE id IN (", owed_rows!(), ")"))
            .bind(&rows)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        // One that the relay sent meanwhile has a place and stays COMMITTED.
        sqlx::query(
            "UPDATE message SET state = ?, retrying = 1, reason = m.value ->> 1
             FROM json_each(?) m WHERE message.id = m.value ->> '$[0][0]' AND message.source = m.value ->> '$[0][1]'
                 AND message.topic = m.value ->> '$[0][2]' AND message.partition IS NULL
                 AND EXISTS (SELECT 1 FROM outbound o WHERE o.message_id = message.id AND o.source = message.source
                     AND coalesce(o.published_on, o.topic) = message.topic AND o.sender = 1)",
        )
        .bind(State::SendFail.code())
        .bind(&rows)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        tx.commit().await.map_err(commit_fault)
    }

    pub(super) async fn refuse_held(&self, messages: &[RefusedMessage]) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        for refused in messages {
            let (id, source, topic) = columns(&refused.identity);
            let gone = sqlx::query(
                "DELETE FROM outbound
                 WHERE message_id = ? AND source = ? AND coalesce(published_on, topic) = ? AND sender = 1",
            )
            .bind(id.as_ref())
            .bind(source.as_ref())
            .bind(topic.as_ref())
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
            if gone.rows_affected() == 0 {
                continue;
            }
            // Without its shard it counts as never sent, and makes room for a
            // corrected one.
            sqlx::query(
                "UPDATE message SET state = ?, reason = ?, retrying = 0, record = ?, shard = NULL
                 WHERE id = ? AND source = ? AND topic = ? AND partition IS NULL",
            )
            .bind(State::SendFail.code())
            .bind(clean(&refused.reason).as_ref())
            .bind(refused.body.as_ref())
            .bind(id.as_ref())
            .bind(source.as_ref())
            .bind(topic.as_ref())
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        }
        tx.commit().await.map_err(commit_fault)
    }

    pub(super) async fn resend_message(&self, message: &Identity) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        let row = message_of(&mut tx, message).await?;
        let row = row.ok_or_else(|| StoreError::NotFound(format!("there is no message {message}")))?;
        if row.state != State::SendFail {
            let state = row.state;
            return Err(StoreError::Conflict(format!("message {message} is {state}: only SEND_FAIL is sent again")));
        }
        if is_cancelled(&row) {
            return Err(StoreError::Conflict(not_resent(message)));
        }
        let (id, source, topic) = columns(message);
        // One that is the relay's already need not wait any longer.
        let owed = sqlx::query(
            "UPDATE outbound SET held_until = 0
             WHERE message_id = ? AND source = ? AND coalesce(published_on, topic) = ? AND listed = 1",
        )
        .bind(id.as_ref())
        .bind(source.as_ref())
        .bind(topic.as_ref())
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        // What is kept as undelivered goes with this resend, and not twice.
        sqlx::query(
            "DELETE FROM undelivered
             WHERE message_id = ? AND source = ? AND coalesce(published_on, topic) = ? AND listed = 1",
        )
        .bind(id.as_ref())
        .bind(source.as_ref())
        .bind(topic.as_ref())
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        if owed.rows_affected() == 0 {
            // A broadcast goes to the companion of its topic.
            let goes_to = row.goes_to();
            let inserted = sqlx::query(
                "INSERT INTO outbound (shard, message_id, topic, key, type_name, source, held_until, sender, listed,
                     created_at, published_on, record)
                 SELECT shard, id, ?1, key, type_name, source, 0, 1, 1, ?2, nullif(topic, ?1), record
                 FROM message WHERE id = ?3 AND source = ?4 AND topic = ?5 AND shard IS NOT NULL AND record IS NOT NULL",
            )
            .bind(clean(&goes_to))
            .bind(now().0)
            .bind(id.as_ref())
            .bind(source.as_ref())
            .bind(topic.as_ref())
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
            if inserted.rows_affected() == 0 {
                return Err(StoreError::Conflict(format!("the body of message {message} is not in the store")));
            }
        }
        let changed = sqlx::query(
            "UPDATE message SET retrying = 1, record = NULL
             WHERE id = ? AND source = ? AND topic = ? AND state = ? AND partition IS NULL",
        )
        .bind(id.as_ref())
        .bind(source.as_ref())
        .bind(topic.as_ref())
        .bind(State::SendFail.code())
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        expect_rows("marking a message as being sent again", 1, changed.rows_affected())?;
        audits::note(&mut tx).await?;
        tx.commit().await.map_err(commit_fault)
    }
}

/// An identity as the columns of the key.
pub(super) fn columns(message: &Identity) -> (Cow<'_, str>, Cow<'_, str>, Cow<'_, str>) {
    (clean(&message.id), clean(&message.source), clean(&message.topic))
}

/// The identity of a message as the store keeps it.
pub(super) fn stored_identity(message: &NewMessage) -> Identity {
    let clean = |text: &str| clean(text).into_owned();
    Identity { id: clean(&message.id), source: clean(&message.source), topic: clean(&message.topic) }
}

/// Takes messages within a transaction.
pub(super) async fn accept_in(tx: &mut SqliteConnection, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
    let identities: Vec<Identity> = messages.iter().map(stored_identity).collect();
    let mut known = known(tx, &identities).await?;
    let mut freed = Vec::new();
    for (message, identity) in messages.iter().zip(&identities) {
        let Some(Known::Refused(digest, by)) = known.get(identity) else { continue };
        // The same that was refused before is told so again.
        let differs = digest.as_deref() != Some(message.digest.as_slice()) || !message.is_refused();
        if differs && SentBy::makes_room(by.as_ref(), message.sent_by.as_ref()) {
            known.remove(identity);
            freed.push(identity);
        }
    }
    forget(tx, &freed).await?;
    // The first of several with one identity in this batch is the new one.
    let mut first: HashMap<&Identity, &NewMessage> = HashMap::new();
    let mut new = Vec::new();
    let mut is_new = Vec::with_capacity(messages.len());
    for (message, identity) in messages.iter().zip(&identities) {
        let fresh = !known.contains_key(identity) && !first.contains_key(identity);
        if fresh {
            first.insert(identity, message);
            new.push(message);
        }
        is_new.push(fresh);
    }
    let now = now();
    insert_messages(tx, &new, now).await?;
    let (mut owed, mut waiting) = (Vec::new(), Vec::new());
    for message in &new {
        match (&message.outbound, message.due) {
            (Some(row), Some(due)) => waiting.push(Waiting { row, due, message }),
            (Some(row), None) => owed.push((row, Origin::Sender(message))),
            (None, _) => {}
        }
    }
    write_outbound(tx, owed.into_iter()).await?;
    write_delayed(tx, &waiting, now).await?;
    let mut answers = Vec::with_capacity(messages.len());
    for ((message, identity), is_new) in messages.iter().zip(&identities).zip(is_new) {
        if is_new {
            answers.push(Accepted::New);
            continue;
        }
        let digest = match known.get(identity) {
            Some(Known::Reserved(transaction)) => {
                answers.push(Accepted::Reserved { transaction: transaction.clone() });
                continue;
            }
            Some(Known::Sent(digest)) => digest.clone(),
            // Another's is not told, also when it is the same.
            Some(Known::Refused(digest, by)) => {
                digest.clone().filter(|_| SentBy::makes_room(by.as_ref(), message.sent_by.as_ref()))
            }
            None => first.get(identity).map(|first| first.digest.to_vec()),
        };
        if digest.as_deref() != Some(message.digest.as_slice()) {
            answers.push(Accepted::Other);
            continue;
        }
        let row = message_of(tx, identity).await?;
        let row = row.ok_or_else(|| StoreError::Bug(format!("message {identity} vanished")))?;
        answers.push(Accepted::Same(Box::new(row)));
    }
    Ok(answers)
}

/// Removes the rows of messages that were refused for what was wrong with
/// them, so that a corrected message, or the same one where it is right by
/// now, is taken in its place.
async fn forget(tx: &mut SqliteConnection, messages: &[&Identity]) -> Result<(), StoreError> {
    if messages.is_empty() {
        return Ok(());
    }
    let rows: HashSet<_> = messages.iter().map(|message| columns(message)).collect();
    let gone = sqlx::query(
        "DELETE FROM message WHERE seq IN (
             SELECT m.seq FROM json_each(?) i CROSS JOIN message m
             ON m.id = i.value ->> 0 AND m.source = i.value ->> 1 AND m.topic = i.value ->> 2)",
    )
    .bind(json(&rows)?)
    .execute(tx)
    .await
    .map_err(fault)?;
    expect_rows("removing the rows of refused messages", rows.len(), gone.rows_affected())
}

/// What is known under an identity.
pub(super) enum Known {
    /// A message, with its digest; none for one that a handler published.
    Sent(Option<Vec<u8>>),
    /// A message that was refused for what was wrong with it: nothing of it is
    /// in Kafka or on its way there, since a row that the relay ever had has a
    /// shard.
    Refused(Option<Vec<u8>>, Option<SentBy>),
    /// A message of a prepared transaction, which is this one.
    Reserved(String),
}

/// What is known under these identities.
pub(super) async fn known(
    tx: &mut SqliteConnection,
    messages: &[Identity],
) -> Result<HashMap<Identity, Known>, StoreError> {
    let rows = sqlx::query(
        "SELECT m.id, m.source, m.topic, m.digest, m.state = 1 AND NOT m.retrying AND m.partition IS NULL
             AND m.shard IS NULL AND m.reason IS NOT 'cancelled', NULL, m.sender, m.source_proven
         FROM json_each(?1) i CROSS JOIN message m
             ON m.id = i.value ->> 0 AND m.source = i.value ->> 1 AND m.topic = i.value ->> 2
         UNION ALL
         SELECT h.message_id, h.source, h.topic, NULL, 0, h.half_id, NULL, NULL
         FROM json_each(?1) i CROSS JOIN half_item h INDEXED BY half_item_reserved
             ON h.message_id = i.value ->> 0 AND h.source = i.value ->> 1 AND h.topic = i.value ->> 2 AND h.reserved = 1",
    )
    .bind(json(&messages.iter().map(columns).collect::<Vec<_>>())?)
    .fetch_all(tx)
    .await
    .map_err(fault)?;
    let mut known = HashMap::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::of(row);
        let identity = Identity { id: columns.take()?, source: columns.take()?, topic: columns.take()? };
        let (digest, refused) = (columns.take()?, columns.flag()?);
        let transaction = columns.take::<Option<String>>()?;
        let by = SentBy::from_columns(columns.take()?, columns.take::<Option<bool>>()?);
        match transaction {
            // What was sent before it was prepared is told as it is.
            Some(_) if matches!(known.get(&identity), Some(Known::Sent(_))) => {}
            Some(transaction) => drop(known.insert(identity, Known::Reserved(transaction))),
            None if refused => drop(known.insert(identity, Known::Refused(digest, by))),
            None => drop(known.insert(identity, Known::Sent(digest))),
        }
    }
    Ok(known)
}

async fn insert_messages(
    tx: &mut SqliteConnection,
    messages: &[&NewMessage],
    now: Timestamp,
) -> Result<(), StoreError> {
    const INSERT: Bulk = Bulk {
        insert: "INSERT INTO message (id, digest, key, source, topic, type_name, kind, time, created_at, state, reason,
                 retrying, partition, offset, shard, deliver_at, sender, source_proven, record)",
        columns: 19,
        then: "",
    };
    let inserted = INSERT
        .run(tx, messages, |arguments, message| {
            arguments.add(clean(&message.id).as_ref())?;
            arguments.add(message.digest.as_slice())?;
            arguments.add(message.key.as_deref())?;
            arguments.add(clean(&message.source).as_ref())?;
            arguments.add(clean(&message.topic).as_ref())?;
            arguments.add(clean(&message.type_name).as_ref())?;
            arguments.add(message.kind)?;
            arguments.add(message.time.0)?;
            arguments.add(now.0)?;
            arguments.add(message.state.code())?;
            arguments.add(clean_option(message.reason.as_deref()).as_deref())?;
            arguments.add(i64::from(message.retrying))?;
            arguments.add(message.place.map(|(partition, _)| partition))?;
            arguments.add(message.place.map(|(_, offset)| offset.0))?;
            let outbound = message.outbound.as_ref();
            arguments.add(outbound.map(|outbound| outbound.shard))?;
            arguments.add(message.due.map(|due| due_at(due, now).0))?;
            let by = message.sent_by.as_ref();
            arguments.add(by.map(|by| clean(&by.sender)).as_deref())?;
            arguments.add(by.map(|by| i64::from(by.source_proven)))?;
            // The outbound row has the bytes while there is one.
            arguments.add(message.record.as_deref().filter(|_| outbound.is_none()))
        })
        .await?;
    expect_rows("inserting messages", messages.len(), inserted)
}
