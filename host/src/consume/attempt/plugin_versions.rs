//! Prepares the plugin versions that the bindings of this node run.
//!
//! Every node polls the store for the active versions. A version that is
//! uploaded for a bound plugin is compiled at once, so that its activation need
//! not wait. A running attempt keeps the version it began with.
//!
//! A plugin that comes with the host ([`builtin`](crate::engine::builtin)) runs
//! where nothing of its name is active.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use courier_core::verdict::Verdict;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::binding::BoundPlugin;
use super::worker::no_active_version;
use crate::config::PluginRef;
use crate::engine::builtin::Builtin;
use crate::engine::{self, Engine, PrepareError, Prepared};
use crate::store::{SharedStore, StoreError, WriterId};
use crate::supervise::{self, Task};

/// How often the store is asked what is active; an activation anywhere takes
/// effect everywhere within this and the time to compile.
const POLL: Duration = Duration::from_millis(500);
/// How often the store is polled for new uploads.
const LOOK_AHEAD: Duration = Duration::from_secs(2);
/// How long a version that could not be compiled is not tried again.
const RETRY: Duration = Duration::from_secs(10);

/// The plugin versions of this node; all groups share it.
pub struct PluginVersions {
    store: SharedStore,
    engine: Engine,
    writer: WriterId,
    wake: Notify,
    state: Mutex<VersionsState>,
}

#[derive(Default)]
struct VersionsState {
    wanted: HashMap<String, WantedPlugin>,
    /// Prepared versions, by digest.
    prepared: HashMap<String, Arc<Prepared>>,
    failed: HashMap<String, (Instant, String)>,
    /// Built-in plugins that an upload replaces, and that were warned of.
    replaced: HashSet<&'static str>,
}

struct WantedPlugin {
    plugin: PluginRef,
    tell: watch::Sender<BoundPlugin>,
}

impl PluginVersions {
    /// Starts to poll the store.
    #[must_use]
    pub fn start(store: SharedStore, engine: Engine, writer: WriterId) -> Arc<Self> {
        let plugins =
            Arc::new(Self { store, engine, writer, wake: Notify::new(), state: Mutex::new(VersionsState::default()) });
        let never = CancellationToken::new();
        supervise::spawn_until(Task::PluginActivations, never, Arc::clone(&plugins).follow());
        plugins
    }

    /// Watches the version that a binding runs.
    pub fn watch(&self, plugin: &PluginRef) -> watch::Receiver<BoundPlugin> {
        let mut state = self.lock();
        let wanted = state.wanted.entry(reference(plugin)).or_insert_with(|| WantedPlugin {
            plugin: plugin.clone(),
            tell: watch::Sender::new(match Builtin::named(&plugin.name) {
                Some(_) => {
                    BoundPlugin::Missing(Verdict::Instantiate, format!("plugin {} is being prepared", plugin.name))
                }
                None => no_active_version(&plugin.name),
            }),
        });
        let watch = wanted.tell.subscribe();
        self.wake.notify_one();
        watch
    }

    /// Polls the store at once.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Compiles an upload and keeps it.
    ///
    /// # Errors
    /// What is wrong with it, or with this host.
    pub async fn prepare(&self, wasm: Bytes) -> Result<Arc<Prepared>, PrepareError> {
        let prepared = self.engine.prepare(wasm).await?;
        self.lock().prepared.insert(prepared.digest.to_string(), Arc::clone(&prepared));
        Ok(prepared)
    }

    async fn follow(self: Arc<Self>) {
        let mut looked_ahead = None::<Instant>;
        loop {
            let look_ahead = looked_ahead.is_none_or(|at| at.elapsed() >= LOOK_AHEAD);
            match self.refresh(look_ahead).await {
                Ok(()) if look_ahead => looked_ahead = Some(Instant::now()),
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "cannot ask for active versions"),
            }
            let _ = tokio::time::timeout(POLL, self.wake.notified()).await;
        }
    }

    async fn refresh(&self, look_ahead: bool) -> Result<(), StoreError> {
        let active: HashMap<String, String> = self.store.active().await?.into_iter().collect();
        let wanted: Vec<(String, PluginRef)> =
            self.lock().wanted.iter().map(|(key, wanted)| (key.clone(), wanted.plugin.clone())).collect();
        let mut keep = Vec::new();
        for (key, plugin) in &wanted {
            let active = active.get(&plugin.name).cloned();
            let builtin = Builtin::named(&plugin.name);
            if let Some(builtin) = builtin {
                self.tell_replaced(builtin, active.as_deref());
            }
            let found = match plugin.digest.clone().or(active) {
                None => match builtin {
                    Some(builtin) => {
                        keep.push(builtin.digest().to_owned());
                        self.ready_builtin(builtin).await
                    }
                    None => no_active_version(&plugin.name),
                },
                Some(digest) => {
                    keep.push(digest.clone());
                    self.ready(&plugin.name, &digest).await?
                }
            };
            self.tell(key, found);
        }
        if look_ahead {
            for plugin in self.store.plugins().await? {
                if !wanted.iter().any(|(_, wanted)| wanted.name == plugin.name) {
                    continue;
                }
                if let Some(newest) = plugin.versions.first() {
                    keep.push(newest.digest.clone());
                    self.ready(&plugin.name, &newest.digest).await?;
                }
            }
            // A running attempt holds its version itself.
            self.lock().prepared.retain(|digest, _| keep.contains(digest));
        }
        Ok(())
    }

    /// Warns once that an uploaded plugin runs in place of one of the host's.
    fn tell_replaced(&self, builtin: &'static Builtin, active: Option<&str>) {
        let replaced = &mut self.lock().replaced;
        match active.filter(|active| *active != builtin.digest()) {
            Some(active) if replaced.insert(builtin.name) => {
                tracing::warn!(
                    plugin = builtin.name,
                    version = active,
                    builtin = builtin.version(),
                    "an uploaded plugin took the place of the one that comes with the host"
                );
            }
            Some(_) => {}
            None => {
                replaced.remove(builtin.name);
            }
        }
    }

    /// What this node knows of a version without asking the store.
    fn known(&self, digest: &str) -> Option<BoundPlugin> {
        let state = self.lock();
        if let Some(prepared) = state.prepared.get(digest) {
            return Some(BoundPlugin::Ready(Arc::clone(prepared)));
        }
        let (_, reason) = state.failed.get(digest).filter(|(at, _)| at.elapsed() < RETRY)?;
        Some(BoundPlugin::Missing(Verdict::Instantiate, reason.clone()))
    }

    /// A built-in plugin, compiled on this node; it is not in the store.
    async fn ready_builtin(&self, builtin: &'static Builtin) -> BoundPlugin {
        if let Some(known) = self.known(builtin.digest()) {
            return known;
        }
        let prepared = self.prepare(Bytes::from_static(builtin.wasm)).await;
        self.conclude_preparing(builtin.name, builtin.digest(), prepared)
    }

    /// The version, compiled on this node.
    async fn ready(&self, plugin: &str, digest: &str) -> Result<BoundPlugin, StoreError> {
        if let Some(known) = self.known(digest) {
            return Ok(known);
        }
        let wasm = match self.store.version_wasm(digest).await {
            Ok(wasm) => wasm,
            Err(StoreError::NotFound(_)) => {
                let reason =
                    format!("plugin {plugin} has no version {digest}: push it, or name another in the binding");
                return Ok(BoundPlugin::Missing(Verdict::NoPlugin, reason));
            }
            Err(error) => return Err(error),
        };
        // What the store returns is compared with what was asked for, always:
        // a binding that pins a digest must never run anything else.
        let found = {
            let wasm = wasm.clone();
            tokio::task::spawn_blocking(move || engine::digest(&wasm)).await.unwrap_or_default()
        };
        if let Some(reason) = altered(plugin, digest, &found) {
            if self.lock().failed.insert(digest.to_owned(), (Instant::now(), reason.clone())).is_none() {
                tracing::error!(plugin, version = digest, %reason, "a version in the store was altered");
            }
            return Ok(BoundPlugin::Missing(Verdict::Instantiate, reason));
        }
        let found = self.conclude_preparing(plugin, digest, self.prepare(wasm).await);
        if matches!(found, BoundPlugin::Ready(_)) {
            self.store.prepared(self.writer, digest).await?;
        }
        Ok(found)
    }

    /// Remembers whether a version could be compiled.
    fn conclude_preparing(
        &self,
        plugin: &str,
        digest: &str,
        prepared: Result<Arc<Prepared>, PrepareError>,
    ) -> BoundPlugin {
        match prepared {
            Ok(prepared) => {
                self.lock().failed.remove(digest);
                tracing::info!(plugin, version = digest, "plugin version prepared");
                BoundPlugin::Ready(prepared)
            }
            Err(error) => {
                let reason = format!("plugin {plugin} version {digest} cannot be prepared on this node: {error}");
                // The binding that cannot run shows the reason for as long as it stands.
                if self.lock().failed.insert(digest.to_owned(), (Instant::now(), reason.clone())).is_none() {
                    tracing::error!(plugin, version = digest, %error, "cannot prepare");
                }
                BoundPlugin::Missing(Verdict::Instantiate, reason)
            }
        }
    }

    fn tell(&self, key: &str, found: BoundPlugin) {
        if let Some(wanted) = self.lock().wanted.get(key) {
            wanted.tell.send_if_modified(|now| {
                let same = match (&*now, &found) {
                    (BoundPlugin::Ready(now), BoundPlugin::Ready(found)) => now.digest == found.digest,
                    (BoundPlugin::Missing(_, now), BoundPlugin::Missing(_, found)) => now == found,
                    _ => false,
                };
                if !same {
                    *now = found;
                }
                !same
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, VersionsState> {
        self.state.lock()
    }
}

/// What is wrong with a version of the store whose bytes have the digest
/// `found`; none when it is the right one.
fn altered(plugin: &str, digest: &str, found: &str) -> Option<String> {
    (found != digest).then(|| {
        format!(
            "plugin {plugin} version {digest} is not what the store returns for it, which has the digest {found}: \
             push the version again, and find out who changed the database"
        )
    })
}

fn reference(plugin: &PluginRef) -> String {
    match &plugin.digest {
        Some(digest) => format!("{}@{digest}", plugin.name),
        None => plugin.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a change in the database another component ran, and the log named
    /// the pinned digest.
    #[test]
    fn bytes_that_are_not_those_of_the_digest_are_refused() {
        let digest = engine::digest(b"component");
        assert_eq!(altered("p", &digest, &digest), None);
        let why = altered("p", &digest, &engine::digest(b"another")).unwrap();
        assert!(why.contains(&digest) && why.contains("is not what the store returns"), "{why}");
    }
}
