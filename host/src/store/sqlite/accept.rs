//! Accepting messages of senders, and recording what became of direct sends.
//!
//! A message has a row of its own, which people see, an outbound row while it has still to
//! be sent, and a delayed row before that if it is delayed. One of them has the bytes of
//! its record.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use courier_core::message::Timestamp;
use courier_core::status::State;
use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, SqliteConnection};

use super::SqliteStore;
use super::bulk::Bulk;
use super::columns::{expect_rows, json, now};
use super::delayed::{Waiting, due_at, write_delayed};
use super::error::{commit_fault, fault};
use super::identities::{KnownIdentity, KnownMessage, identity_columns, known};
use super::messages::message_of;
use super::script::Script;
use crate::store::shared::identities::stored_identity;
use crate::store::shared::text::{clean, clean_opt};
use crate::store::{
    AcceptStore, Accepted, Identity, NewMessage, NewOutbound, RefusedMessage, SentBy, SentMessage, StoreError,
    UnsentMessage,
};

/// Where an outbound row comes from.
#[derive(Clone, Copy)]
pub(super) enum Origin<'m> {
    /// A sender: the row carries this message, which a direct send may settle.
    Sender(&'m NewMessage),
    /// A handler's emission or a dead letter. A dead letter has the id of the message that
    /// failed, and must not be taken for that message.
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
            arguments.add(clean_opt(row.group.as_deref()).as_deref())?;
            arguments.add(now.0)?;
            arguments.add(Some(published_on.as_ref()).filter(|published_on| *published_on != topic))?;
            arguments.add(row.record.as_ref())
        })
        .await?;
    expect_rows("inserting outbound rows", rows.len(), inserted)
}

/// Selects the ids of outbound rows that carry messages of senders. The one parameter is a
/// JSON list whose items begin with the [`identity_columns`].
macro_rules! owed_rows {
    () => {
        "SELECT o.id FROM json_each(?) m CROSS JOIN outbound o
         ON o.message_id = m.value ->> '$[0][0]' AND o.source = m.value ->> '$[0][1]'
             AND coalesce(o.published_on, o.topic) = m.value ->> '$[0][2]' AND o.sender = 1"
    };
}

#[async_trait]
impl AcceptStore for SqliteStore {
    async fn accept(&self, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
        let mut tx = self.connections.write().await?;
        // The ids of messages that Kafka has already were made by this host. Nearly always
        // all of them are new, and they are inserted without a look-up.
        if messages.iter().all(|message| message.place.is_some()) {
            if insert_unknown(&mut tx, messages).await? == messages.len() as u64 {
                tx.commit().await.map_err(commit_fault)?;
                return Ok(vec![Accepted::New; messages.len()]);
            }
            // The next transaction rolls a dropped one back.
            drop(tx);
            tx = self.connections.write().await?;
        }
        let answers = accept_in(&mut tx, messages).await?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(answers)
    }

    async fn sent(&self, sent: &[SentMessage]) -> Result<(), StoreError> {
        let rows: Vec<_> = sent.iter().map(|s| (identity_columns(&s.identity), s.partition, s.offset.0)).collect();
        let rows = json(&rows)?;
        let mut script = Script::default();
        // Only messages without a place: one that the relay sent meanwhile, because its
        // hold ran out, keeps the place that it got there.
        script.push(
            "UPDATE message SET state = ?, reason = NULL, retrying = 0, record = NULL, shard = NULL,
                 partition = s.value ->> 1, offset = s.value ->> 2
             FROM json_each(?) s WHERE message.id = s.value ->> '$[0][0]' AND message.source = s.value ->> '$[0][1]'
                 AND message.topic = s.value ->> '$[0][2]' AND message.partition IS NULL",
        );
        script.bind(State::Committed.code())?;
        script.bind(&rows)?;
        script.push(concat!("DELETE FROM outbound WHERE id IN (", owed_rows!(), ")"));
        script.bind(&rows)?;
        let (tx, _) = self.connections.write_after(script).await?;
        tx.commit().await.map_err(commit_fault)
    }

    async fn release_outbound(&self, messages: &[UnsentMessage]) -> Result<(), StoreError> {
        let rows: Vec<_> =
            messages.iter().map(|unsent| (identity_columns(&unsent.identity), clean(&unsent.reason))).collect();
        let rows = json(&rows)?;
        let mut tx = self.connections.write().await?;
        sqlx::query(concat!("UPDATE outbound SET held_until = 0 WHERE id IN (", owed_rows!(), ")"))
            .bind(&rows)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        // A message that the relay sent meanwhile has a place and stays COMMITTED.
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

    async fn refuse_outbound(&self, messages: &[RefusedMessage]) -> Result<(), StoreError> {
        let mut tx = self.connections.write().await?;
        for refused in messages {
            let (id, source, topic) = identity_columns(&refused.identity);
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
            // Without a shard it counts as never sent, and makes room for a corrected
            // message.
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
}

/// Accepts messages within a transaction.
pub(super) async fn accept_in(tx: &mut SqliteConnection, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
    let identities: Vec<Identity> = messages.iter().map(stored_identity).collect();
    let mut known = known(tx, &identities).await?;
    let mut freed = Vec::new();
    let mut seen = HashSet::new();
    for (message, identity) in messages.iter().zip(&identities) {
        let Some(KnownIdentity { message: Some(KnownMessage::Refused(digest, by)), reserved_by: None }) =
            known.get(identity)
        else {
            continue;
        };
        // The first message of an identity is inserted, so that it alone may make room: a later
        // one of the right sender would let in the first one of another.
        if !seen.insert(identity) {
            continue;
        }
        // The same message that was refused before is refused again.
        let differs = digest.as_deref() != Some(message.digest.as_slice()) || !message.is_refused();
        if differs && SentBy::makes_room(by.as_ref(), message.sent_by.as_ref()) {
            known.remove(identity);
            freed.push(identity);
        }
    }
    forget(tx, &freed).await?;
    // Of several messages with one identity in this batch the first is the new one.
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
            // A message that was sent before its identity was reserved is returned as it is.
            Some(KnownIdentity { message: Some(KnownMessage::Sent(digest)), .. }) => digest.clone(),
            Some(KnownIdentity { reserved_by: Some(transaction), .. }) => {
                answers.push(Accepted::Reserved { transaction: transaction.clone() });
                continue;
            }
            // The refused message of another sender is not shown, also when it is the same.
            Some(KnownIdentity { message: Some(KnownMessage::Refused(digest, by)), .. }) => {
                digest.clone().filter(|_| SentBy::makes_room(by.as_ref(), message.sent_by.as_ref()))
            }
            Some(KnownIdentity { message: None, .. }) | None => first.get(identity).map(|first| first.digest.to_vec()),
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

/// Deletes the rows of messages that were refused for a fault of their own, so that a
/// corrected message, or the same one if it is right by now, is accepted in their place.
async fn forget(tx: &mut SqliteConnection, messages: &[&Identity]) -> Result<(), StoreError> {
    if messages.is_empty() {
        return Ok(());
    }
    let rows: HashSet<_> = messages.iter().map(|message| identity_columns(message)).collect();
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

async fn insert_messages(
    tx: &mut SqliteConnection,
    messages: &[&NewMessage],
    now: Timestamp,
) -> Result<(), StoreError> {
    let inserted =
        INSERT_MESSAGES.run(tx, messages, |arguments, message| bind_message(arguments, message, now)).await?;
    expect_rows("inserting messages", messages.len(), inserted)
}

/// Inserts those of some messages without outbound rows whose identity is new and not
/// reserved, and returns how many it inserted.
async fn insert_unknown(tx: &mut SqliteConnection, messages: &[NewMessage]) -> Result<u64, StoreError> {
    const INSERT: Bulk = Bulk {
        then: "AND NOT EXISTS (SELECT 1 FROM half_item h
                   WHERE h.message_id = column1 AND h.source = column4 AND h.topic = column5 AND h.reserved = 1)
               ON CONFLICT DO NOTHING",
        ..INSERT_MESSAGES
    };
    let now = now();
    INSERT.run(tx, messages, |arguments, message| bind_message(arguments, message, now)).await
}

const INSERT_MESSAGES: Bulk = Bulk {
    insert: "INSERT INTO message (id, digest, key, source, topic, type_name, kind, time, created_at, state, reason,
             retrying, partition, offset, shard, deliver_at, sender, source_proven, record)",
    columns: 19,
    then: "",
};

/// Binds the columns of [`INSERT_MESSAGES`].
fn bind_message(arguments: &mut SqliteArguments, message: &NewMessage, now: Timestamp) -> Result<(), BoxDynError> {
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
    arguments.add(clean_opt(message.reason.as_deref()).as_deref())?;
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
}
