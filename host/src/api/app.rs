//! The state that the operations of the API share.

use std::future::Future;
use std::sync::Arc;

use super::{auth, events, messages, ports, rate_limit, sessions};
use crate::store::{AuditEntry, SharedStore, audits};

/// The state of the API. Clones share everything.
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
    /// Uploads and activations of plugins.
    pub plugins: Arc<dyn ports::PluginsPort>,
    /// Reads records from Kafka.
    pub log: Arc<dyn ports::LogPort>,
    /// Causes of standstills on this host.
    pub causes: crate::causes::Causes,
    /// Readiness of the host.
    pub health: Arc<dyn ports::HealthPort>,
    /// The tokens.
    pub auth: auth::Authenticator,
    /// The attributes of session cookies.
    pub cookies: sessions::Cookies,
    /// Rate limit for attempts to sign in; [`sessions::attempts`].
    pub attempts: rate_limit::PeerRateLimit,
    /// Bounds the audit entries about refused attempts to sign in.
    pub refusals: sessions::Refusals,
    /// This node's name.
    pub node: Arc<str>,
    /// Renders the metrics.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The bindings of live nodes, for warnings to senders; `Audience::default()`.
    pub audience: messages::audience::Audience,
    /// Sends changes to listeners; `Hub::default()`.
    pub events: events::Hub,
    /// Whether this is `courier dev`.
    pub dev: bool,
}

impl App {
    /// Makes a change in the caller's name, whose audit entry commits with it, and
    /// then sends `change` to listeners.
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
