//! Reports groups, bindings and redrives that stand still for a lasting cause,
//! or because a person stopped them.
//!
//! Every node looks: its own bindings it knows itself, and the store knows
//! which groups no node runs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use courier_core::message::Offset;
use courier_core::verdict::Verdict;

use super::groups::RunningGroups;
use crate::api::ports::ParkedFull;
use crate::causes::{Cause, Causes, HELD, NO_BINDING, PARKED_FULL, PAUSED, Subject};
use crate::consume::attempt::binding::RunningBinding;
use crate::consume::attempt::circuit_breaker::Permission;
use crate::store::redrive::RedriveState;
use crate::store::{GroupTotals, NodeBinding, Page, PositionRow, SharedStore, StoreError};

/// How often bindings are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Looks at bindings between two questions to the store.
const LOOKS_BETWEEN_QUESTIONS: u32 = 5;
/// Redrives that are looked at.
const MAX_REDRIVES: u32 = 100;

/// Partitions of topics that a group no longer reads, whose open rows are looked
/// for: each costs a question.
const MAX_UNREAD: usize = 1_000;

/// The code of the cause that no live node owns a partition.
const NO_OWNER: &str = "no_owner";

/// Looks until it is dropped with its task.
pub async fn watch(store: SharedStore, fleet: Arc<RunningGroups>, causes: Causes) {
    let (mut bindings, mut full, mut unread) = (ReportedBindings::default(), HashSet::new(), HashSet::new());
    let mut looks = 0;
    loop {
        bindings.look(&fleet.bound(), &causes);
        full = report_full(fleet.parked_full(), full, &causes);
        if looks % LOOKS_BETWEEN_QUESTIONS == 0
            && let Err(error) = ask(&store, &fleet, &mut unread, &causes).await
        {
            tracing::debug!(%error, "cannot look which groups stand still");
        }
        looks += 1;
        tokio::time::sleep(LOOK).await;
    }
}

/// Reports the partitions that are full, and clears those that no longer are.
fn report_full(now: Vec<ParkedFull>, before: HashSet<Subject>, causes: &Causes) -> HashSet<Subject> {
    let mut full = HashSet::new();
    for ParkedFull { group, topic, partition } in now {
        let why = format!(
            "partition {partition} of {topic} stands still for group {group}: as many deliveries are parked as may be"
        );
        let subject = Subject::Partition { group, topic, partition };
        causes.report(subject.clone(), Cause::new(PARKED_FULL, why));
        full.insert(subject);
    }
    before.difference(&full).for_each(|subject| causes.clear_code(subject, PARKED_FULL));
    full
}

/// The reported bindings, whose causes are cleared when they run again.
#[derive(Default)]
struct ReportedBindings(HashMap<(String, String), &'static str>);

impl ReportedBindings {
    fn look(&mut self, bound: &[Arc<RunningBinding>], causes: &Causes) {
        let mut seen = HashSet::new();
        let at_addresses: Vec<_> = bound.iter().flat_map(|bound| bound.at_addresses()).collect();
        for bound in bound.iter().chain(&at_addresses) {
            let name = (bound.binding.group.clone(), bound.shown_plugin());
            let subject = Subject::Binding { group: name.0.clone(), plugin: name.1.clone() };
            match standstill(bound) {
                Sight::Stands(cause) => {
                    let code = cause.code();
                    if let Some(earlier) = self.0.insert(name.clone(), code).filter(|earlier| *earlier != code) {
                        causes.clear_code(&subject, earlier);
                    }
                    let topics = bound.binding.topics.join(", ");
                    causes.report(subject, cause.with("topics", topics));
                    seen.insert(name);
                }
                Sight::Probes if self.0.contains_key(&name) => {
                    seen.insert(name);
                }
                Sight::Probes | Sight::Runs => {}
            }
        }
        self.0.retain(|name, code| {
            let stands = seen.contains(name);
            if !stands {
                let (group, plugin) = name.clone();
                causes.clear_code(&Subject::Binding { group, plugin }, code);
            }
            stands
        });
    }
}

/// The state of a binding.
enum Sight {
    /// It runs, or reports its cause itself.
    Runs,
    /// One delivery probes whether it can run again.
    Probes,
    /// It does not run, for this cause.
    Stands(Cause),
}

fn standstill(bound: &RunningBinding) -> Sight {
    match bound.gate.now() {
        Permission::Closed { verdict, reason } => Sight::Stands(Cause::new(verdict.as_str(), reason)),
        Permission::Probing => Sight::Probes,
        Permission::Paused(why) => Sight::Stands(Cause::new(PAUSED, why).awaits_person()),
        // The watch of undelivered rows reports it.
        Permission::Full(_) => Sight::Runs,
        Permission::Open => match bound.gate.without_room() {
            Some(reason) => Sight::Stands(Cause::new(Verdict::NoRoom.as_str(), reason)),
            None => Sight::Runs,
        },
    }
}

async fn ask(
    store: &SharedStore,
    fleet: &RunningGroups,
    reported: &mut HashSet<Subject>,
    causes: &Causes,
) -> Result<(), StoreError> {
    let mut bindings: BTreeSet<NodeBinding> = store.live_bindings().await?.into_iter().collect();
    bindings.extend(fleet.node_bindings());
    let bound: BTreeSet<&str> = bindings.iter().map(|binding| binding.group.as_str()).collect();
    let mut with_open = HashSet::new();
    for totals in store.totals().await? {
        let open = open(&totals);
        if open > 0 {
            with_open.insert(totals.group.clone());
        }
        let subject = Subject::Group(totals.group.clone());
        if open > 0 && !bound.contains(totals.group.as_str()) {
            causes.report(subject, nobody_runs_group(&totals.group, open));
        } else {
            causes.clear_code(&subject, NO_BINDING);
        }
        let subject = Subject::Group(totals.group.clone());
        match totals.held {
            0 => causes.clear_code(&subject, HELD),
            count => causes.report(subject, held(count)),
        }
    }
    report_paused(store.paused().await?, fleet, causes);
    let live: HashSet<String> =
        store.nodes().await?.into_iter().filter(|node| node.live).map(|node| node.name).collect();
    let positions = store.positions().await?;
    let without_reader = unread(&positions, &bindings).filter(|row| with_open.contains(&row.group));
    report_unread(store, without_reader, reported, causes).await?;
    // Where no lease is renewed, the store is in the way and says so itself:
    // nothing follows about what Kafka has given to whom.
    let unowned = if live.is_empty() { BTreeMap::new() } else { unowned(&positions, &bindings, &live) };
    for group in &bound {
        let subject = Subject::Group((*group).to_owned());
        match unowned.get(*group) {
            Some(count) => causes.report(subject, no_owner(group, *count)),
            None => causes.clear_code(&subject, NO_OWNER),
        }
    }
    let redrives = store.redrives(None, &Page { cursor: None, limit: MAX_REDRIVES }).await?;
    for redrive in redrives.items.iter().filter(|redrive| redrive.state == RedriveState::Running) {
        if !bound.contains(redrive.group.as_str()) {
            causes.report(Subject::Redrive(redrive.id.to_string()), nobody_runs_redrive(&redrive.group));
        }
    }
    Ok(())
}

/// Reports the groups that the API paused and that this node does not bind: its
/// own bindings say so themselves.
fn report_paused(paused: Vec<(String, String)>, fleet: &RunningGroups, causes: &Causes) {
    let own: BTreeSet<String> = fleet.node_bindings().into_iter().map(|binding| binding.group).collect();
    let paused: BTreeMap<String, String> = paused.into_iter().filter(|(group, _)| !own.contains(group)).collect();
    for standing in causes.shown().iter().filter(|standing| standing.code == PAUSED) {
        if let Subject::Group(group) = &standing.subject
            && !paused.contains_key(group)
        {
            causes.clear_code(&standing.subject, PAUSED);
        }
    }
    for (group, why) in paused {
        causes.report(Subject::Group(group), Cause::new(PAUSED, why).awaits_person());
    }
}

fn held(count: u64) -> Cause {
    let are = if count == 1 { "delivery waits" } else { "deliveries wait" };
    let why = format!("{count} {are} for a person, and their lanes with them: retry them or give them up");
    Cause::new(HELD, why).awaits_person().with("held", count)
}

fn open(totals: &GroupTotals) -> u64 {
    totals.waiting + totals.push_fail + totals.retrying + totals.held
}

fn nobody_runs_group(group: &str, open: u64) -> Cause {
    let (count, wait) =
        if open == 1 { ("1 open delivery".to_owned(), "waits") } else { (format!("{open} open deliveries"), "wait") };
    Cause::new(
        NO_BINDING,
        format!("{count} of group {group} {wait}: no [[binding]] of a live node names the group, so nobody runs it"),
    )
    .with("open", open)
}

/// The cause of a redrive whose group no node runs.
#[must_use]
fn nobody_runs_redrive(group: &str) -> Cause {
    Cause::new(
        NO_BINDING,
        format!(
            "it waits for a binding: no [[binding]] of a live node names group {group}; it goes on at its rate once one \
             does"
        ),
    )
    .with("group", group)
}

/// Reports the partitions with open deliveries of topics that were taken from a
/// binding, and clears those that were reported before. The group itself runs,
/// so that nothing else tells of them.
async fn report_unread(
    store: &SharedStore,
    unread: impl Iterator<Item = &PositionRow>,
    before: &mut HashSet<Subject>,
    causes: &Causes,
) -> Result<(), StoreError> {
    let mut now = HashSet::new();
    for row in unread.take(MAX_UNREAD) {
        if store.open_page(row.id, Offset(-1), 1).await?.is_empty() {
            continue;
        }
        let (group, topic, partition) = (row.group.clone(), row.topic.clone(), row.partition);
        let subject = Subject::Partition { group, topic, partition };
        causes.report(subject.clone(), nobody_reads(row));
        now.insert(subject);
    }
    before.difference(&now).for_each(|subject| causes.clear_code(subject, NO_BINDING));
    *before = now;
    Ok(())
}

/// Partitions of topics that a bound group does not read.
fn unread<'p>(
    positions: &'p [PositionRow],
    bindings: &'p BTreeSet<NodeBinding>,
) -> impl Iterator<Item = &'p PositionRow> {
    positions.iter().filter(|row| row.listener.is_none()).filter(|row| {
        let mut of_group = bindings.iter().filter(|binding| binding.group == row.group).peekable();
        of_group.peek().is_some() && of_group.all(|binding| binding.topic != row.topic)
    })
}

fn nobody_reads(row: &PositionRow) -> Cause {
    let PositionRow { group, topic, partition, .. } = row;
    Cause::new(
        NO_BINDING,
        format!(
            "open deliveries of partition {partition} of topic {topic} wait: no [[binding]] of group {group} on a live \
             node reads that topic any more; bind it again, and retry them or give them up"
        ),
    )
    .with("topic", topic)
}

fn no_owner(group: &str, count: usize) -> Cause {
    let partitions = if count == 1 { "1 partition is".to_owned() } else { format!("{count} partitions are") };
    Cause::new(
        NO_OWNER,
        format!(
            "{partitions} owned by no live node: Kafka has given them to none; a consumer that is no Courier host may be \
             a member of consumer group {group}"
        ),
    )
    .with("partitions", count)
}

/// Partitions of bound topics that no live node owns, by group.
fn unowned<'p>(
    positions: &'p [PositionRow],
    bindings: &BTreeSet<NodeBinding>,
    live: &HashSet<String>,
) -> BTreeMap<&'p str, usize> {
    let mut unowned = BTreeMap::new();
    for row in positions.iter().filter(|row| row.listener.is_none()) {
        let is_bound = bindings.iter().any(|binding| binding.group == row.group && binding.topic == row.topic);
        let is_owned = row.node.as_ref().is_some_and(|node| live.contains(node));
        if is_bound && !is_owned {
            *unowned.entry(row.group.as_str()).or_default() += 1;
        }
    }
    unowned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PositionId;

    fn row(partition: i32, group: &str, topic: &str, node: Option<&str>) -> PositionRow {
        PositionRow {
            id: PositionId(i64::from(partition)),
            group: group.into(),
            topic: topic.into(),
            listener: None,
            incarnation: 0,
            partition,
            next: Offset(0),
            epoch: 1,
            node: node.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn a_topic_taken_from_a_binding_is_told_while_its_group_runs() {
        let heard = PositionRow { listener: Some("host-1".into()), ..row(3, "stock", "refund", Some("host-1")) };
        let positions = [
            row(0, "stock", "order", Some("host-1")),
            row(1, "stock", "refund", Some("host-1")),
            row(2, "mail", "refund", None),
            heard,
        ];
        let bindings = BTreeSet::from([NodeBinding { group: "stock".into(), topic: "order".into(), types: None }]);
        let unread: Vec<&PositionRow> = unread(&positions, &bindings).collect();
        assert_eq!(
            unread.iter().map(|row| row.id).collect::<Vec<_>>(),
            [PositionId(1)],
            "of mail, which nobody binds at all, the group tells"
        );
        let cause = Causes::default();
        let subject = Subject::Partition { group: "stock".into(), topic: "refund".into(), partition: 1 };
        cause.report(subject.clone(), nobody_reads(unread[0]).at_once());
        let standing = cause.of(&subject).unwrap();
        assert!(standing.why.contains("partition 1 of topic refund wait"), "{}", standing.why);
        assert_eq!((standing.code, standing.fields["topic"].as_str()), (NO_BINDING, "refund"));
    }

    #[test]
    fn a_partition_of_a_bound_topic_needs_a_live_owner() {
        let heard = PositionRow { listener: Some("gone".into()), ..row(5, "stock", "order", Some("gone")) };
        let positions = [
            row(0, "stock", "order", Some("host-1")),
            row(1, "stock", "order", Some("gone")),
            row(2, "stock", "order", None),
            row(3, "stock", "refund", None),
            row(4, "mail", "order", None),
            heard,
        ];
        let bindings = BTreeSet::from([NodeBinding { group: "stock".into(), topic: "order".into(), types: None }]);
        let live = HashSet::from(["host-1".to_owned()]);
        assert_eq!(unowned(&positions, &bindings, &live), BTreeMap::from([("stock", 2)]));
    }

    #[test]
    fn the_sentences_count_and_name_what_is_missing() {
        let causes = Causes::default();
        let subject = Subject::Group("mail".into());
        causes.report(subject.clone(), nobody_runs_group("mail", 1).at_once());
        let standing = causes.of(&subject).unwrap();
        assert!(standing.why.starts_with("1 open delivery of group mail waits: no [[binding]]"), "{}", standing.why);
        assert_eq!((standing.code, standing.fields["open"].as_str()), (NO_BINDING, "1"));
    }
}
