//! The partitions that Kafka assigned to this group on this node, and which of
//! them have no owner.
//!
//! An owner can end without a revocation: it was fenced, and Kafka did not
//! confirm the partition during a rebalance that left it with this host after
//! all. Such an orphan is found by repeated looks. One look is not enough,
//! since there is always a moment between an owner and the next claim.

use std::collections::HashMap;
use std::time::Instant;

use crate::kafka::buffered::TopicPartition;

/// Looks in a row without an owner after which a partition is an orphan.
const ORPHAN_LOOKS: u32 = 5;

/// The assigned partitions.
#[derive(Debug, Default)]
pub struct AssignedPartitions {
    /// Looks in a row that found no owner.
    looks: HashMap<TopicPartition, u32>,
}

/// What is left to look at of a new consumer's assignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AssignmentLook {
    /// Nothing is assigned yet.
    #[default]
    Unassigned,
    At(Instant),
    Done,
}

impl AssignedPartitions {
    /// Adds an assigned partition.
    pub fn assigned(&mut self, place: &TopicPartition) {
        self.looks.insert(place.clone(), 0);
    }

    /// Removes a revoked partition.
    pub fn revoked(&mut self, place: &TopicPartition) {
        self.looks.remove(place);
    }

    /// Removes all, because the consumer is gone.
    pub fn clear(&mut self) {
        self.looks.clear();
    }

    /// What was given and not taken back.
    pub fn places(&self) -> impl Iterator<Item = &TopicPartition> {
        self.looks.keys()
    }

    /// Counts one look, and returns the orphans. An orphan is returned again
    /// only after as many looks more.
    pub fn orphans(&mut self, cared_for: impl Fn(&TopicPartition) -> bool) -> Vec<TopicPartition> {
        let mut orphans = Vec::new();
        for (place, looks) in &mut self.looks {
            *looks = if cared_for(place) { 0 } else { *looks + 1 };
            if *looks >= ORPHAN_LOOKS {
                *looks = 0;
                orphans.push(place.clone());
            }
        }
        orphans
    }
}

#[cfg(test)]
mod tests {
    use courier_core::message::Kind;

    use super::*;

    fn place(partition: i32) -> TopicPartition {
        TopicPartition { topic: "order".into(), partition, kind: Kind::Event }
    }

    /// Looks so often and answers at which of them an orphan was told.
    fn told(given: &mut AssignedPartitions, looks: u32, cared_for: impl Fn(&TopicPartition) -> bool) -> Vec<u32> {
        (1..=looks).filter(|_| !given.orphans(&cared_for).is_empty()).collect()
    }

    #[test]
    fn a_partition_without_anybody_is_told_after_some_looks_and_then_again() {
        let mut given = AssignedPartitions::default();
        given.assigned(&place(0));
        given.assigned(&place(1));
        assert!(told(&mut given, ORPHAN_LOOKS * 2, |_| true).is_empty());
        let only_one = |at: &TopicPartition| *at == place(1);
        assert_eq!(told(&mut given, ORPHAN_LOOKS * 2, only_one), [ORPHAN_LOOKS, ORPHAN_LOOKS * 2]);
        for _ in 1..ORPHAN_LOOKS {
            assert!(given.orphans(only_one).is_empty());
        }
        assert_eq!(given.orphans(only_one), [place(0)]);
    }

    #[test]
    fn a_moment_between_an_owner_and_the_next_claim_makes_no_orphan() {
        let mut given = AssignedPartitions::default();
        given.assigned(&place(0));
        for _ in 0..10 {
            assert!(told(&mut given, ORPHAN_LOOKS - 1, |_| false).is_empty());
            assert!(told(&mut given, 1, |_| true).is_empty());
        }
    }

    #[test]
    fn what_was_taken_back_or_lost_is_nobodys_orphan() {
        let mut given = AssignedPartitions::default();
        given.assigned(&place(0));
        given.assigned(&place(1));
        assert!(told(&mut given, ORPHAN_LOOKS - 1, |_| false).is_empty());
        given.revoked(&place(0));
        assert_eq!(given.orphans(|_| false), [place(1)]);
        // Given again, it begins anew.
        given.assigned(&place(0));
        assert!(told(&mut given, ORPHAN_LOOKS - 1, |at| *at == place(1)).is_empty());
        given.clear();
        assert!(told(&mut given, ORPHAN_LOOKS, |_| false).is_empty());
    }
}
