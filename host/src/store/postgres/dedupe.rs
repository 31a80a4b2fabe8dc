//! Finding messages that were handled before.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use courier_core::status::State;
use courier_core::verdict::Verdict;

use super::columns::PgRowExt;
use super::error::at_statement;
use super::{PostgresStore, bounded, micros};
use crate::store::shared::text::clean;
use crate::store::{DedupeStore, HandledBy, SameTopic, StoreError};

#[async_trait]
impl DedupeStore for PostgresStore {
    async fn handled_within(
        &self,
        who: &HandledBy,
        messages: &[SameTopic],
        window: Duration,
    ) -> Result<Vec<bool>, StoreError> {
        bounded(handled_within(self, who, messages, window)).await
    }
}

async fn handled_within(
    store: &PostgresStore,
    who: &HandledBy,
    messages: &[SameTopic],
    window: Duration,
) -> Result<Vec<bool>, StoreError> {
    let Some(group_id) = store.groups.find_id(&store.pool, &who.group).await? else {
        return Ok(vec![false; messages.len()]);
    };
    // Joined id by id, so that each is a probe of the index on heads of ids.
    let rows = sqlx::query(
        "SELECT i.place - 1 AS place
         FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS i (id, source_hash, place) WHERE EXISTS (
             SELECT FROM delivery d JOIN position p ON p.id = d.position_id
             WHERE left(d.message_id, 64) = left(i.id, 64) AND d.message_id = i.id AND d.group_id = $3
                 AND (d.source_hash IS NULL OR d.source_hash = i.source_hash)
                 AND d.state = $4 AND d.verdict IS DISTINCT FROM $5 AND d.settled_at >= courier_now() - $6
                 AND p.listener = $7 AND p.topic = $8)",
    )
    .bind(messages.iter().map(|message| clean(&message.id)).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.source.0).collect::<Vec<_>>())
    .bind(group_id)
    .bind(State::Handled.code())
    .bind(Verdict::Duplicate.code())
    .bind(micros(window))
    .bind(clean(who.listener.as_deref().unwrap_or_default()))
    .bind(clean(&who.topic))
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let found: HashSet<i64> = rows.iter().map(|row| row.take("place")).collect::<Result<_, _>>()?;
    Ok((0_i64..).zip(messages).map(|(place, _)| found.contains(&place)).collect())
}
