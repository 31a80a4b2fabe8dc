//! Groups, as the API shows them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use courier_core::message::{Kind, Offset, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::runs;
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::causes_in_scope;
use crate::api::ports::BindingView;
use crate::api::problem::Problem;
use crate::causes::{CauseView, Standing, Subject, Weight};
use crate::clock::now;
use crate::rfc3339;
use crate::stats::{PACE_WINDOW, quantile_ms};
use crate::store::{AddressLeaseRow, GroupTotals, ListenerRow, PaceRow, PositionRow, is_address};

/// A consumer group.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GroupView {
    /// Its name.
    pub group: String,
    /// `running`, `paused` (by a person or the configuration), `cannot_run` (its
    /// plugin is missing, a dependency is down, or the topics that it publishes to
    /// have too many undelivered messages) or `not_bound` (no binding of a live node
    /// names it).
    pub state: &'static str,
    /// Whether it takes no deliveries now.
    pub paused: bool,
    /// Why it does not run.
    #[schema(required = true)]
    pub why: Option<String>,
    /// Why it stands still, for programs; while it runs, why some of its deliveries
    /// wait or will be lost; otherwise null.
    #[schema(required = true)]
    pub cause: Option<CauseView>,
    /// Its bindings on this host.
    pub bindings: Vec<BindingView>,
    /// Its partitions.
    pub partitions: Vec<PartitionView>,
    /// The listeners of its broadcasts, earlier ones included.
    pub broadcast: Vec<ListenerView>,
    /// Its unfinished deliveries that have rows.
    pub open: OpenView,
    /// Deliveries that were handled.
    pub handled: u64,
    /// Deliveries that failed for good.
    pub failed: u64,
    /// Median duration of the attempts of the last hour on all hosts, in
    /// milliseconds; null without attempts.
    #[schema(required = true)]
    pub p50_ms: Option<f64>,
    /// 99th percentile of the same durations.
    #[schema(required = true)]
    pub p99_ms: Option<f64>,
}

impl GroupView {
    /// Records that the group is behind; `None` when the lag of a partition is not
    /// known, or without partitions.
    #[must_use]
    pub fn lag(&self) -> Option<i64> {
        let lags: Option<Vec<i64>> = self.partitions.iter().map(|partition| partition.lag).collect();
        lags.filter(|lags| !lags.is_empty()).map(|lags| lags.into_iter().sum())
    }
}

/// A partition of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PartitionView {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset: every record below it is settled or parked in the store.
    pub position: i64,
    /// The end of the log: its last offset + 1; null when it is not known.
    #[schema(required = true)]
    pub end: Option<i64>,
    /// How far the position is behind the end; null when it is not known.
    #[schema(required = true)]
    pub lag: Option<i64>,
    /// The node that owns it.
    #[schema(required = true)]
    pub node: Option<String>,
    /// Why the partition does not progress, or will not. Each host knows this only
    /// of the partitions that it owns.
    #[schema(required = true)]
    pub why: Option<String>,
    /// The same for programs.
    #[schema(required = true)]
    pub cause: Option<CauseView>,
}

/// A listener of the broadcasts of a topic for a group: a node, or an address of a
/// pushed service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ListenerView {
    /// The node; for an address the node that pushes to it, or did so last.
    pub node: String,
    /// The address and port, where each address of a service is a listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Whether the node runs; for an address, whether a node pushes to it.
    pub live: bool,
    /// When it first listened.
    pub registered_at: String,
    /// When it was last seen.
    pub seen_at: String,
    /// Whether it is no longer expected to handle broadcasts.
    pub forgotten: bool,
    /// Why it is no longer expected to.
    #[schema(required = true)]
    pub why: Option<String>,
    /// The topic that senders broadcast on.
    pub topic: String,
    /// Broadcasts it has not handled yet; null when that is not known.
    #[schema(required = true)]
    pub lag: Option<i64>,
}

/// Unfinished deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct OpenView {
    /// Deliveries behind their lane's head.
    pub waiting: u64,
    /// Deliveries whose handler could not run.
    pub push_fail: u64,
    /// Failed deliveries with a next attempt.
    pub retrying: u64,
    /// Deliveries that wait for a person.
    pub held: u64,
}

/// All groups that the caller may see, by name.
pub(in crate::api) async fn all(app: &App, caller: &Caller) -> Result<Vec<GroupView>, Problem> {
    let paused: HashMap<String, String> = app.store.paused().await?.into_iter().collect();
    let positions = app.store.positions().await?;
    let totals = app.store.totals().await?;
    let listeners = app.store.listeners().await?;
    let leases = app.store.address_leases().await?;
    let ends = app.groups.log_ends();
    let mut groups = assemble(app.groups.bindings(), &positions, &totals, &paused, &ends);
    let bound: BTreeSet<String> = runs::bound(app).await?.into_iter().map(|binding| binding.group).collect();
    for group in &mut groups {
        if !bound.contains(&group.group) {
            not_bound(group);
        }
    }
    let shown = causes_in_scope::shown(app, caller);
    groups.iter_mut().for_each(|group| stand(group, &shown));
    for listener in &listeners {
        if let Some(group) = groups.iter_mut().find(|group| group.group == listener.group) {
            group.broadcast.push(listener_view(listener, &leases, &positions, &ends));
        }
    }
    let since = Timestamp(now().0.saturating_sub(PACE_WINDOW.as_micros() as i64));
    let paces = paces(app.store.paces(since).await?);
    for group in &mut groups {
        let Some(buckets) = paces.get(&group.group) else { continue };
        (group.p50_ms, group.p99_ms) = (quantile_ms(buckets, 0.5), quantile_ms(buckets, 0.99));
    }
    Ok(groups.into_iter().filter_map(|group| scoped(group, caller)).collect())
}

/// Latency histograms by group, summed over all processes.
fn paces(rows: Vec<PaceRow>) -> HashMap<String, Vec<u64>> {
    let mut paces: HashMap<String, Vec<u64>> = HashMap::new();
    for row in rows {
        let sum = paces.entry(row.group).or_default();
        sum.resize(sum.len().max(row.buckets.len()), 0);
        for (sum, count) in sum.iter_mut().zip(row.buckets) {
            *sum += count;
        }
    }
    paces
}

/// One group.
///
/// # Errors
/// 403 for a group out of the caller's scope, 404 for an unknown one.
pub(in crate::api) async fn one(app: &App, caller: &Caller, name: &str) -> Result<GroupView, Problem> {
    caller.group(name)?;
    let found = all(app, caller).await?.into_iter().find(|group| group.group == name);
    found.ok_or_else(|| {
        Problem::not_found(format!("no group {name:?} is known: no [[binding]] names it, and it has no positions"))
    })
}

/// One group that the caller may change: all topics that any live node binds for it,
/// or that it has positions on, must be in scope, because a change of a group concerns
/// all of them.
pub(in crate::api) async fn changeable(app: &App, caller: &Caller, name: &str) -> Result<GroupView, Problem> {
    let group = one(app, caller, name).await?;
    let bound = runs::bound(app).await?.into_iter().map(|binding| (binding.group, binding.topic));
    let read = app.store.positions().await?.into_iter().map(|row| (row.group, row.topic));
    if bound.chain(read).any(|(group, topic)| group == name && !caller.sees_topic(&topic)) {
        return Err(Problem::forbidden(format!(
            "this concerns all topics of the group {name:?}, and the token `{}` reaches only some of them",
            caller.name
        )));
    }
    Ok(group)
}

/// Assembles groups from bindings, positions, sums and pauses.
fn assemble(
    bindings: Vec<BindingView>,
    positions: &[PositionRow],
    totals: &[GroupTotals],
    paused: &HashMap<String, String>,
    ends: &HashMap<(String, i32), Offset>,
) -> Vec<GroupView> {
    let mut groups: BTreeMap<String, GroupView> = BTreeMap::new();
    for binding in bindings {
        entry(&mut groups, &binding.group.clone()).bindings.push(binding);
    }
    for row in positions.iter().filter(|row| row.listener.is_none()) {
        // No node follows the log of a partition without an owner: an end that was
        // read before the first messages came would show a lag of 0.
        let end = ends.get(&(row.topic.clone(), row.partition)).copied().filter(|_| row.epoch > 0);
        entry(&mut groups, &row.group).partitions.push(partition(row, end));
    }
    for sums in totals {
        let group = entry(&mut groups, &sums.group);
        group.open =
            OpenView { waiting: sums.waiting, push_fail: sums.push_fail, retrying: sums.retrying, held: sums.held };
        (group.handled, group.failed) = (sums.handled, sums.failed);
    }
    for group in groups.values_mut() {
        group.partitions.sort_by(|one, other| (&one.topic, one.partition).cmp(&(&other.topic, other.partition)));
        let by_api = paused.get(&group.group);
        (group.paused, group.why) = pause_of(group, by_api);
        group.state = state_of(group, by_api.is_some());
    }
    groups.into_values().collect()
}

/// A group is paused when the API says so, or when all of its bindings are.
fn pause_of(group: &GroupView, by_api: Option<&String>) -> (bool, Option<String>) {
    if let Some(why) = by_api {
        return (true, Some(why.clone()));
    }
    let all = !group.bindings.is_empty() && group.bindings.iter().all(|binding| binding.paused);
    (all, group.bindings.iter().filter(|_| all).find_map(|binding| binding.why.clone()))
}

/// The state of a bound group, as far as this host knows.
fn state_of(group: &GroupView, paused_by_api: bool) -> &'static str {
    let is_blocked = |binding: &BindingView, word: &str| binding.blocked.as_deref() == Some(word);
    if paused_by_api {
        "paused"
    } else if !group.paused {
        "running"
    } else if group.bindings.iter().all(|binding| is_blocked(binding, "paused")) {
        "paused"
    } else {
        "cannot_run"
    }
}

/// Sets the causes of a group, its bindings and its partitions. A group that should run
/// and does not, whatever the cause, is not shown as running.
fn stand(group: &mut GroupView, shown: &[Standing]) {
    let of_group = shown.iter().filter(|standing| standing.subject.group() == Some(&group.group));
    for binding in &mut group.bindings {
        let plugin = binding.plugin_name().to_owned();
        let subject = Subject::Binding { group: binding.group.clone(), plugin };
        let of_binding = of_group.clone().filter(|standing| standing.subject == subject);
        binding.cause = of_binding.min_by_key(|standing| standing.rank()).map(CauseView::from);
    }
    for partition in &mut group.partitions {
        let subject = Subject::Partition {
            group: group.group.clone(),
            topic: partition.topic.clone(),
            partition: partition.partition,
        };
        let of_partition = of_group.clone().filter(|standing| standing.subject == subject);
        let Some(first) = of_partition.min_by_key(|standing| standing.rank()) else { continue };
        (partition.why, partition.cause) = (Some(first.why.clone()), Some(CauseView::from(first)));
    }
    let concerns_all = |standing: &&Standing| match &standing.subject {
        Subject::Binding { .. } => group.paused,
        _ => true,
    };
    let Some(first) = of_group.filter(concerns_all).min_by_key(|standing| standing.rank()) else { return };
    group.cause = Some(CauseView::from(first));
    let stops_all = first.weight == Weight::Stopped && matches!(first.subject, Subject::Group(_));
    if group.state == "running" && stops_all {
        group.state = "cannot_run";
        group.why = Some(first.why.clone());
    }
}

/// Shows a group as not bound.
fn not_bound(group: &mut GroupView) {
    group.state = "not_bound";
    group.why = Some(format!("nobody runs it: {}", runs::NO_BINDING));
}

fn entry<'a>(groups: &'a mut BTreeMap<String, GroupView>, name: &str) -> &'a mut GroupView {
    groups.entry(name.to_owned()).or_insert_with(|| GroupView {
        group: name.to_owned(),
        state: "running",
        paused: false,
        why: None,
        cause: None,
        bindings: Vec::new(),
        partitions: Vec::new(),
        broadcast: Vec::new(),
        open: OpenView::default(),
        handled: 0,
        failed: 0,
        p50_ms: None,
        p99_ms: None,
    })
}

fn partition(row: &PositionRow, end: Option<Offset>) -> PartitionView {
    PartitionView {
        topic: row.topic.clone(),
        partition: row.partition,
        position: row.next.0,
        end: end.map(|end| end.0.max(row.next.0)),
        // An end that was read before the position moved would be behind it.
        lag: end.map(|end| end.0.saturating_sub(row.next.0).max(0)),
        node: row.node.clone(),
        why: None,
        cause: None,
    }
}

fn listener_view(
    listener: &ListenerRow,
    leases: &[AddressLeaseRow],
    positions: &[PositionRow],
    ends: &HashMap<(String, i32), Offset>,
) -> ListenerView {
    let companion = Kind::Broadcast.log_topic(&listener.topic).into_owned();
    let own = positions.iter().filter(|row| {
        row.group == listener.group && row.topic == listener.topic && row.listener.as_ref() == Some(&listener.node)
    });
    let address = is_address(&listener.node).then(|| listener.node.clone());
    let lease = leases.iter().find(|lease| lease.group == listener.group && lease.address == listener.node);
    let last = own.clone().find_map(|row| row.node.clone());
    let node = match (&address, lease) {
        (None, _) => listener.node.clone(),
        (Some(_), Some(lease)) => lease.node.clone(),
        // Without a lease, the last owner of its position pushed to it last.
        (Some(address), None) => last.unwrap_or_else(|| address.clone()),
    };
    let behind = |row: &PositionRow| {
        let end = ends.get(&(companion.clone(), row.partition))?;
        Some(end.0.saturating_sub(row.next.0).max(0))
    };
    ListenerView {
        node,
        live: if address.is_some() { lease.is_some_and(|lease| lease.live) } else { listener.live },
        address,
        registered_at: rfc3339::format(listener.registered_at),
        seen_at: rfc3339::format(listener.seen_at),
        forgotten: listener.gone.is_some(),
        why: listener.gone.as_ref().map(|(_, why)| why.clone()),
        topic: listener.topic.clone(),
        lag: own.map(behind).sum::<Option<i64>>().filter(|_| listener.gone.is_none()),
    }
}

/// The part of a group that is in the caller's scope; `None` when nothing is. The
/// sums are those of the whole group.
fn scoped(mut group: GroupView, caller: &Caller) -> Option<GroupView> {
    if !caller.sees_group(&group.group) {
        return None;
    }
    if caller.topics().is_some() {
        for binding in &mut group.bindings {
            binding.topics.retain(|topic| caller.sees_topic(topic));
            binding.policy.grant.publish.retain(|topic| caller.sees_topic(topic));
        }
        group.bindings.retain(|binding| !binding.topics.is_empty());
        group.partitions.retain(|partition| caller.sees_topic(&partition.topic));
        group.broadcast.retain(|listener| caller.sees_topic(&listener.topic));
        if group.bindings.is_empty() && group.partitions.is_empty() {
            return None;
        }
    }
    Some(group)
}

#[cfg(test)]
mod tests;
