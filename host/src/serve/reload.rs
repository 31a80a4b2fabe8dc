//! Reading the configuration again, on SIGHUP and when the file changed.
//!
//! A file that is wrong changes nothing and is reported. What only a restart
//! can change is said so, and everything else takes effect.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::dev::BuiltIn;
use super::fleet::Fleet;
use super::ports;
use crate::api::auth::Gate;
use crate::config::{self, Config, ConfigError};
use crate::publish::accept::Acceptor;
use crate::publish::check_url::CheckUrls;
use crate::publish::outbox::Outboxes;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where the configuration comes from.
pub struct File {
    /// The file.
    pub path: PathBuf,
    /// What stands in for parts of what it says.
    pub built_in: Option<BuiltIn>,
}

impl File {
    fn load(&self) -> Result<Config, ConfigError> {
        let mut config = config::load(&self.path)?;
        if let Some(built_in) = &self.built_in {
            built_in.replace(&mut config);
        }
        Ok(config)
    }
}

/// Notices changes of a file.
pub struct Changes {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
}

impl Changes {
    /// Changes of `path` from now on.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_path_buf(), seen: stamp(path) }
    }

    /// Waits for the next change; that the file appears is one. A file that is
    /// missing for a moment, as when an editor replaces it, is none.
    pub async fn next(&mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = stamp(&self.path);
            if now.is_some() && now != self.seen {
                self.seen = now;
                return;
            }
        }
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Says what a configuration asks for in vain.
pub fn warn(config: &Config) {
    for warning in config.without_effect() {
        tracing::warn!("{warning}");
    }
}

/// What a reload reaches.
pub struct Running<'a> {
    /// The groups.
    pub fleet: &'a Fleet,
    /// The outboxes.
    pub outboxes: &'a Outboxes,
    /// The send side, which holds bodies to their topics' schemas.
    pub acceptor: &'a Acceptor,
    /// The tokens.
    pub gate: &'a Gate,
    /// Where senders may be asked about their transactions.
    pub urls: &'a CheckUrls,
}

/// Reads the file and makes the running groups and outboxes what it wants.
pub async fn apply(file: &File, running: &mut Config, host: &Running<'_>) {
    let wanted = match file.load() {
        Ok(wanted) => wanted,
        Err(error) => {
            metrics::counter!("courier_reload_failures_total").increment(1);
            tracing::error!("the changed configuration is wrong and changes nothing:\n{error}");
            return;
        }
    };
    // The new address takes effect at the next start, and the tokens now.
    let listen = running.server.listen;
    if wanted.leaves_open(listen) {
        metrics::counter!("courier_reload_failures_total").increment(1);
        tracing::error!(
            "the changed configuration changes nothing: it has no [auth] tokens, and this host still listens on \
             {listen}, which other machines can reach; keep some until it is started anew"
        );
        return;
    }
    warn(&wanted);
    let fixed = [
        ("[server]", wanted.server != running.server),
        ("[store]", wanted.store != running.store),
        ("[kafka] bootstrap_servers", wanted.kafka.bootstrap_servers != running.kafka.bootstrap_servers),
        ("[kafka.properties]", wanted.kafka.properties != running.kafka.properties),
    ];
    for (what, _) in fixed.iter().filter(|(_, changed)| *changed) {
        tracing::warn!("{what} changed; that takes effect at the next start");
    }
    host.gate.replace(ports::tokens(&wanted.auth));
    host.urls.replace(&wanted.transactions.check_urls);
    host.acceptor.follow(wanted.topics.clone());
    running.topics = wanted.topics;
    host.outboxes.apply(&wanted.outboxes);
    running.outboxes = wanted.outboxes;
    match host.fleet.apply(&wanted.bindings).await {
        Ok(()) => {
            running.bindings = wanted.bindings;
            tracing::info!(bindings = running.bindings.len(), "configuration reloaded");
        }
        Err(error) => tracing::error!(%error, "cannot start all groups of the changed configuration"),
    }
}
