//! Polls the store for rerun requests, and forwards them to the owners.
//!
//! A request is a mark on an open row, on which only the owner of its partition
//! acts. Rows become visible in the order of their commits and not of their
//! times, so the store is polled for a window that reaches back, and owners
//! skip requests that they have seen.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use courier_core::message::Timestamp;

use super::message::{OwnerHandle, OwnerMessage};
use crate::kafka::buffered::TopicPartition;
use crate::store::{OpenRow, PositionId, SharedStore, StoreError};

/// How far back the window of a poll reaches: a request may become visible this late.
pub const WINDOW: Duration = Duration::from_secs(10);
/// How often the host asks whether there are new requests for any of its groups.
pub const INTERVAL: Duration = Duration::from_millis(250);
/// How often a group looks for requests by itself. The host wakes it for new
/// ones, so only a request that the host missed waits this long.
pub const OVERLOOKED: Duration = Duration::from_secs(5);
/// Requests read in one query.
const PAGE: u32 = 5_000;
/// Queries of one poll; the next poll finds the rest.
const MAX_PAGES: usize = 10;

/// Requests for the deliveries of `positions`, by position.
///
/// # Errors
/// When the store does not answer.
pub async fn asked(
    store: &SharedStore,
    positions: &[PositionId],
    newest: &mut Timestamp,
) -> Result<HashMap<PositionId, Vec<OpenRow>>, StoreError> {
    if positions.is_empty() {
        return Ok(HashMap::new());
    }
    let window = i64::try_from(WINDOW.as_micros()).unwrap_or(i64::MAX);
    let mut since = Timestamp(newest.0.saturating_sub(window));
    let mut found: HashMap<PositionId, Vec<OpenRow>> = HashMap::new();
    for _ in 0..MAX_PAGES {
        let page = store.asked(positions, since, PAGE).await?;
        let full = page.len() == PAGE as usize;
        for row in page {
            // No two requests have the same time.
            since = since.max(row.asked_at.unwrap_or_default());
            found.entry(row.position).or_default().push(row);
        }
        if !full {
            break;
        }
    }
    if !found.is_empty() {
        *newest = (*newest).max(since);
    }
    Ok(found)
}

/// The requests of a poll.
#[derive(Debug)]
pub struct Polled {
    /// The positions that were asked for.
    positions: Vec<PositionId>,
    found: HashMap<PositionId, Vec<OpenRow>>,
    newest: Timestamp,
}

/// Polls for the requests of these owners; none when the store does not answer.
pub fn poll(
    store: &SharedStore,
    owners: &HashMap<TopicPartition, OwnerHandle>,
    newest: Timestamp,
) -> impl Future<Output = Option<Polled>> + Send + use<> {
    let positions: Vec<_> = owners.values().map(|owner| owner.position).collect();
    let (store, mut newest) = (SharedStore::clone(store), newest);
    async move {
        match asked(&store, &positions, &mut newest).await {
            Ok(found) => Some(Polled { positions, found, newest }),
            Err(error) => {
                tracing::debug!(%error, "cannot look for requests");
                None
            }
        }
    }
}

impl Polled {
    /// Forwards the requests to the owners that are there now, and moves `newest`.
    pub fn pass_on(self, owners: &HashMap<TopicPartition, OwnerHandle>, newest: &mut Timestamp) {
        let by_position: HashMap<_, _> = owners.values().map(|owner| (owner.position, &owner.mail)).collect();
        // Of an owner that came meanwhile nothing was asked: the next poll must reach as
        // far back as this one.
        let asked: HashSet<&PositionId> = self.positions.iter().collect();
        if by_position.keys().all(|position| asked.contains(position)) {
            *newest = self.newest;
        }
        for (position, rows) in self.found {
            if let Some(mail) = by_position.get(&position) {
                let _ = mail.send(OwnerMessage::RerunRequested(rows));
            }
        }
    }
}
