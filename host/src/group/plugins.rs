//! Which version each binding runs on this node.
//!
//! Every node asks the store which versions are active, and compiles what its
//! bindings want before they want it: a version that was uploaded for a bound
//! plugin is prepared at once, so that an activation finds it ready. An attempt
//! that runs keeps the version it began with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use courier_core::verdict::Verdict;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::binding::Plugin;
use super::dispatch::no_active_version;
use crate::config::PluginRef;
use crate::engine::{self, Engine, PrepareError, Prepared};
use crate::store::{SharedStore, StoreError, WriterId};
use crate::supervise::{self, Task};

/// How often the store is asked what is active; an activation anywhere takes
/// effect everywhere within this and the time to compile.
const POLL: Duration = Duration::from_millis(500);
/// How often newly uploaded versions are looked for.
const LOOK_AHEAD: Duration = Duration::from_secs(2);
/// How long a version that could not be prepared is left alone.
const RETRY: Duration = Duration::from_secs(10);

/// The versions on this node; shared by all groups.
pub struct Plugins {
    store: SharedStore,
    engine: Engine,
    writer: WriterId,
    wake: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wanted: HashMap<String, Wanted>,
    /// Prepared versions, by digest.
    prepared: HashMap<String, Arc<Prepared>>,
    failed: HashMap<String, (Instant, String)>,
}

struct Wanted {
    plugin: PluginRef,
    tell: watch::Sender<Plugin>,
}

impl Plugins {
    /// Starts to follow the store.
    #[must_use]
    pub fn start(store: SharedStore, engine: Engine, writer: WriterId) -> Arc<Self> {
        let plugins =
            Arc::new(Self { store, engine, writer, wake: Notify::new(), state: Mutex::new(State::default()) });
        let never = CancellationToken::new();
        supervise::spawn_until(Task::PluginActivations, never, Arc::clone(&plugins).follow());
        plugins
    }

    /// Follows the version that a binding runs.
    pub fn watch(&self, plugin: &PluginRef) -> watch::Receiver<Plugin> {
        let mut state = self.lock();
        let wanted = state.wanted.entry(reference(plugin)).or_insert_with(|| Wanted {
            plugin: plugin.clone(),
            tell: watch::Sender::new(no_active_version(&plugin.name)),
        });
        let watch = wanted.tell.subscribe();
        self.wake.notify_one();
        watch
    }

    /// Something about plugins changed in the store.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Compiles a component that is being uploaded, and keeps it ready.
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
            let digest = plugin.digest.clone().or_else(|| active.get(&plugin.name).cloned());
            let found = match digest {
                None => no_active_version(&plugin.name),
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
            // An attempt that still runs an older version holds it itself.
            self.lock().prepared.retain(|digest, _| keep.contains(digest));
        }
        Ok(())
    }

    /// The version, compiled on this node.
    async fn ready(&self, plugin: &str, digest: &str) -> Result<Plugin, StoreError> {
        {
            let state = self.lock();
            if let Some(prepared) = state.prepared.get(digest) {
                return Ok(Plugin::Ready(Arc::clone(prepared)));
            }
            if let Some((at, reason)) = state.failed.get(digest)
                && at.elapsed() < RETRY
            {
                return Ok(Plugin::Missing(Verdict::Instantiate, reason.clone()));
            }
        }
        let wasm = match self.store.version_wasm(digest).await {
            Ok(wasm) => wasm,
            Err(StoreError::NotFound(_)) => {
                let reason =
                    format!("plugin {plugin} has no version {digest}: push it, or name another in the binding");
                return Ok(Plugin::Missing(Verdict::NoPlugin, reason));
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
            return Ok(Plugin::Missing(Verdict::Instantiate, reason));
        }
        match self.prepare(wasm).await {
            Ok(prepared) => {
                self.lock().failed.remove(digest);
                self.store.prepared(self.writer, digest).await?;
                tracing::info!(plugin, version = digest, "prepared");
                Ok(Plugin::Ready(prepared))
            }
            Err(error) => {
                let reason = format!("plugin {plugin} version {digest} cannot be prepared on this node: {error}");
                // The binding that cannot run shows the reason for as long as it stands.
                if self.lock().failed.insert(digest.to_owned(), (Instant::now(), reason.clone())).is_none() {
                    tracing::error!(plugin, version = digest, %error, "cannot prepare");
                }
                Ok(Plugin::Missing(Verdict::Instantiate, reason))
            }
        }
    }

    fn tell(&self, key: &str, found: Plugin) {
        if let Some(wanted) = self.lock().wanted.get(key) {
            wanted.tell.send_if_modified(|now| {
                let same = match (&*now, &found) {
                    (Plugin::Ready(now), Plugin::Ready(found)) => now.digest == found.digest,
                    (Plugin::Missing(_, now), Plugin::Missing(_, found)) => now == found,
                    _ => false,
                };
                if !same {
                    *now = found;
                }
                !same
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is half changed when a panic lets go of this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
