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

use crate::app::groups::{ParkedFull, RunningGroups};
use crate::app::kafka_status::KafkaStatus;
use crate::causes::{Cause, Causes, HELD, NO_BINDING, PARKED_FULL, PAUSED, Subject};
use crate::consume::attempt::binding::RunningBinding;
use crate::consume::attempt::circuit_breaker::Permission;
use crate::server::background::unowned;
use crate::store::redrive::{RedriveFilter, RedriveState};
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

/// Where logs end, by topic and partition.
type LogEndsByPartition = HashMap<(String, i32), Offset>;

/// Looks until it is dropped with its task.
pub async fn watch(store: SharedStore, fleet: Arc<RunningGroups>, heard: Arc<KafkaStatus>, causes: Causes) {
    let (mut bindings, mut full, mut unread) = (ReportedBindings::default(), HashSet::new(), HashSet::new());
    let mut looks = 0;
    loop {
        bindings.look(&fleet.bound(), &causes);
        full = report_full(fleet.parked_full(), full, &causes);
        if looks % LOOKS_BETWEEN_QUESTIONS == 0
            && let Err(error) = ask(&store, &fleet, &heard.ends(), &mut unread, &causes).await
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
    ends: &LogEndsByPartition,
    reported: &mut HashSet<Subject>,
    causes: &Causes,
) -> Result<(), StoreError> {
    let mut bindings: BTreeSet<NodeBinding> = store.live_bindings().await?.into_iter().collect();
    bindings.extend(fleet.node_bindings());
    let bound: BTreeSet<&str> = bindings.iter().map(|binding| binding.group.as_str()).collect();
    let positions = store.positions().await?;
    let totals = of_all_groups(store.totals().await?, &positions);
    let with_open: HashSet<&str> =
        totals.iter().filter(|totals| open(totals) > 0).map(|totals| totals.group.as_str()).collect();
    for totals in &totals {
        report_group(totals, bound.contains(totals.group.as_str()), lag(&totals.group, &positions, ends), causes);
    }
    report_paused(store.paused().await?, fleet, causes);
    report_unread(store, unread(&positions, &bindings), &with_open, ends, reported, causes).await?;
    let live = store.nodes().await?.into_iter().filter(|node| node.live).map(|node| node.name).collect();
    unowned::report(fleet, &positions, &bindings, &live, causes).await;
    let redrives = store.redrives(&RedriveFilter::default(), &Page { cursor: None, limit: MAX_REDRIVES }).await?;
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

/// The totals of all groups: one that has a position and settled nothing yet
/// has none in the store.
fn of_all_groups(mut totals: Vec<GroupTotals>, positions: &[PositionRow]) -> Vec<GroupTotals> {
    let known: HashSet<String> = totals.iter().map(|totals| totals.group.clone()).collect();
    let others: BTreeSet<&String> =
        positions.iter().map(|row| &row.group).filter(|group| !known.contains(*group)).collect();
    totals.extend(others.into_iter().map(|group| GroupTotals { group: group.clone(), ..GroupTotals::default() }));
    totals
}

/// Reports what waits in a group that no live node binds, and what waits for a
/// person in any.
fn report_group(totals: &GroupTotals, is_bound: bool, lag: i64, causes: &Causes) {
    let subject = Subject::Group(totals.group.clone());
    match without_binding(totals, is_bound, lag) {
        None => causes.clear_code(&subject, NO_BINDING),
        Some(cause) => causes.report(subject.clone(), cause),
    }
    match totals.held {
        0 => causes.clear_code(&subject, HELD),
        count => causes.report(subject, held(count)),
    }
}

/// The cause of what waits in a group that no live node binds.
fn without_binding(totals: &GroupTotals, is_bound: bool, lag: i64) -> Option<Cause> {
    match (is_bound, open(totals), lag) {
        (true, ..) | (_, 0, 0) => None,
        (_, 0, lag) => Some(nobody_handles(&totals.group, lag)),
        (_, open, _) => Some(nobody_runs_group(&totals.group, open)),
    }
}

/// Records that a position is behind the end of its log, as far as that is
/// known.
fn behind(row: &PositionRow, ends: &LogEndsByPartition) -> i64 {
    // Until somebody owns it nobody follows the log.
    let end = ends.get(&(row.topic.clone(), row.partition)).filter(|_| row.listener.is_none() && row.epoch > 0);
    end.map_or(0, |end| end.0.saturating_sub(row.next.0).max(0))
}

/// Records that a group is behind.
fn lag(group: &str, positions: &[PositionRow], ends: &LogEndsByPartition) -> i64 {
    positions.iter().filter(|row| row.group == group).map(|row| behind(row, ends)).sum()
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

/// The cause of a lag that nobody works off. Whether anybody should is for a
/// person to say: the group may have been left behind on purpose.
fn nobody_handles(group: &str, lag: i64) -> Cause {
    let wait = if lag == 1 { "1 record waits".to_owned() } else { format!("{lag} records wait") };
    Cause::new(
        NO_BINDING,
        format!("{wait} for group {group}: no [[binding]] of a live node names the group, so nobody handles them"),
    )
    .left_to_person()
    .with("lag", lag)
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

/// Reports the partitions of topics that were taken from a binding, in which
/// deliveries are open or records wait, and clears those that were reported
/// before. The group itself runs, so that nothing else tells of them.
async fn report_unread(
    store: &SharedStore,
    unread: impl Iterator<Item = &PositionRow>,
    with_open: &HashSet<&str>,
    ends: &LogEndsByPartition,
    before: &mut HashSet<Subject>,
    causes: &Causes,
) -> Result<(), StoreError> {
    let mut now = HashSet::new();
    let waits = |row: &&PositionRow| with_open.contains(row.group.as_str()) || behind(row, ends) > 0;
    for row in unread.filter(waits).take(MAX_UNREAD) {
        let is_open =
            with_open.contains(row.group.as_str()) && !store.open_page(row.id, Offset(-1), 1).await?.is_empty();
        let cause = match (is_open, behind(row, ends)) {
            (true, _) => nobody_reads(row),
            (false, 0) => continue,
            (false, lag) => nobody_reads_on(row, lag),
        };
        let (group, topic, partition) = (row.group.clone(), row.topic.clone(), row.partition);
        let subject = Subject::Partition { group, topic, partition };
        causes.report(subject.clone(), cause);
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

/// The cause of a lag in a topic that was taken from a binding.
fn nobody_reads_on(row: &PositionRow, lag: i64) -> Cause {
    let PositionRow { group, topic, partition, .. } = row;
    let wait = if lag == 1 { "1 record waits".to_owned() } else { format!("{lag} records wait") };
    Cause::new(
        NO_BINDING,
        format!(
            "{wait} in partition {partition} of topic {topic}: no [[binding]] of group {group} on a live node reads that \
             topic any more, so nobody handles them"
        ),
    )
    .left_to_person()
    .with("topic", topic)
    .with("lag", lag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::background::testing::row;
    use crate::store::PositionId;

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

    /// Issue 16: the lag of a group that nobody binds, or of a topic nobody
    /// reads, had no cause.
    #[test]
    fn a_lag_that_nobody_works_off_is_told_and_degrades_nothing() {
        let never_owned = PositionRow { epoch: 0, ..row(1, "mail", "order", None) };
        let hears = PositionRow { listener: Some("host-1".into()), ..row(2, "mail", "order", None) };
        let positions = [row(0, "mail", "order", None), never_owned, hears, row(0, "stock", "order", None)];
        let ends = (0..3).map(|partition| (("order".to_owned(), partition), Offset(21))).collect();
        assert_eq!((lag("mail", &positions, &ends), lag("none", &positions, &ends)), (21, 0));
        assert_eq!(behind(&positions[0], &LogEndsByPartition::new()), 0, "nothing is known of the log");
        let known = vec![GroupTotals { group: "stock".into(), handled: 3, ..GroupTotals::default() }];
        let all = of_all_groups(known, &positions);
        assert_eq!(all.iter().map(|one| one.group.as_str()).collect::<Vec<_>>(), ["stock", "mail"]);
        let mail = GroupTotals { group: "mail".into(), ..GroupTotals::default() };
        assert!(without_binding(&mail, true, 21).is_none() && without_binding(&mail, false, 0).is_none());
        let told = |totals: &GroupTotals| {
            let (causes, subject) = (Causes::default(), Subject::Group("mail".into()));
            let cause = without_binding(totals, false, 21).unwrap();
            causes.report(subject.clone(), cause.clone());
            assert_eq!(causes.of(&subject), None, "a node that starts has announced nothing yet");
            causes.report(subject.clone(), cause.at_once());
            causes.of(&subject).unwrap()
        };
        let standing = told(&mail);
        assert!(standing.why.starts_with("21 records wait for group mail"), "{}", standing.why);
        assert!(!standing.degrades() && standing.fields["lag"] == "21");
        assert!(told(&GroupTotals { waiting: 2, ..mail }).degrades(), "what was received was promised");
        let causes = Causes::default();
        let cause = nobody_reads_on(&positions[3], 1).at_once();
        let subject = Subject::Partition { group: "stock".into(), topic: "order".into(), partition: 0 };
        causes.report(subject.clone(), cause);
        let why = causes.of(&subject).unwrap().why;
        assert!(why.starts_with("1 record waits in partition 0 of topic order"), "{why}");
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
