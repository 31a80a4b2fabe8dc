//! Identities as columns, and look-ups by identity.

use std::borrow::Cow;
use std::collections::HashMap;

use sqlx::SqliteConnection;

use super::columns::{Columns, json};
use super::error::fault;
use crate::store::shared::text::clean;
use crate::store::{Identity, SentBy, StoreError};

/// The columns of an identity.
pub(super) fn identity_columns(message: &Identity) -> (Cow<'_, str>, Cow<'_, str>, Cow<'_, str>) {
    (clean(&message.id), clean(&message.source), clean(&message.topic))
}

/// What the store has under an identity. One of the two is there, or both: a message that
/// was sent may be prepared again.
#[derive(Default)]
pub(super) struct KnownIdentity {
    pub message: Option<KnownMessage>,
    /// The prepared transaction that holds the identity.
    pub reserved_by: Option<String>,
}

/// The message that the store has under an identity.
pub(super) enum KnownMessage {
    /// A message, with its digest; `None` for one that a handler published.
    Sent(Option<Vec<u8>>),
    /// A message that was refused for a fault of its own. It is not in Kafka or on its way
    /// there, since a message that the relay ever had has a shard.
    Refused(Option<Vec<u8>>, Option<SentBy>),
}

/// Reads what the store has under these identities.
pub(super) async fn known(
    tx: &mut SqliteConnection,
    messages: &[Identity],
) -> Result<HashMap<Identity, KnownIdentity>, StoreError> {
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
    .bind(json(&messages.iter().map(identity_columns).collect::<Vec<_>>())?)
    .fetch_all(tx)
    .await
    .map_err(fault)?;
    let mut known: HashMap<Identity, KnownIdentity> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::of(row);
        let identity = Identity { id: columns.take()?, source: columns.take()?, topic: columns.take()? };
        let (digest, refused) = (columns.take()?, columns.flag()?);
        let transaction = columns.take::<Option<String>>()?;
        let by = SentBy::from_columns(columns.take()?, columns.take::<Option<bool>>()?);
        let known = known.entry(identity).or_default();
        match transaction {
            Some(_) => known.reserved_by = transaction,
            None if refused => known.message = Some(KnownMessage::Refused(digest, by)),
            None => known.message = Some(KnownMessage::Sent(digest)),
        }
    }
    Ok(known)
}
