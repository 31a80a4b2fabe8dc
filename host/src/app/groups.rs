//! Runs the groups of the configuration in force on this node.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use courier_core::message::Kind;
use courier_core::verdict::DeadLetter;
use futures::future::join_all;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::causes::{Cause, Causes, PAUSED, Subject, UNDELIVERED_FULL};
use crate::config::Binding;
use crate::consume::attempt::binding::RunningBinding;
use crate::consume::attempt::circuit_breaker::Permission;
use crate::consume::attempt::delivery::dead_letter_topic;
use crate::consume::attempt::plugin_versions::PluginVersions;
use crate::consume::owner::reruns;
use crate::consume::{NodeContext, RunningGroup};
use crate::kafka::log_reader::{GroupInfo, LogError};
use crate::publish::draft::MAX_TOPIC_BYTES;
use crate::store::{AskedLately, NodeBinding};

/// How often the store is asked which groups the API paused.
const PAUSE_POLL: Duration = Duration::from_millis(500);
/// The code of the cause that the paused groups are unknown.
const PAUSES_UNKNOWN: &str = "pauses_unknown";

/// A partition that stands still because it has as many parked deliveries as it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedFull {
    /// The group.
    pub group: String,
    /// The topic in Kafka, which is the companion for broadcasts.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// Starts, stops and restarts groups.
pub struct RunningGroups {
    node: NodeContext,
    plugins: Arc<PluginVersions>,
    groups: tokio::sync::Mutex<HashMap<String, RunningGroup>>,
    /// Groups that drain, also when their reload was dropped.
    leaving: TaskTracker,
    /// The running bindings, for readers; none before the first configuration is in force,
    /// which is not the same as a configuration without bindings.
    bound: Mutex<Option<Vec<Arc<RunningBinding>>>>,
    paused: Mutex<HashMap<String, String>>,
    asked: Arc<tokio::sync::Notify>,
    /// Notifies of another configuration.
    applied: watch::Sender<()>,
}

impl RunningGroups {
    /// No groups yet.
    #[must_use]
    pub fn new(node: NodeContext, plugins: Arc<PluginVersions>) -> Self {
        Self {
            node,
            plugins,
            groups: tokio::sync::Mutex::default(),
            leaving: TaskTracker::new(),
            bound: Mutex::default(),
            paused: Mutex::default(),
            asked: Arc::default(),
            applied: watch::Sender::new(()),
        }
    }

    /// Makes the running groups those of `bindings`. A group whose bindings did
    /// not change runs on; one that changed drains, leaves and starts again.
    ///
    /// # Errors
    /// When the threads of groups cannot be had. All other groups are those of
    /// `bindings` then too.
    pub async fn apply(&self, bindings: &[Binding]) -> std::io::Result<()> {
        let mut wanted: BTreeMap<&str, Vec<&Binding>> = BTreeMap::new();
        for binding in bindings {
            wanted.entry(&binding.group).or_default().push(binding);
        }
        let mut groups = self.groups.lock().await;
        let changed = |group: &RunningGroup| {
            let now = group.bindings.iter().map(|bound| &bound.binding);
            !wanted.get(group.name.as_str()).is_some_and(|wanted| wanted.iter().copied().eq(now))
        };
        let leaving: Vec<String> =
            groups.values().filter(|group| changed(group)).map(|group| group.name.clone()).collect();
        for group in &leaving {
            tracing::info!(group, "group drains, because its bindings changed");
        }
        let stopping: Vec<RunningGroup> = leaving.iter().filter_map(|name| groups.remove(name)).collect();
        join_all(stopping.into_iter().map(|group| self.leaving.spawn(group.stop()))).await;
        let started = start_missing(&mut groups, wanted, |name, bindings| {
            let bound: Vec<Arc<RunningBinding>> = bindings
                .into_iter()
                .map(|binding| {
                    RunningBinding::new(binding.clone(), self.plugins.watch(&binding.plugin), &self.node.rules)
                })
                .map(Arc::new)
                .collect();
            for bound in &bound {
                bound.pause(lock(&self.paused).get(name).map(String::as_str));
            }
            RunningGroup::start(self.node.clone(), name.to_owned(), bound)
        });
        // Also when a group could not be started: the others run, or have stopped, and their
        // readers would go by the groups of before.
        let mut running: Vec<_> = groups.values().flat_map(|group| group.bindings.clone()).collect();
        running.sort_by(|a, b| (&a.binding.group, &a.binding.topics).cmp(&(&b.binding.group, &b.binding.topics)));
        *lock(&self.bound) = Some(running);
        self.applied.send_replace(());
        started
    }

    /// Changes when another configuration is in force.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<()> {
        self.applied.subscribe()
    }

    /// Drains and stops all groups.
    pub async fn stop(&self) {
        let groups: Vec<RunningGroup> = self.groups.lock().await.drain().map(|(_, group)| group).collect();
        join_all(groups.into_iter().map(RunningGroup::stop)).await;
        // A reload that the stop interrupted may have left groups draining.
        self.leaving.close();
        self.leaving.wait().await;
    }

    /// The running bindings.
    #[must_use]
    pub fn bound(&self) -> Vec<Arc<RunningBinding>> {
        lock(&self.bound).clone().unwrap_or_default()
    }

    /// The bindings of this node, for the other hosts.
    #[must_use]
    pub fn node_bindings(&self) -> Vec<NodeBinding> {
        let bound = self.bound();
        let of = |bound: &Arc<RunningBinding>| {
            let binding = &bound.binding;
            let topics = binding.topics.iter().map(|topic| NodeBinding {
                group: binding.group.clone(),
                topic: topic.clone(),
                types: binding.types.clone(),
            });
            topics.collect::<Vec<_>>()
        };
        let bindings: BTreeSet<NodeBinding> = bound.iter().flat_map(of).collect();
        bindings.into_iter().collect()
    }

    /// The topics of Courier's own that the bindings need: dead letters.
    #[must_use]
    pub fn own_topics(&self) -> Vec<String> {
        self.bound().iter().flat_map(|bound| dead_letter_topics(&bound.binding)).collect()
    }

    /// Stops the bindings that publish to a topic in `full`, whose messages
    /// could not be delivered either, and resumes the others.
    pub fn hold_for_undelivered(&self, full: &HashSet<String>, causes: &Causes) {
        let bound = self.bound();
        let full_topic = |bound: &Arc<RunningBinding>| {
            let binding = &bound.binding;
            let mut sends_to = binding.grant.publish.iter().cloned().chain(dead_letter_topics(binding));
            sends_to.find(|topic| full.contains(topic))
        };
        let subject = |bound: &Arc<RunningBinding>| Subject::Binding {
            group: bound.binding.group.clone(),
            plugin: bound.binding.plugin.name.clone(),
        };
        let found = bound.iter().map(|bound| (subject(bound), full_topic(bound))).collect();
        for (bound, why) in bound.iter().zip(report_full(found, causes)) {
            bound.hold_for_undelivered(why);
        }
    }

    /// The companions of bound topics, which hold their broadcasts. A topic
    /// whose name is too long has no companion.
    #[must_use]
    pub fn companions(&self) -> Vec<String> {
        let bound = self.bound();
        let topics: BTreeSet<&String> = bound.iter().flat_map(|bound| &bound.binding.topics).collect();
        let companions = topics.into_iter().map(|topic| Kind::Broadcast.log_topic(topic).into_owned());
        companions.filter(|topic| topic.len() <= MAX_TOPIC_BYTES).collect()
    }

    /// Whether the binding of a group to a topic skips a type.
    #[must_use]
    pub fn passes_over(&self, group: &str, topic: &str, type_name: &str) -> bool {
        self.bound().iter().map(|bound| &bound.binding).any(|binding| {
            binding.group == group
                && binding.topics.iter().any(|bound| bound == topic)
                && binding.types.as_ref().is_some_and(|types| !types.iter().any(|one| one == type_name))
        })
    }

    /// The state retention of the groups whose bindings with state all have
    /// one.
    #[must_use]
    pub fn state_ttls(&self) -> BTreeMap<String, Duration> {
        let mut ttls: BTreeMap<String, Option<Duration>> = BTreeMap::new();
        for bound in self.bound().iter().filter(|bound| bound.binding.grant.state) {
            let (group, ttl) = (&bound.binding.group, bound.binding.grant.state_ttl);
            let longest = ttls.entry(group.clone()).or_insert(ttl);
            *longest = longest.zip(ttl).map(|(one, other)| one.max(other));
        }
        ttls.into_iter().filter_map(|(group, ttl)| Some((group, ttl?))).collect()
    }

    /// Whether this node is registered for the broadcasts of all its bindings.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.bound().iter().all(|bound| bound.listening.load(Ordering::Relaxed))
    }

    /// Removes this node as a listener of topics that it no longer binds;
    /// retried until the store answers. A start that takes long has bound none yet: ended
    /// then, its listeners would miss the broadcasts of while it was away.
    pub async fn listen_only_to_bound(&self) {
        let Some(bound) = lock(&self.bound).clone() else { return };
        let topics = |bound: &Arc<RunningBinding>| {
            let group = bound.binding.group.clone();
            bound.binding.topics.iter().map(move |topic| (group.clone(), topic.clone())).collect::<Vec<_>>()
        };
        // With `each` the addresses of the service listen in place of the nodes.
        let keep: Vec<(String, String)> = bound.iter().filter(|bound| !bound.binding.each).flat_map(topics).collect();
        match self.node.tools.store.listen_only(&self.node.tools.node, &keep).await {
            Ok(ended) => {
                for one in ended {
                    tracing::info!(group = one.group, topic = one.topic, "no longer listens to broadcasts");
                }
            }
            Err(error) => tracing::debug!(%error, "cannot end what this node listened to"),
        }
    }

    /// The state of the gate of a binding.
    #[must_use]
    pub fn why_stopped(bound: &RunningBinding) -> Option<String> {
        match bound.gate.now() {
            Permission::Open | Permission::Probing => None,
            Permission::Paused(why) | Permission::Full(why) => Some(why),
            Permission::Closed { reason, .. } => Some(reason),
        }
    }

    /// The code of what keeps a binding from running.
    #[must_use]
    pub fn blocked(bound: &RunningBinding) -> Option<&'static str> {
        match bound.gate.now() {
            Permission::Open | Permission::Probing => None,
            Permission::Paused(_) => Some(PAUSED),
            Permission::Full(_) => Some(UNDELIVERED_FULL),
            Permission::Closed { verdict, .. } => Some(verdict.as_str()),
        }
    }

    /// The name of this node.
    #[must_use]
    pub fn own_node(&self) -> &str {
        &self.node.tools.node
    }

    /// Group, topic and partition of each owner of events that runs on this node.
    #[must_use]
    pub fn owned_partitions(&self) -> HashSet<(String, String, i32)> {
        let of = |bound: &Arc<RunningBinding>| {
            let group = bound.binding.group.clone();
            let events = bound.owned().into_iter().filter(|place| place.kind == Kind::Event);
            events.map(move |place| (group.clone(), place.topic.to_string(), place.partition))
        };
        self.bound().iter().flat_map(of).collect()
    }

    /// Who is in the consumer group of a group now.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn members(&self, group: &str) -> Result<GroupInfo, LogError> {
        self.node.tools.log.group(group).await
    }

    /// Partitions of this node that parked rows have stopped.
    #[must_use]
    pub fn parked_full(&self) -> Vec<ParkedFull> {
        let of = |bound: &Arc<RunningBinding>| {
            let group = bound.binding.group.clone();
            let full = bound.parked_full().into_iter();
            full.map(move |place| ParkedFull {
                group: group.clone(),
                topic: place.log_topic().into_owned(),
                partition: place.partition,
            })
            .collect::<Vec<_>>()
        };
        self.bound().iter().flat_map(of).collect()
    }

    /// The groups that the API paused, with the reason.
    pub fn set_paused(&self, paused: HashMap<String, String>) {
        for bound in self.bound() {
            bound.pause(paused.get(&bound.binding.group).map(String::as_str));
        }
        *lock(&self.paused) = paused;
    }

    /// Asks the store which groups are paused, until it answers.
    pub async fn recall_paused(&self) {
        let causes = &self.node.tools.causes;
        loop {
            match self.node.tools.store.paused().await {
                Ok(paused) => {
                    causes.clear_code(&Subject::Store, PAUSES_UNKNOWN);
                    return self.set_paused(paused.into_iter().collect());
                }
                Err(error) => {
                    let why = format!("no group starts until the store tells which of them are paused: {error}");
                    causes.report(Subject::Store, Cause::new(PAUSES_UNKNOWN, why));
                }
            }
            tokio::time::sleep(PAUSE_POLL).await;
        }
    }

    /// Wakes the groups, which poll the store.
    pub fn wake(&self) {
        self.asked.notify_one();
    }

    /// Forwards wake-ups, and applies pauses of the API.
    ///
    /// It also looks for requests that other hosts took, with one query for all
    /// groups: a query of each group would keep an idle host busy.
    pub async fn follow(self: Arc<Self>) {
        let store = &self.node.tools.store;
        let (mut seen, mut paused_at) = (AskedLately::default(), None::<Instant>);
        loop {
            let mut wake = tokio::time::timeout(reruns::INTERVAL, self.asked.notified()).await.is_ok();
            if wake || paused_at.is_none_or(|at| at.elapsed() >= PAUSE_POLL) {
                paused_at = Some(Instant::now());
                match store.paused().await {
                    Ok(paused) => self.set_paused(paused.into_iter().collect()),
                    Err(error) => tracing::debug!(%error, "cannot ask which groups are paused"),
                }
            }
            match store.asked_lately(reruns::WINDOW).await {
                Ok(asked) => wake |= std::mem::replace(&mut seen, asked) != asked,
                Err(error) => tracing::debug!(%error, "cannot ask whether somebody asked for deliveries to run"),
            }
            if wake {
                for group in self.groups.lock().await.values() {
                    group.wake();
                }
            }
        }
    }
}

/// Starts the wanted groups that are not there.
///
/// # Errors
/// Why the first group that could not be started was not. The others are started all the
/// same.
fn start_missing<'w, G>(
    groups: &mut HashMap<String, G>,
    wanted: BTreeMap<&'w str, Vec<&'w Binding>>,
    start: impl Fn(&str, Vec<&'w Binding>) -> std::io::Result<G>,
) -> std::io::Result<()> {
    let mut ended = Ok(());
    for (name, bindings) in wanted {
        if groups.contains_key(name) {
            continue;
        }
        match start(name, bindings) {
            Ok(group) => {
                groups.insert(name.to_owned(), group);
            }
            Err(error) => {
                tracing::error!(group = name, %error, "the group could not be started");
                ended = ended.and(Err(error));
            }
        }
    }
    ended
}

/// Reports the bindings that publish to a full topic, each with its first one, and clears
/// the others. Returns why each of them stops.
///
/// Bindings of one plugin in one group are one subject, which is cleared only if no topic of
/// any of them is full: otherwise each round would end the cause and begin it anew.
fn report_full(found: Vec<(Subject, Option<String>)>, causes: &Causes) -> Vec<Option<String>> {
    let (mut whys, mut reported, mut free) = (Vec::new(), HashSet::new(), HashSet::new());
    for (subject, topic) in found {
        whys.push(topic.as_ref().map(|topic| {
            format!("too much is undelivered for topic {topic}: resend it or give it up (courier undelivered list)")
        }));
        let Some((topic, why)) = topic.zip(whys.last().cloned().flatten()) else {
            free.insert(subject);
            continue;
        };
        if reported.insert(subject.clone()) {
            causes.report(subject, Cause::new(UNDELIVERED_FULL, why).with("topic", topic).at_once());
        }
    }
    for subject in free.difference(&reported) {
        causes.clear_code(subject, UNDELIVERED_FULL);
    }
    whys
}

/// The dead-letter topics of a binding.
fn dead_letter_topics(binding: &Binding) -> Vec<String> {
    match &binding.failure.dead_letter {
        DeadLetter::Topic(Some(topic)) => vec![topic.clone()],
        DeadLetter::Topic(None) => {
            binding.topics.iter().map(|topic| dead_letter_topic(topic, &binding.group)).collect()
        }
        DeadLetter::Off | DeadLetter::Hold => Vec::new(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(plugin: &str) -> Subject {
        Subject::Binding { group: "stock".into(), plugin: plugin.into() }
    }

    /// Of two bindings of one plugin each cleared what the other had reported.
    #[test]
    fn a_binding_with_room_leaves_the_cause_of_its_twin() {
        let causes = Causes::default();
        let look = |topics: [Option<&str>; 3]| {
            let plugins = ["http-push", "http-push", "ledger"];
            let found = plugins.iter().zip(topics).map(|(plugin, topic)| (subject(plugin), topic.map(str::to_owned)));
            report_full(found.collect(), &causes).iter().map(Option::is_some).collect::<Vec<_>>()
        };
        let since = |plugin: &str| causes.of(&subject(plugin)).map(|cause| cause.since);
        let mut begun = None;
        for full in [[Some("dlq.a"), None, None], [None, Some("dlq.b"), None], [Some("dlq.a"), Some("dlq.b"), None]] {
            assert_eq!(look(full), full.map(|topic| topic.is_some()), "each stops for its own topics");
            assert!(since("http-push").is_some() && since("ledger").is_none());
            assert_eq!(since("http-push"), *begun.get_or_insert(since("http-push")), "it goes on");
        }
        look([None, None, Some("dlq.a")]);
        assert!(since("http-push").is_none() && since("ledger").is_some());
    }

    /// A group that could not be started left those behind it away, and the list of what
    /// runs as it was.
    #[test]
    fn a_group_that_cannot_start_keeps_no_other_from_starting() {
        let names = ["audit", "mail", "stock", "sums"];
        let wanted = names.map(|name| (name, Vec::new())).into();
        let mut groups = HashMap::from([("stock".to_owned(), "before")]);
        let ended = start_missing(&mut groups, wanted, |name, _| match name {
            "audit" | "mail" => Err(std::io::Error::other(format!("no threads for {name}"))),
            _ => Ok("now"),
        });
        assert_eq!(ended.unwrap_err().to_string(), "no threads for audit");
        let running = [("stock", "before"), ("sums", "now")].map(|(name, begun)| (name.to_owned(), begun));
        assert_eq!(groups, HashMap::from(running));
    }
}
