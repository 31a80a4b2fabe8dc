//! Reading the configuration again, on SIGHUP and when a file of it changed.
//!
//! A file that is wrong changes nothing and is reported. What only a restart
//! can change is said so, and everything else takes effect. A file in which all
//! bindings are gone is more often a slip than a wish, so that one is taken
//! only when a person says so by SIGHUP.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

use super::built_in::BuiltIn;
use super::ports;
use crate::api::auth::Authenticator;
use crate::app::config_standing::ConfigStanding;
use crate::app::groups::RunningGroups;
use crate::app::import_rules::ImportRules;
use crate::config::{self, Auth, Binding, Config, ConfigError, OwnTopics, Server};
use crate::publish::cut;
use crate::publish::outbox::RunningOutboxes;
use crate::publish::send::Acceptor;
use crate::publish::transactions::check_back::CheckUrls;
use crate::store::{AuditEntry, SharedStore};

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

/// Why the configuration is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A person asked for it, with SIGHUP.
    Signal,
    /// A file of it changed.
    Watch,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signal => "SIGHUP",
            Self::Watch => "a file changed",
        })
    }
}

/// The longest detail of a reload in the audit log.
const MAX_DETAIL_BYTES: usize = 2_000;

/// Says what a configuration asks for that will not go well.
pub fn warn(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
}

/// Puts into force what needs nothing but to be told: which topics are bound,
/// what bodies look like, and whether topics are created.
pub fn put_in_force(config: &Config, acceptor: &Acceptor, own_topics: &watch::Sender<OwnTopics>) {
    let rules = acceptor.rules();
    rules.follow_schemas(config.topics.clone());
    rules.follow_bound(config.bindings.iter().flat_map(|binding| binding.topics.iter().cloned()));
    let own = &config.kafka.topics;
    rules.create_companions(own.create.then_some((own.partitions, own.replication)));
    own_topics.send_replace(own.clone());
}

/// What a reload reaches.
pub struct ReloadTargets<'a> {
    pub fleet: &'a RunningGroups,
    pub outboxes: &'a RunningOutboxes,
    /// The send side, which holds messages to what the configuration says.
    pub acceptor: &'a Acceptor,
    pub gate: &'a Authenticator,
    /// Where senders may be asked about their transactions.
    pub urls: &'a CheckUrls,
    /// How topics of Courier's own come to be.
    pub own_topics: &'a watch::Sender<OwnTopics>,
    /// What uploads may import.
    pub imports: &'a ImportRules,
    /// Sandboxes in the pool.
    pub slots: u32,
    /// The certificate of the listener, if it has one.
    pub certificate: Option<&'a watch::Sender<Arc<ServerConfig>>>,
    /// What people are told of it.
    pub standing: &'a ConfigStanding,
    /// Where the audit log is.
    pub store: &'a SharedStore,
}

/// Reads the file and makes the running groups and outboxes what it wants.
/// Answers the other files that it names. The audit log tells what became of
/// it: it has no other trace of a change that was made in the file.
pub async fn apply(file: &File, running: &mut Config, host: &ReloadTargets<'_>, trigger: Trigger) -> Vec<PathBuf> {
    let (files, ended) = take(file, running, host, trigger).await;
    let (action, what) = match ended {
        Ok(changes) => ("reload", changes),
        Err(why) => ("reload refused", why),
    };
    let deed = AuditEntry {
        by: format!("host {}", running.server.node),
        action: action.to_owned(),
        subject: file.path.display().to_string(),
        detail: cut(&format!("{trigger}: {what}"), MAX_DETAIL_BYTES).to_owned(),
    };
    if let Err(error) = host.store.record_deed(&deed).await {
        tracing::warn!(%error, action, "a reload has no entry in the audit log");
    }
    files
}

/// Takes the file, and tells what it changes or why it was not taken.
async fn take(
    file: &File,
    running: &mut Config,
    host: &ReloadTargets<'_>,
    trigger: Trigger,
) -> (Vec<PathBuf>, Result<String, String>) {
    let mut wanted = match file.load() {
        Ok(wanted) => wanted,
        Err(error) => {
            host.standing.refused(&error);
            tracing::error!("the changed configuration is wrong and changes nothing:\n{error}");
            let first = error.errors().first().map(ToString::to_string).unwrap_or_default();
            return (error.files().to_vec(), Err(first));
        }
    };
    let files = wanted.files.clone();
    if let Some(why) = not_to_be_taken(running, &wanted, trigger, file.built_in.is_some()) {
        host.standing.not_taken(&why);
        tracing::error!("the changed configuration changes nothing: {why}");
        return (files, Err(why));
    }
    super::sandboxes::warn_of_shortage(&mut wanted, host.slots);
    warn(&wanted);
    let restart = only_at_a_start(running, &wanted);
    for what in &restart {
        tracing::warn!("{what} changed; that takes effect after a restart");
    }
    host.gate.replace(ports::tokens(&wanted.auth));
    host.urls.replace(&wanted.transactions.check_urls);
    host.imports.replace(&wanted.plugins);
    put_in_force(&wanted, host.acceptor, host.own_topics);
    let changes = changes(running, &wanted, &restart);
    show_certificate(host.certificate, &mut running.server, &wanted.server);
    running.topics.clone_from(&wanted.topics);
    running.kafka.topics.clone_from(&wanted.kafka.topics);
    running.auth = wanted.auth;
    running.transactions = wanted.transactions;
    host.outboxes.apply(&wanted.outboxes);
    running.outboxes = wanted.outboxes;
    log_changes(&running.bindings, &wanted.bindings);
    let started = host.fleet.apply(&wanted.bindings).await;
    running.bindings = wanted.bindings;
    let ended = match started {
        Ok(()) => {
            host.standing.taken(wanted.warnings, restart);
            tracing::info!(bindings = running.bindings.len(), "configuration reloaded");
            Ok(changes)
        }
        Err(error) => {
            let why = format!("not all of its groups could be started: {error}");
            host.standing.partly_taken(wanted.warnings, restart, &why);
            tracing::error!(%error, "cannot start all groups of the changed configuration");
            Err(format!("taken, but not all of its groups could be started: {error}"))
        }
    };
    (files, ended)
}

/// Why a valid file is not taken, if it is not.
fn not_to_be_taken(running: &Config, wanted: &Config, trigger: Trigger, dev: bool) -> Option<String> {
    // The new address takes effect at the next start, and the tokens now.
    let listen = running.server.listen;
    if wanted.leaves_open(listen) {
        return Some(format!(
            "it has no [auth] tokens, and this host still listens on {listen}, which other machines can reach; keep some \
             until it is started anew"
        ));
    }
    let gone = !running.bindings.is_empty() && wanted.bindings.is_empty();
    (gone && trigger == Trigger::Watch && !dev).then(|| {
        format!("it has no bindings any more, and {} run here; send SIGHUP if they are to stop", running.bindings.len())
    })
}

/// Begins new connections with another certificate. Those that are open keep
/// theirs.
fn show_certificate(certificate: Option<&watch::Sender<Arc<ServerConfig>>>, running: &mut Server, wanted: &Server) {
    let (Some(shown), Some(tls)) = (certificate, &wanted.tls) else { return };
    if running.tls.as_ref() != Some(tls) {
        shown.send_replace(Arc::clone(&tls.acceptor));
        running.tls = Some(tls.clone());
        tracing::info!(cert = %tls.cert.display(), "certificate reloaded");
    }
}

/// What differs from what runs and cannot be changed while it does.
fn only_at_a_start(running: &Config, wanted: &Config) -> Vec<&'static str> {
    let fixed_of =
        |server: &Server| (server.listen, server.node.clone(), server.public_url.clone(), server.tls.is_some());
    let fixed = [
        ("[server]", fixed_of(&wanted.server) != fixed_of(&running.server)),
        ("[store]", wanted.store != running.store),
        ("[kafka] bootstrap_servers", wanted.kafka.bootstrap_servers != running.kafka.bootstrap_servers),
        ("[kafka] max_record", wanted.kafka.max_record != running.kafka.max_record),
        ("[kafka.properties]", wanted.kafka.properties != running.kafka.properties),
    ];
    fixed.into_iter().filter(|(_, changed)| *changed).map(|(what, _)| what).collect()
}

/// What a file changes, for the audit log: parts and bindings by their names.
fn changes(running: &Config, wanted: &Config, restart: &[&str]) -> String {
    let names = |auth: &Auth| auth.tokens.iter().map(|token| token.name.clone()).collect::<BTreeSet<_>>();
    let (before, after) = (names(&running.auth), names(&wanted.auth));
    let mut all: Vec<String> = restart.iter().map(|what| format!("{what} after a restart")).collect();
    all.extend(after.difference(&before).map(|name| format!("token {name} added")));
    all.extend(before.difference(&after).map(|name| format!("token {name} removed")));
    let kept = wanted.auth.tokens.iter().filter(|token| before.contains(&token.name));
    all.extend(
        kept.filter(|token| !running.auth.tokens.contains(token)).map(|token| format!("token {} changed", token.name)),
    );
    let parts = [
        ("[server.tls]", wanted.server.tls != running.server.tls),
        ("[transactions]", wanted.transactions != running.transactions),
        ("[kafka.topics]", wanted.kafka.topics != running.kafka.topics),
        ("[[topic]]", format!("{:?}", wanted.topics) != format!("{:?}", running.topics)),
        ("[[outbox]]", wanted.outboxes != running.outboxes),
    ];
    all.extend(parts.into_iter().filter(|(_, changed)| *changed).map(|(what, _)| what.to_owned()));
    let is_in = |one: &Binding, all: &[Binding]| all.iter().any(|other| same(one, other));
    let removed = running.bindings.iter().filter(|one| !is_in(one, &wanted.bindings));
    all.extend(removed.map(|one| format!("binding of {} removed", one.group)));
    for binding in &wanted.bindings {
        match running.bindings.iter().find(|one| same(one, binding)) {
            None => all.push(format!("binding of {} added", binding.group)),
            Some(before) if before != binding => {
                all.push(format!("binding of {} changed ({})", binding.group, before.differences(binding).join(", ")))
            }
            Some(_) => {}
        }
    }
    if all.is_empty() { "nothing changed".to_owned() } else { all.join(", ") }
}

/// A binding is known by its group and its topics, which no other one has.
fn same(one: &Binding, other: &Binding) -> bool {
    one.group == other.group && one.topics == other.topics
}

fn log_changes(running: &[Binding], wanted: &[Binding]) {
    for binding in running.iter().filter(|one| !wanted.iter().any(|other| same(one, other))) {
        tracing::info!(group = binding.group, topics = ?binding.topics, "binding removed");
    }
    for binding in wanted {
        match running.iter().find(|one| same(one, binding)) {
            None => tracing::info!(group = binding.group, topics = ?binding.topics, "binding added"),
            Some(before) if before != binding => tracing::info!(
                group = binding.group,
                topics = ?binding.topics,
                changed = before.differences(binding).join(", "),
                "binding changed"
            ),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: &str = "[[binding]]\ngroup = \"g\"\ntopics = [\"a\"]\nplugin = \"p\"\n";

    fn config(text: &str) -> Config {
        config::parse("courier.toml", text, &|name| (name == "T").then(|| "secret".to_owned()))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// An empty or half-written file dropped all bindings at once.
    #[test]
    fn a_file_without_bindings_is_taken_only_by_a_signal() {
        let (bound, empty) = (config(BINDING), config(""));
        let why = not_to_be_taken(&bound, &empty, Trigger::Watch, false).unwrap();
        assert!(why.contains("1 run here") && why.contains("SIGHUP"), "{why}");
        assert_eq!(not_to_be_taken(&bound, &empty, Trigger::Signal, false), None);
        assert_eq!(not_to_be_taken(&bound, &empty, Trigger::Watch, true), None, "courier dev takes it always");
        assert_eq!(not_to_be_taken(&empty, &empty, Trigger::Watch, false), None, "there were none before");
        assert_eq!(not_to_be_taken(&bound, &config(BINDING), Trigger::Watch, false), None);
    }

    #[test]
    fn what_only_a_restart_can_change_is_named() {
        let running = config("");
        let topics = config("[kafka.topics]\ncreate = true\n");
        assert!(only_at_a_start(&running, &topics).is_empty(), "topics are created from now on");
        let other =
            config("[server]\nnode = \"other\"\n[store]\nretention = \"1d\"\n[kafka]\nbootstrap_servers = [\"a:1\"]\n");
        assert_eq!(only_at_a_start(&running, &other), ["[server]", "[store]", "[kafka] bootstrap_servers"]);
    }

    /// Item 17: what a reload changed is in the audit log, and no secret is.
    #[test]
    fn a_reload_is_told_by_the_names_of_what_changed() {
        let auth = |name: &str, role: &str| {
            format!("[auth]\ntokens = [{{ name = \"{name}\", role = \"{role}\", env = \"T\" }}]\n")
        };
        let told = |before: &str, after: &str| changes(&config(before), &config(after), &[]);
        assert_eq!(told("", ""), "nothing changed");
        assert_eq!(told(&auth("a", "admin"), &auth("b", "admin")), "token b added, token a removed");
        assert_eq!(told(&auth("a", "admin"), &auth("a", "viewer")), "token a changed");
        assert_eq!(told("", BINDING), "binding of g added");
        assert_eq!(told(BINDING, &format!("{BINDING}concurrency = 2\n")), "binding of g changed (concurrency)");
        assert_eq!(
            changes(&config(BINDING), &config("[kafka.topics]\ncreate = true\n"), &["[store]"]),
            "[store] after a restart, [kafka.topics], binding of g removed"
        );
    }

    /// Item 14: a renewed certificate needs no restart; the step to TLS does.
    #[test]
    fn a_certificate_is_changed_while_the_host_runs() {
        let with = |name: &str| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/testdata");
            config(&format!("[server.tls]\ncert = \"{folder}/{name}.crt\"\nkey = \"{folder}/{name}.key\"\n"))
        };
        let (mut running, renewed) = (with("localhost"), with("other"));
        assert!(only_at_a_start(&running, &renewed).is_empty());
        let before = Arc::clone(&running.server.tls.as_ref().unwrap().acceptor);
        let (shown, seen) = watch::channel(Arc::clone(&before));
        show_certificate(Some(&shown), &mut running.server, &with("localhost").server);
        assert!(Arc::ptr_eq(&seen.borrow(), &before), "it is the same certificate");
        show_certificate(Some(&shown), &mut running.server, &renewed.server);
        assert!(Arc::ptr_eq(&seen.borrow(), &renewed.server.tls.as_ref().unwrap().acceptor));
        assert_eq!(running.server, renewed.server);
        assert_eq!(only_at_a_start(&config(""), &renewed), ["[server]"]);
    }

    #[test]
    fn a_host_that_others_reach_keeps_its_tokens() {
        let auth = "[auth]\ntokens = [{ name = \"root\", role = \"admin\", env = \"T\" }]\n";
        let open = config(&format!("[server]\nlisten = \"0.0.0.0:1\"\n{auth}"));
        let why = not_to_be_taken(&open, &config(""), Trigger::Signal, false).unwrap();
        assert!(why.contains("keep some until it is started anew"), "{why}");
    }
}
