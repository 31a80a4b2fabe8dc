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

use super::delayed::{due_at, write_delayed};
use super::fault::{commit_fault, fault};
use super::messages::message_by_id;
use super::values::{Bulk, Columns, clean, clean_option, expect_rows, json, now};
use super::{SqliteStore, audits};
use crate::store::{Accepted, NewMessage, NewOutbound, SentMessage, StoreError};

/// Who an outbound row belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A sender: it stands for a row of `message`, which a direct send settles.
    Sender,
    /// A handler's emission or a dead letter. The latter has the id of the
    /// message that failed, and must not be taken for that message.
    Handler,
}

/// Inserts outbound rows in the order given.
pub(super) async fn write_outbound<'o>(
    tx: &mut SqliteConnection,
    rows: impl Iterator<Item = &'o NewOutbound> + Send,
    origin: Origin,
) -> Result<(), StoreError> {
    const INSERT: Bulk = Bulk {
        insert: "INSERT INTO outbound (shard, message_id, topic, key, type_name, source, held_until, sender, listed,
                 group_name, created_at, record)",
        columns: 12,
        then: "",
    };
    let now = now();
    let rows: Vec<&NewOutbound> = rows.collect();
    let inserted = INSERT
        .run(tx, &rows, |arguments, row| {
            arguments.add(row.shard)?;
            arguments.add(clean(&row.message_id).as_ref())?;
            arguments.add(clean(&row.topic).as_ref())?;
            arguments.add(row.key.as_deref())?;
            arguments.add(clean(&row.type_name).as_ref())?;
            arguments.add(clean(&row.source).as_ref())?;
            arguments.add(row.held_for.map_or(0, |held| now.after(held).0))?;
            arguments.add(i64::from(origin == Origin::Sender))?;
            arguments.add(i64::from(row.listed))?;
            arguments.add(clean_option(row.group.as_deref()).as_deref())?;
            arguments.add(now.0)?;
            arguments.add(row.record.as_ref())
        })
        .await?;
    expect_rows("inserting outbound rows", rows.len(), inserted)
}

impl SqliteStore {
    pub(super) async fn accept_messages(&self, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
        let mut tx = self.connections.write().await?;
        let answers = accept_in(&mut tx, messages).await?;
        tx.commit().await.map_err(commit_fault)?;
        Ok(answers)
    }

    pub(super) async fn mark_sent(&self, sent: &[SentMessage]) -> Result<(), StoreError> {
        let rows: Vec<_> = sent.iter().map(|s| (clean(&s.id), s.partition, s.offset.0)).collect();
        let rows = json(&rows)?;
        let mut tx = self.connections.write().await?;
        // Without a place: a row that the relay sent meanwhile, because its
        // hold ran out, keeps the place it got there.
        sqlx::query(
            "UPDATE message SET state = ?, reason = NULL, retrying = 0, record = NULL, shard = NULL,
                 partition = s.value ->> 1, offset = s.value ->> 2
             FROM json_each(?) s WHERE message.id = s.value ->> 0 AND message.partition IS NULL",
        )
        .bind(State::Committed.code())
        .bind(&rows)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        sqlx::query("DELETE FROM outbound WHERE sender = 1 AND message_id IN (SELECT value ->> 0 FROM json_each(?))")
            .bind(&rows)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        tx.commit().await.map_err(commit_fault)
    }

    pub(super) async fn release_held(&self, messages: &[(String, String)]) -> Result<(), StoreError> {
        let rows: Vec<_> = messages.iter().map(|(id, why)| (clean(id), clean(why))).collect();
        let rows = json(&rows)?;
        let mut tx = self.connections.write().await?;
        sqlx::query(
            "UPDATE outbound SET held_until = 0
             WHERE sender = 1 AND message_id IN (SELECT value ->> 0 FROM json_each(?))",
        )
        .bind(&rows)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        // One that the relay sent meanwhile has a place and stays COMMITTED.
        sqlx::query(
            "UPDATE message SET state = ?, retrying = 1, reason = m.value ->> 1
             FROM json_each(?) m WHERE message.id = m.value ->> 0 AND message.partition IS NULL
                 AND EXISTS (SELECT 1 FROM outbound o WHERE o.message_id = message.id AND o.sender = 1)",
        )
        .bind(State::SendFail.code())
        .bind(&rows)
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        tx.commit().await.map_err(commit_fault)
    }

    pub(super) async fn resend_message(&self, id: &str) -> Result<(), StoreError> {
        let id = clean(id);
        let mut tx = self.connections.write().await?;
        let row = sqlx::query(
            "SELECT state, shard IS NOT NULL AND record IS NOT NULL,
                 EXISTS (SELECT 1 FROM outbound o WHERE o.message_id = message.id AND o.listed = 1)
             FROM message WHERE id = ?",
        )
        .bind(id.as_ref())
        .fetch_optional(&mut *tx)
        .await
        .map_err(fault)?;
        let row = row.ok_or_else(|| StoreError::NotFound(format!("there is no message {id:?}")))?;
        // What is kept as undelivered goes with this resend, and not twice.
        sqlx::query("DELETE FROM undelivered WHERE message_id = ? AND listed = 1")
            .bind(id.as_ref())
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        let mut columns = Columns::of(&row);
        let (state, whole, owed) = (columns.state()?, columns.flag()?, columns.flag()?);
        if state != State::SendFail {
            return Err(StoreError::Conflict(format!("message {id:?} is {state}: only SEND_FAIL is sent again")));
        }
        if owed {
            // It is the relay's already; it need not wait any longer.
            sqlx::query("UPDATE outbound SET held_until = 0 WHERE message_id = ? AND listed = 1")
                .bind(id.as_ref())
                .execute(&mut *tx)
                .await
                .map_err(fault)?;
        } else if whole {
            let inserted = sqlx::query(
                "INSERT INTO outbound (shard, message_id, topic, key, type_name, source, held_until, sender, listed,
                     created_at, record)
                 SELECT shard, id, topic, key, type_name, source, 0, 1, 1, ?, record FROM message WHERE id = ?",
            )
            .bind(now().0)
            .bind(id.as_ref())
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
            expect_rows("inserting the outbound row of a resend", 1, inserted.rows_affected())?;
        } else {
            return Err(StoreError::Conflict(format!("the body of message {id:?} is not in the store")));
        }
        let changed = sqlx::query(
            "UPDATE message SET retrying = 1, record = NULL WHERE id = ? AND state = ? AND partition IS NULL",
        )
        .bind(id.as_ref())
        .bind(State::SendFail.code())
        .execute(&mut *tx)
        .await
        .map_err(fault)?;
        expect_rows("marking a message as being sent again", 1, changed.rows_affected())?;
        audits::note(&mut tx).await?;
        tx.commit().await.map_err(commit_fault)
    }
}

/// Takes messages within a transaction.
pub(super) async fn accept_in(tx: &mut SqliteConnection, messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError> {
    let mut known = digests(tx, messages).await?;
    let mut freed = Vec::new();
    for message in messages {
        let id = clean(&message.id);
        let Some(Known { digest, refused: true }) = known.get(id.as_ref()) else { continue };
        // The same that was refused before is told so again.
        if digest.as_deref() != Some(message.digest.as_slice()) || !message.is_refused() {
            known.remove(id.as_ref());
            freed.push(id);
        }
    }
    forget(tx, &freed).await?;
    // The first of several with one id in this batch is the new one.
    let mut fresh = HashSet::new();
    let new: Vec<&NewMessage> = messages
        .iter()
        .filter(|message| !known.contains_key(clean(&message.id).as_ref()) && fresh.insert(message.id.as_str()))
        .collect();
    let now = now();
    insert_messages(tx, &new, now).await?;
    let (mut owed, mut waiting) = (Vec::new(), Vec::new());
    for message in &new {
        match (&message.outbound, message.due) {
            (Some(row), Some(due)) => waiting.push((row, due)),
            (Some(row), None) => owed.push(row),
            (None, _) => {}
        }
    }
    write_outbound(tx, owed.into_iter(), Origin::Sender).await?;
    write_delayed(tx, &waiting, now).await?;
    let mut answers = Vec::with_capacity(messages.len());
    for message in messages {
        if fresh.remove(message.id.as_str()) {
            answers.push(Accepted::New);
            continue;
        }
        let first = new.iter().find(|first| first.id == message.id).map(|first| first.digest.to_vec());
        let digest = known.get(clean(&message.id).as_ref()).and_then(|known| known.digest.clone()).or(first);
        if digest.as_deref() != Some(message.digest.as_slice()) {
            answers.push(Accepted::Other);
            continue;
        }
        let row = message_by_id(tx, &message.id).await?;
        let row = row.ok_or_else(|| StoreError::Bug(format!("message {:?} vanished", message.id)))?;
        answers.push(Accepted::Same(Box::new(row)));
    }
    Ok(answers)
}

/// Removes the rows of messages that were refused for what was wrong with
/// them, so that a corrected message, or the same one where it is right by
/// now, is taken under its id.
async fn forget(tx: &mut SqliteConnection, ids: &[Cow<'_, str>]) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    let gone = sqlx::query("DELETE FROM message WHERE id IN (SELECT value FROM json_each(?))")
        .bind(json(&ids)?)
        .execute(tx)
        .await
        .map_err(fault)?;
    expect_rows("removing the rows of refused messages", ids.len(), gone.rows_affected())
}

/// What is known of a message.
pub(super) struct Known {
    /// None for one that a handler published.
    pub digest: Option<Vec<u8>>,
    /// Whether it was refused for what was wrong with it: nothing of it is in
    /// Kafka or on its way there, since a row that the relay ever had has a
    /// shard.
    pub refused: bool,
}

/// The messages that are known, by id.
pub(super) async fn digests(
    tx: &mut SqliteConnection,
    messages: &[NewMessage],
) -> Result<HashMap<String, Known>, StoreError> {
    let ids: Vec<_> = messages.iter().map(|message| clean(&message.id)).collect();
    let rows = sqlx::query(
        "SELECT id, digest, state = 1 AND NOT retrying AND partition IS NULL AND shard IS NULL
             AND reason IS NOT 'cancelled'
         FROM message WHERE id IN (SELECT value FROM json_each(?))",
    )
    .bind(json(&ids)?)
    .fetch_all(tx)
    .await
    .map_err(fault)?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok((columns.take()?, Known { digest: columns.take()?, refused: columns.flag()? }))
        })
        .collect()
}

async fn insert_messages(
    tx: &mut SqliteConnection,
    messages: &[&NewMessage],
    now: Timestamp,
) -> Result<(), StoreError> {
    const INSERT: Bulk = Bulk {
        insert: "INSERT INTO message (id, digest, key, source, topic, type_name, kind, time, created_at, state, reason,
                 retrying, partition, offset, shard, deliver_at, record)",
        columns: 17,
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
            // The outbound row has the bytes while there is one.
            arguments.add(message.record.as_deref().filter(|_| outbound.is_none()))
        })
        .await?;
    expect_rows("inserting messages", messages.len(), inserted)
}
