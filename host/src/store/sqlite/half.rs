//! What [`shared::half`](crate::store::shared::half) leaves to SQLite.

use async_trait::async_trait;
use sqlx::{Arguments, SqliteConnection};

use super::SqliteStore;
use super::accept::accept_in;
use super::bulk::Bulk;
use super::columns::expect_rows;
use super::identities::{KnownMessage, known};
use super::messages::message_of;
use crate::store::half::{identity_reserved, identity_taken, may_repeat};
use crate::store::shared::half::HalfDialect;
use crate::store::shared::identities::stored_identity;
use crate::store::shared::text::clean;
use crate::store::{Accepted, Due, Identity, NewHalf, NewMessage, SentBy, StoreError};

#[async_trait]
impl HalfDialect for SqliteStore {
    async fn lock_free_identities(
        connection: &mut SqliteConnection,
        messages: &[NewMessage],
    ) -> Result<(), StoreError> {
        let identities: Vec<Identity> = messages.iter().map(stored_identity).collect();
        let known = known(connection, &identities).await?;
        for (message, identity) in messages.iter().zip(&identities) {
            let Some(known) = known.get(identity) else { continue };
            if let Some(transaction) = &known.reserved_by {
                return Err(identity_reserved(identity, transaction));
            }
            match &known.message {
                Some(KnownMessage::Sent(digest)) if digest.as_deref() != Some(message.digest.as_slice()) => {
                    return Err(identity_taken(identity));
                }
                // Its commit would fail on the taken identity.
                Some(KnownMessage::Refused(_, by)) if !SentBy::makes_room(by.as_ref(), message.sent_by.as_ref()) => {
                    return Err(identity_taken(identity));
                }
                Some(KnownMessage::Sent(_)) => {
                    // Retention may just have removed it.
                    message_of(connection, identity).await?.as_ref().map_or(Ok(()), may_repeat)?;
                }
                Some(KnownMessage::Refused(..)) | None => {}
            }
        }
        Ok(())
    }

    async fn insert_items(connection: &mut SqliteConnection, half: &NewHalf) -> Result<(), StoreError> {
        const INSERT: Bulk = Bulk {
            insert:
                "INSERT INTO half_item (half_id, place, message_id, digest, key, source, topic, goes_to, type_name, kind,
                     time, shard, due, wait, reserved, source_proven, record)",
            columns: 17,
            then: "",
        };
        let messages: Vec<(usize, &NewMessage)> = half.messages.iter().enumerate().collect();
        let inserted = INSERT
            .run(connection, &messages, |arguments, (place, message)| {
                let outbound = message.outbound.as_ref().ok_or("a half message has no record")?;
                let (due, wait) = match message.due {
                    None => (None, None),
                    Some(Due::At(time)) => (Some(time.0), None),
                    Some(Due::After(wait)) => (None, Some(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX))),
                };
                arguments.add(clean(&half.id).as_ref())?;
                arguments.add(super::slices::rows(*place))?;
                arguments.add(clean(&message.id).as_ref())?;
                arguments.add(message.digest.as_slice())?;
                arguments.add(message.key.as_deref())?;
                arguments.add(clean(&message.source).as_ref())?;
                arguments.add(clean(&message.topic).as_ref())?;
                arguments.add(clean(&outbound.topic).as_ref())?;
                arguments.add(clean(&message.type_name).as_ref())?;
                arguments.add(message.kind)?;
                arguments.add(message.time.0)?;
                arguments.add(outbound.shard)?;
                arguments.add(due)?;
                arguments.add(wait)?;
                arguments.add(1_i64)?;
                arguments.add(message.sent_by.as_ref().map(|by| i64::from(by.source_proven)))?;
                arguments.add(outbound.record.as_ref())
            })
            .await?;
        expect_rows("inserting half messages", messages.len(), inserted)
    }

    async fn lock_for_accepting(
        _connection: &mut SqliteConnection,
        _messages: &[NewMessage],
    ) -> Result<(), StoreError> {
        Ok(())
    }

    async fn accept_locked(
        connection: &mut SqliteConnection,
        messages: &[NewMessage],
    ) -> Result<Vec<Accepted>, StoreError> {
        accept_in(connection, messages).await
    }
}
