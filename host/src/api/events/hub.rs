//! What the listeners of a host share: the changes that it makes, and the sums of
//! the groups.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, broadcast};
use tokio_util::sync::CancellationToken;

use crate::api::auth::Caller;
use crate::api::per_token::PerToken;
use crate::api::ports::GroupsPort;
use crate::store::{GroupTotals, SharedStore, StoreError};

/// Listeners at once, of all tokens and of one token.
pub(super) const MAX_LISTENERS: u64 = 100;
pub(super) const MAX_LISTENERS_EACH: u64 = 60;
/// Changes kept for a slow listener; it misses older ones.
const MAX_CHANGES_BEHIND: usize = 256;
/// How long the sums are cached: a little less than the interval, so that every
/// tick shows new ones.
const FRESH: Duration = Duration::from_millis(900);

/// Sends changes to listeners. Clones share them.
#[derive(Clone)]
pub struct Hub {
    pub(super) changes: broadcast::Sender<Change>,
    pub(super) places: PerToken,
    read: Arc<Mutex<Option<Reading>>>,
    pub(super) closed: CancellationToken,
}

type Reading = (Instant, Arc<Vec<GroupReading>>);

/// The sums of a group, and its topics.
pub(super) struct GroupReading {
    pub(super) totals: GroupTotals,
    topics: BTreeSet<String>,
}

impl GroupReading {
    /// Whether the caller sees the group, by the rule of `GET /v1/overview`.
    pub(super) fn is_for(&self, caller: &Caller) -> bool {
        let in_scope = || self.topics.iter().any(|topic| caller.sees_topic(topic));
        caller.sees_group(&self.totals.group) && (caller.topics().is_none() || in_scope())
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            changes: broadcast::Sender::new(MAX_CHANGES_BEHIND),
            places: PerToken::new(MAX_LISTENERS, MAX_LISTENERS_EACH),
            read: Arc::default(),
            closed: CancellationToken::new(),
        }
    }
}

impl Hub {
    /// Tells listeners that the resource at `change.path` has changed.
    pub fn tell(&self, change: Change) {
        // It fails only without listeners.
        let _ = self.changes.send(change);
    }

    /// Ends every stream, so that the server can stop, which waits for its
    /// connections.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// The sums of all groups, read from the store at most once a second.
    pub(super) async fn pulses(
        &self,
        groups: &dyn GroupsPort,
        store: &SharedStore,
    ) -> Result<Arc<Vec<GroupReading>>, StoreError> {
        let mut read = self.read.lock().await;
        if let Some((at, pulses)) = &*read
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(pulses));
        }
        let mut topics: HashMap<String, BTreeSet<String>> = HashMap::new();
        for binding in groups.bindings() {
            topics.entry(binding.group).or_default().extend(binding.topics);
        }
        for position in store.positions().await? {
            topics.entry(position.group).or_default().insert(position.topic);
        }
        let pulse =
            |totals: GroupTotals| GroupReading { topics: topics.remove(&totals.group).unwrap_or_default(), totals };
        let pulses: Arc<Vec<GroupReading>> = Arc::new(store.totals().await?.into_iter().map(pulse).collect());
        *read = Some((Instant::now(), Arc::clone(&pulses)));
        Ok(pulses)
    }
}

/// A changed resource, and who may know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Its path, for example `/v1/groups/stock`.
    pub path: String,
    /// The group it belongs to.
    pub group: Option<String>,
    /// The topics it belongs to, all of which a listener has to see.
    pub topics: Vec<String>,
    /// Whether it concerns all topics, so that who sees some of them does not see it.
    pub of_all_topics: bool,
    /// The plugin it belongs to.
    pub plugin: Option<String>,
    /// The only token whose holder may know of it.
    pub token: Option<Arc<str>>,
}
