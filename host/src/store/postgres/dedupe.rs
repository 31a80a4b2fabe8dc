//! Looking for messages that were handled before.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use courier_core::status::State;
use courier_core::verdict::Verdict;

use super::columns::Columns;
use super::error::at_statement;
use super::text::clean;
use super::{PostgresStore, bounded, micros};
use crate::store::{Dedupe, StoreError};

#[async_trait]
impl Dedupe for PostgresStore {
    async fn handled_within(
        &self,
        group: &str,
        listener: Option<&str>,
        ids: &[String],
        window: Duration,
    ) -> Result<Vec<bool>, StoreError> {
        bounded(handled_within(self, group, listener, ids, window)).await
    }
}

async fn handled_within(
    store: &PostgresStore,
    group: &str,
    listener: Option<&str>,
    ids: &[String],
    window: Duration,
) -> Result<Vec<bool>, StoreError> {
    let Some(group_id) = store.groups.find_id(&store.pool, group).await? else { return Ok(vec![false; ids.len()]) };
    let wanted: Vec<_> = ids.iter().map(|id| clean(id)).collect();
    // Joined id by id, so that each is a probe of the index on heads of ids.
    let rows = sqlx::query(
        "SELECT i.id FROM unnest($1::text[]) AS i (id) WHERE EXISTS (
             SELECT FROM delivery d JOIN position p ON p.id = d.position_id
             WHERE left(d.message_id, 64) = left(i.id, 64) AND d.message_id = i.id AND d.group_id = $2
                 AND d.state = $3 AND d.verdict IS DISTINCT FROM $4 AND d.settled_at >= courier_now() - $5
                 AND p.listener = $6)",
    )
    .bind(&wanted)
    .bind(group_id)
    .bind(State::Handled.code())
    .bind(Verdict::Duplicate.code())
    .bind(micros(window))
    .bind(clean(listener.unwrap_or_default()))
    .fetch_all(&store.pool)
    .await
    .map_err(at_statement)?;
    let found: HashSet<String> = rows.iter().map(|row| row.take("id")).collect::<Result<_, _>>()?;
    Ok(wanted.iter().map(|id| found.contains(id.as_ref())).collect())
}
