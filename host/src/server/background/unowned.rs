//! Reports partitions of bound topics that nobody reads.
//!
//! The store names the node that claimed a partition last, which proves nothing:
//! the node may live on without the partition, after Kafka gave it to a stranger
//! or to nobody. So a node vouches for its own partitions, and for those of others
//! only by whether they live.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::app::groups::RunningGroups;
use crate::causes::{Cause, Causes, Subject};
use crate::kafka::log_reader::GroupInfo;
use crate::store::{NodeBinding, PositionRow};

/// The code of the cause that no live node owns a partition.
const NO_OWNER: &str = "no_owner";
/// Members of a group that a sentence names.
const MAX_NAMED: usize = 3;

/// Reports the bound groups that have partitions without an owner, and clears the
/// others.
pub(super) async fn report(
    fleet: &RunningGroups,
    positions: &[PositionRow],
    bindings: &BTreeSet<NodeBinding>,
    live: &HashSet<String>,
    causes: &Causes,
) {
    let owners = Owners { own_node: fleet.own_node(), owned_here: fleet.owned_partitions(), live };
    let unowned = owners.unowned(positions, bindings);
    let bound: BTreeSet<&str> = bindings.iter().map(|binding| binding.group.as_str()).collect();
    let mut kafka_answers = true;
    for group in bound {
        let subject = Subject::Group(group.to_owned());
        let Some(count) = unowned.get(group) else {
            causes.clear_code(&subject, NO_OWNER);
            continue;
        };
        // One wait for a Kafka that is away is enough: with one for each group the
        // other causes would be forgotten meanwhile.
        let members = if kafka_answers { fleet.members(group).await.ok() } else { None };
        kafka_answers = members.is_some();
        causes.report(subject, no_owner(group, *count, members.as_ref(), live));
    }
}

/// Which partitions have an owner, as this node knows it.
struct Owners<'n> {
    own_node: &'n str,
    /// Group, topic and partition of each owner that runs here.
    owned_here: HashSet<(String, String, i32)>,
    live: &'n HashSet<String>,
}

impl Owners<'_> {
    /// Partitions of bound topics that no live node owns, by group.
    fn unowned<'p>(&self, positions: &'p [PositionRow], bindings: &BTreeSet<NodeBinding>) -> BTreeMap<&'p str, usize> {
        let mut unowned = BTreeMap::new();
        // Where no lease is renewed, the store is in the way and says so itself:
        // nothing follows about what Kafka has given to whom.
        if self.live.is_empty() {
            return unowned;
        }
        for row in positions.iter().filter(|row| row.listener.is_none()) {
            let is_bound = bindings.iter().any(|binding| binding.group == row.group && binding.topic == row.topic);
            if is_bound && !self.is_owned(row) {
                *unowned.entry(row.group.as_str()).or_default() += 1;
            }
        }
        unowned
    }

    fn is_owned(&self, row: &PositionRow) -> bool {
        match row.node.as_deref() {
            None => false,
            Some(node) if node == self.own_node => {
                self.owned_here.contains(&(row.group.clone(), row.topic.clone(), row.partition))
            }
            Some(node) => self.live.contains(node),
        }
    }
}

/// The cause of `count` partitions without an owner. Whom Kafka may have given
/// them to is told by the members of the group, if Kafka names them.
fn no_owner(group: &str, count: usize, members: Option<&GroupInfo>, live: &HashSet<String>) -> Cause {
    let partitions = if count == 1 { "1 partition is".to_owned() } else { format!("{count} partitions are") };
    let strangers = members.map(|members| members.other_than(live)).unwrap_or_default();
    let why = match (members, strangers.as_slice()) {
        (None, _) => format!("Kafka does not tell who is in consumer group {group}"),
        (Some(members), []) if members.members.is_empty() => {
            format!("consumer group {group} has no members; its hosts have not joined it yet or cannot reach Kafka")
        }
        (Some(_), []) => format!("Kafka has given them to no host, although only hosts are in consumer group {group}"),
        (Some(_), strangers) => {
            let named: Vec<&str> = strangers.iter().take(MAX_NAMED).copied().collect();
            let more = if strangers.len() > MAX_NAMED { " and others" } else { "" };
            format!(
                "{}{more} in consumer group {group} is no host of this installation and may have them: stop that \
                 consumer, or name the binding's group otherwise",
                named.join(", ")
            )
        }
    };
    Cause::new(NO_OWNER, format!("{partitions} owned by no live node: {why}")).with("partitions", count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::background::testing::row;

    const MEMBER: &str = "host-1-0198c9d2-6f3a-7c11-8a51-0c9a3b1f4e22";

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
        let live = HashSet::from(["host-1".to_owned(), "host-2".to_owned()]);
        let unowned = |own_node: &str, owned: &[i32], live: &HashSet<String>| {
            let owned_here = owned.iter().map(|partition| ("stock".into(), "order".into(), *partition)).collect();
            Owners { own_node, owned_here, live }.unowned(&positions, &bindings).get("stock").copied()
        };
        assert_eq!(unowned("host-2", &[], &live), Some(2), "host-1 lives, and answers for its own");
        assert_eq!(unowned("host-1", &[0], &live), Some(2));
        assert_eq!(unowned("host-1", &[], &live), Some(3), "its last owner lives and does not read it");
        assert_eq!(unowned("host-1", &[], &HashSet::new()), None, "no lease is renewed: the store says so itself");
    }

    #[test]
    fn who_may_have_the_partitions_is_told_by_the_members() {
        let live = HashSet::from(["host-1".to_owned()]);
        let why = |members: Option<&[&str]>| {
            let members = members.map(|members| GroupInfo {
                members: members.iter().map(|&member| member.to_owned()).collect(),
                ..GroupInfo::default()
            });
            let (causes, subject) = (Causes::default(), Subject::Group("stock".into()));
            causes.report(subject.clone(), no_owner("stock", 2, members.as_ref(), &live).at_once());
            causes.of(&subject).unwrap().why
        };
        assert!(why(None).ends_with("Kafka does not tell who is in consumer group stock"));
        assert!(why(Some(&[])).contains("has no members"));
        assert!(why(Some(&[MEMBER])).contains("although only hosts are in consumer group stock"));
        let strange = why(Some(&[MEMBER, "rdkafka-7"]));
        assert!(strange.contains("owned by no live node: rdkafka-7 in consumer group stock is no host"), "{strange}");
    }
}
