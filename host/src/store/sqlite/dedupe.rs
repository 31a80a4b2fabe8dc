//! Looking for messages that were handled before.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use courier_core::status::State;
use courier_core::verdict::Verdict;

use super::SqliteStore;
use super::fault::fault;
use super::values::{clean, json, now};
use crate::store::{Dedupe, StoreError};

#[async_trait]
impl Dedupe for SqliteStore {
    async fn handled_within(
        &self,
        group: &str,
        listener: Option<&str>,
        ids: &[String],
        window: Duration,
    ) -> Result<Vec<bool>, StoreError> {
        let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        let since = now().0.saturating_sub(window);
        let wanted: Vec<_> = ids.iter().map(|id| clean(id)).collect();
        // Only the slots that reach into the window are probed, each for all
        // ids together.
        let found: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT d.message_id
             FROM slot s CROSS JOIN json_each(?1) i CROSS JOIN delivery d INDEXED BY delivery_message
                 CROSS JOIN position p ON p.id = d.position CROSS JOIN consumer_group g ON g.id = d.group_id
             WHERE s.start_at >= (SELECT max(start_at) FROM slot WHERE start_at <= ?2)
                 AND d.slot = s.start_at AND d.message_id = i.value AND d.settled_at >= ?2 AND d.state = ?3
                 AND d.verdict IS NOT ?4 AND g.name = ?5 AND p.listener = ?6",
        )
        .bind(json(&wanted)?)
        .bind(since)
        .bind(State::Handled.code())
        .bind(Verdict::Duplicate.code())
        .bind(clean(group))
        .bind(clean(listener.unwrap_or_default()))
        .fetch_all(&self.connections.readers)
        .await
        .map_err(fault)?;
        let found: HashSet<&str> = found.iter().map(String::as_str).collect();
        Ok(wanted.iter().map(|id| found.contains(id.as_ref())).collect())
    }
}
