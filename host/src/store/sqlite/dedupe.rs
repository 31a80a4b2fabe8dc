//! Finding messages that were handled before.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use courier_core::status::State;
use courier_core::verdict::Verdict;

use super::SqliteStore;
use super::columns::{json, now};
use super::error::fault;
use crate::store::shared::text::clean;
use crate::store::{DedupeStore, HandledBy, SameTopic, StoreError};

#[async_trait]
impl DedupeStore for SqliteStore {
    async fn handled_within(
        &self,
        who: &HandledBy,
        messages: &[SameTopic],
        window: Duration,
    ) -> Result<Vec<bool>, StoreError> {
        let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        let since = now().0.saturating_sub(window);
        let wanted: Vec<_> = messages.iter().map(|message| (clean(&message.id), message.source.0)).collect();
        // Only the slots that reach into the window are searched, each for all messages at
        // once.
        let found: Vec<i64> = sqlx::query_scalar(
            "SELECT DISTINCT i.key
             FROM slot s CROSS JOIN json_each(?1) i CROSS JOIN delivery d INDEXED BY delivery_message
                 CROSS JOIN position p ON p.id = d.position CROSS JOIN consumer_group g ON g.id = d.group_id
             WHERE s.start_at >= (SELECT max(start_at) FROM slot WHERE start_at <= ?2)
                 AND d.slot = s.start_at AND d.message_id = i.value ->> 0
                 AND (d.source_hash IS NULL OR d.source_hash = i.value ->> 1)
                 AND d.settled_at >= ?2 AND d.state = ?3
                 AND d.verdict IS NOT ?4 AND g.name = ?5 AND p.listener = ?6 AND p.topic = ?7",
        )
        .bind(json(&wanted)?)
        .bind(since)
        .bind(State::Handled.code())
        .bind(Verdict::Duplicate.code())
        .bind(clean(&who.group))
        .bind(clean(who.listener.as_deref().unwrap_or_default()))
        .bind(clean(&who.topic))
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        let found: HashSet<i64> = found.into_iter().collect();
        Ok((0_i64..).zip(messages).map(|(place, _)| found.contains(&place)).collect())
    }
}
