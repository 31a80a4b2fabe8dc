//! Prepares the plugin versions that the bindings of this node run.
//!
//! Every node polls the store for the active versions. A version that is
//! uploaded for a bound plugin is compiled at once, so that its activation need
//! not wait. A running attempt keeps the version it began with.
//!
//! A compilation may take minutes. Each has a task of its own, and the loop that polls
//! tells bindings of what is compiled: the activation of one plugin never waits for the
//! compilation of another.
//!
//! A plugin that comes with the host ([`builtin`](crate::engine::builtin)) runs
//! where nothing of its name is active.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use courier_core::verdict::Verdict;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore, watch};
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
    /// One version is read and compiled at a time, so that many take no more memory than
    /// one.
    turn: Semaphore,
    state: Mutex<VersionsState>,
}

#[derive(Default)]
struct VersionsState {
    wanted: HashMap<String, WantedPlugin>,
    /// Prepared versions, by digest.
    prepared: HashMap<String, Arc<Prepared>>,
    failed: HashMap<String, Failed>,
    /// Versions that a task prepares.
    preparing: HashSet<String>,
    /// Built-in plugins that an upload replaces, and that were warned of.
    replaced: HashSet<&'static str>,
}

/// Why a version cannot run on this node.
struct Failed {
    /// When it is tried again.
    until: Instant,
    verdict: Verdict,
    reason: String,
}

struct WantedPlugin {
    plugin: PluginRef,
    tell: watch::Sender<BoundPlugin>,
}

/// A version of a plugin that has to be compiled on this node.
#[derive(Clone)]
enum Version {
    /// It is in the store.
    Stored { plugin: String, digest: String },
    /// It comes with the host and is not in the store.
    Builtin(&'static Builtin),
}

impl Version {
    fn digest(&self) -> &str {
        match self {
            Self::Stored { digest, .. } => digest,
            Self::Builtin(builtin) => builtin.digest(),
        }
    }
}

impl PluginVersions {
    /// Starts to poll the store.
    #[must_use]
    pub fn start(store: SharedStore, engine: Engine, writer: WriterId) -> Arc<Self> {
        let plugins = Arc::new(Self {
            store,
            engine,
            writer,
            wake: Notify::new(),
            turn: Semaphore::new(1),
            state: Mutex::new(VersionsState::default()),
        });
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

    async fn refresh(self: &Arc<Self>, look_ahead: bool) -> Result<(), StoreError> {
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
            let version = match (plugin.digest.clone().or(active), builtin) {
                (Some(digest), _) => Version::Stored { plugin: plugin.name.clone(), digest },
                (None, Some(builtin)) => Version::Builtin(builtin),
                (None, None) => {
                    self.tell(key, no_active_version(&plugin.name));
                    continue;
                }
            };
            keep.push(version.digest().to_owned());
            if let Some(found) = self.known_or_prepared(version) {
                self.tell(key, found);
            }
        }
        if look_ahead {
            for plugin in self.store.plugins().await? {
                if !wanted.iter().any(|(_, wanted)| wanted.name == plugin.name) {
                    continue;
                }
                if let Some(newest) = plugin.versions.first() {
                    keep.push(newest.digest.clone());
                    self.known_or_prepared(Version::Stored { plugin: plugin.name, digest: newest.digest.clone() });
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
        let Failed { verdict, reason, .. } = state.failed.get(digest).filter(|failed| Instant::now() < failed.until)?;
        Some(BoundPlugin::Missing(*verdict, reason.clone()))
    }

    /// What this node knows of a version. Of one that it does not know yet it begins to
    /// prepare, and a binding that runs another goes on with that.
    fn known_or_prepared(self: &Arc<Self>, version: Version) -> Option<BoundPlugin> {
        let known = self.known(version.digest());
        if known.is_none() && self.lock().preparing.insert(version.digest().to_owned()) {
            let this = Arc::clone(self);
            supervise::spawn(Task::PluginActivations, async move {
                let prepared = {
                    let _turn = this.turn.acquire().await;
                    this.ready(&version).await
                };
                match prepared {
                    Ok(is_ready) => {
                        this.wake();
                        if is_ready && let Version::Stored { plugin, digest } = &version {
                            this.tell_prepared(plugin, digest).await;
                        }
                    }
                    // The next poll begins again.
                    Err(error) => tracing::debug!(version = version.digest(), %error, "cannot ask for a version"),
                }
                this.lock().preparing.remove(version.digest());
            });
        }
        known
    }

    /// Tells the store that this node can run a version. Bindings run it meanwhile, and
    /// nobody would say it later, since it is known from now on.
    async fn tell_prepared(&self, plugin: &str, digest: &str) {
        while let Err(error) = self.store.prepared(self.writer, digest).await {
            tracing::debug!(plugin, version = digest, %error, "cannot say that a version is prepared");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Compiles a version on this node, and remembers what came of it. True when it can
    /// run.
    async fn ready(&self, version: &Version) -> Result<bool, StoreError> {
        let (plugin, digest) = match version {
            Version::Stored { plugin, digest } => (plugin, digest),
            Version::Builtin(builtin) => {
                let prepared = self.prepare(Bytes::from_static(builtin.wasm)).await;
                return Ok(self.conclude_preparing(builtin.name, builtin.digest(), prepared));
            }
        };
        let wasm = match self.store.version_wasm(digest).await {
            Ok(wasm) => wasm,
            Err(StoreError::NotFound(_)) => {
                let reason =
                    format!("plugin {plugin} has no version {digest}: push it, or name another in the binding");
                // It is asked for again at once: it may be pushed at any time.
                self.fail(digest, Verdict::NoPlugin, reason, POLL);
                return Ok(false);
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
            if self.fail(digest, Verdict::Instantiate, reason.clone(), RETRY) {
                tracing::error!(plugin, version = digest, %reason, "a version in the store was altered");
            }
            return Ok(false);
        }
        Ok(self.conclude_preparing(plugin, digest, self.prepare(wasm).await))
    }

    /// Remembers for a while why a version cannot run; true when it did not fail before.
    fn fail(&self, digest: &str, verdict: Verdict, reason: String, wait: Duration) -> bool {
        let failed = Failed { until: Instant::now() + wait, verdict, reason };
        self.lock().failed.insert(digest.to_owned(), failed).is_none()
    }

    /// Remembers whether a version could be compiled, and returns it.
    fn conclude_preparing(&self, plugin: &str, digest: &str, prepared: Result<Arc<Prepared>, PrepareError>) -> bool {
        match prepared {
            Ok(_) => {
                self.lock().failed.remove(digest);
                tracing::info!(plugin, version = digest, "plugin version prepared");
                true
            }
            Err(error) => {
                let reason = format!("plugin {plugin} version {digest} cannot be prepared on this node: {error}");
                // The binding that cannot run shows the reason for as long as it stands.
                if self.fail(digest, Verdict::Instantiate, reason, RETRY) {
                    tracing::error!(plugin, version = digest, %error, "cannot prepare");
                }
                false
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
    use crate::engine::{EngineSettings, World};
    use crate::store::{Holder, NewVersion};

    /// After a change in the database another component ran, and the log named
    /// the pinned digest.
    #[test]
    fn bytes_that_are_not_those_of_the_digest_are_refused() {
        let digest = engine::digest(b"component");
        assert_eq!(altered("p", &digest, &digest), None);
        let why = altered("p", &digest, &engine::digest(b"another")).unwrap();
        assert!(why.contains(&digest) && why.contains("is not what the store returns"), "{why}");
    }

    fn version(plugin: &str, wasm: &'static [u8]) -> NewVersion {
        NewVersion {
            plugin: plugin.to_owned(),
            digest: engine::digest(wasm),
            wasm: Bytes::from_static(wasm),
            imports: Vec::new(),
            exports: Vec::new(),
            wants: None,
            by: "ops".to_owned(),
        }
    }

    /// A component that compiles for minutes kept every other activation on the node
    /// waiting.
    #[tokio::test]
    async fn no_activation_waits_for_the_compilation_of_another_plugin() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("courier.db");
        let store = crate::store::open(&format!("sqlite://{}", file.display())).await.unwrap();
        let holder = Holder { incarnation: "one".into(), boot: "boot".into(), pid: 1, started: 1 };
        let writer = store.join("host-1", &holder, Duration::from_secs(60)).await.unwrap().writer;
        let settings = EngineSettings { compiler: None, cache_dir: None, cache_key: [0; 32], slots: 1 };
        let engine = Engine::new(settings).unwrap();
        let compiling = engine.occupy_compiler().await;

        let slow = version("slow", Builtin::named("http-push").unwrap().wasm);
        let quick = [version("a", b"a"), version("b", b"b"), version("c", b"c"), version("d", b"d")];
        for version in quick.iter().chain([&slow]) {
            store.put_version(version).await.unwrap();
            store.activate(&version.plugin, &version.digest, "ops").await.unwrap();
        }
        let plugins = PluginVersions::start(store, engine.clone(), writer);
        for version in &quick {
            let prepared = Arc::new(Prepared::unlinked(&version.digest, World::Handler));
            plugins.lock().prepared.insert(version.digest.clone(), prepared);
        }
        let watch = |name: &str| plugins.watch(&PluginRef { name: name.to_owned(), digest: None });
        let is_ready = |bound: &BoundPlugin| matches!(bound, BoundPlugin::Ready(_));
        let mut slow = watch("slow");
        let quick: Vec<_> = quick.iter().map(|version| watch(&version.plugin)).collect();
        for mut bound in quick {
            bound.wait_for(is_ready).await.unwrap();
        }
        assert!(!is_ready(&slow.borrow()), "its compilation waits");
        drop(compiling);
        slow.wait_for(is_ready).await.unwrap();
    }
}
