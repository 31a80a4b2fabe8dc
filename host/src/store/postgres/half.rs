//! What [`shared::half`](crate::store::shared::half) leaves to PostgreSQL.

use async_trait::async_trait;
use sqlx::PgConnection;

use super::PostgresStore;
use super::accept::{accept_locked, known};
use super::delayed::due_columns;
use super::error::at_statement;
use super::identities::{lock_for_reserving, lock_for_taking, reserved};
use crate::store::half::{identity_reserved, identity_taken, may_repeat};
use crate::store::shared::half::HalfDialect;
use crate::store::shared::identities::stored_identity;
use crate::store::shared::text::clean;
use crate::store::{Accepted, Identity, NewHalf, NewMessage, NewOutbound, StoreError};

#[async_trait]
impl HalfDialect for PostgresStore {
    async fn lock_free_identities(connection: &mut PgConnection, messages: &[NewMessage]) -> Result<(), StoreError> {
        let identities: Vec<Identity> = messages.iter().map(stored_identity).collect();
        lock_for_reserving(connection, &identities.iter().collect::<Vec<_>>()).await?;
        if let Some((identity, transaction)) = reserved(connection, &identities).await?.into_iter().next() {
            return Err(identity_reserved(&identity, &transaction));
        }
        let known = known(connection, &identities).await?;
        for (message, identity) in messages.iter().zip(&identities) {
            // A message that was refused makes room when the transaction commits.
            let Some(known) = known.get(identity) else { continue };
            let is_refused = known.is_refused();
            let stays = if is_refused {
                !known.makes_room_for(message)
            } else {
                known.digest.as_deref() != Some(&message.digest[..])
            };
            if stays {
                return Err(identity_taken(identity));
            }
            if !is_refused {
                may_repeat(&known.row)?;
            }
        }
        Ok(())
    }

    async fn insert_items(connection: &mut PgConnection, half: &NewHalf) -> Result<(), StoreError> {
        let messages = &half.messages;
        let outbound: Vec<&NewOutbound> = messages
            .iter()
            .map(|message| message.outbound.as_ref())
            .collect::<Option<_>>()
            .ok_or_else(|| StoreError::Bug("a half message has no record".to_owned()))?;
        sqlx::query(
            "INSERT INTO half_item (half_id, place, message_id, digest, key, source, topic, goes_to, type_name, kind, time,
                 shard, due, wait, record, source_proven, reserved)
             SELECT $1, r.place - 1, r.message_id, r.digest, r.key, r.source, r.topic, r.goes_to, r.type_name, r.kind, r.time,
                 r.shard, r.due, r.wait, r.record, r.source_proven, true
             FROM unnest($2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                 $10::bigint[], $11::integer[], $12::bigint[], $13::bigint[], $14::bytea[], $15::boolean[]) WITH ORDINALITY
                 AS r (message_id, digest, key, source, topic, goes_to, type_name, kind, time, shard, due, wait, record,
                     source_proven, place)",
        )
        .bind(clean(&half.id))
        .bind(messages.iter().map(|message| clean(&message.id)).collect::<Vec<_>>())
        .bind(messages.iter().map(|message| &message.digest[..]).collect::<Vec<_>>())
        .bind(messages.iter().map(|message| message.key.as_deref()).collect::<Vec<_>>())
        .bind(messages.iter().map(|message| clean(&message.source)).collect::<Vec<_>>())
        .bind(messages.iter().map(|message| clean(&message.topic)).collect::<Vec<_>>())
        .bind(outbound.iter().map(|row| clean(&row.topic)).collect::<Vec<_>>())
        .bind(messages.iter().map(|message| clean(&message.type_name)).collect::<Vec<_>>())
        .bind(messages.iter().map(|message| message.kind).collect::<Vec<_>>())
        .bind(messages.iter().map(|message| message.time.0).collect::<Vec<_>>())
        .bind(outbound.iter().map(|row| row.shard).collect::<Vec<_>>())
        .bind(messages.iter().map(|message| due_columns(message.due).0).collect::<Vec<_>>())
        .bind(messages.iter().map(|message| due_columns(message.due).1).collect::<Vec<_>>())
        .bind(outbound.iter().map(|row| &row.record[..]).collect::<Vec<_>>())
        .bind(messages.iter().map(|message| message.sent_by.as_ref().map(|by| by.source_proven)).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map_err(at_statement)?;
        Ok(())
    }

    async fn lock_for_accepting(connection: &mut PgConnection, messages: &[NewMessage]) -> Result<(), StoreError> {
        let identities: Vec<Identity> = messages.iter().map(stored_identity).collect();
        lock_for_taking(connection, &identities.iter().collect::<Vec<_>>()).await
    }

    async fn accept_locked(
        connection: &mut PgConnection,
        messages: &[NewMessage],
    ) -> Result<Vec<Accepted>, StoreError> {
        let identities: Vec<Identity> = messages.iter().map(stored_identity).collect();
        accept_locked(connection, messages, &identities).await
    }
}
