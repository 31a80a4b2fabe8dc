//! What the operations of the API work with.

use std::future::Future;
use std::sync::Arc;

use super::{auth, events, messages, ports, rate_limit, sessions};
use crate::store::{AuditEntry, SharedStore, audits};

/// What operations work with. Clones share everything.
#[derive(Clone)]
pub struct App {
    /// The store.
    pub store: SharedStore,
    /// The send side.
    pub sender: Arc<dyn ports::SenderPort>,
    /// Half messages.
    pub transactions: Arc<dyn ports::TransactionsPort>,
    /// Bindings and their partitions.
    pub groups: Arc<dyn ports::GroupsPort>,
    /// The outboxes of the configuration.
    pub outboxes: Arc<dyn ports::OutboxesPort>,
    /// Uploading and activating.
    pub plugins: Arc<dyn ports::PluginsPort>,
    /// Reading records again.
    pub log: Arc<dyn ports::LogPort>,
    /// What stands still on this host.
    pub causes: crate::causes::Causes,
    /// Whether the host is well.
    pub health: Arc<dyn ports::HealthPort>,
    /// The tokens.
    pub auth: auth::Authenticator,
    /// How the cookie of a session is set.
    pub cookies: sessions::Cookies,
    /// Bounds attempts to sign in; [`sessions::attempts`].
    pub attempts: rate_limit::PeerRateLimit,
    /// Which refused attempts to sign in have an entry in the audit log.
    pub refusals: sessions::Refusals,
    /// This node's name.
    pub node: Arc<str>,
    /// Renders the metrics.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The topics that are bound, which senders are told; `Audience::default()`.
    pub audience: messages::audience::Audience,
    /// What carries changes to listeners; `Hub::default()`.
    pub events: events::Hub,
    /// Whether this is `courier dev`.
    pub dev: bool,
}

impl App {
    /// Makes a change in the caller's name: its entry in the audit log commits
    /// with it. Then `change` says what is different, and listeners hear of it.
    pub(super) async fn change<T, E>(
        &self,
        deed: AuditEntry,
        verb: impl Future<Output = Result<T, E>>,
        change: impl FnOnce(&T) -> events::Change,
    ) -> Result<T, E> {
        let done = audits::in_name_of(deed, verb).await?;
        self.events.tell(change(&done));
        Ok(done)
    }
}
