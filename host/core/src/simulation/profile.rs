//! The choices that a seed makes before the schedule starts: how large the world
//! is, how tight its bounds are, and which faults are common in it.

use super::chance::Chance;
use crate::partition::Bounds;

/// In which order deliveries belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    Key,
    Whole,
    Alone,
}

/// The choices of one schedule. Rates are in percent.
#[derive(Clone, Debug)]
pub struct Profile {
    pub hosts: usize,
    pub partitions: usize,
    pub keys: usize,
    pub ordering: Ordering,
    /// Records of a partition.
    pub records: usize,
    pub bounds: Bounds,
    /// Records handed over in one go, which a pause does not take back.
    pub burst: usize,
    /// When the faults stop, in milliseconds.
    pub calm_at: i64,
    /// Milliseconds between two faults, on average.
    pub fault_every: i64,
    /// How often each kind of fault is chosen, in the order of `FAULTS`.
    pub weights: [usize; FAULTS],
    pub retry: u32,
    pub reject: u32,
    pub hold: u32,
    pub unavailable: u32,
    pub dropped: u32,
    pub lost_answer: u32,
    /// The longest an answer, a load or an attempt takes, in milliseconds.
    pub answer: i64,
    pub attempt: i64,
    /// The longest wait before a retry.
    pub wait: i64,
    /// How often flushes are put off, so that outcomes share a batch.
    pub lazy_flush: u32,
    /// Whether a person comes in the end for held deliveries.
    pub person: bool,
    /// Whether people move positions meanwhile.
    pub seeks: bool,
    /// Whether batches are written in pieces.
    pub pieces: bool,
    /// Whether the partitions were added to a topic in which keys are open.
    pub added: bool,
    /// Whether people give open deliveries up meanwhile.
    pub give_ups: bool,
    /// Whether a closed gate is probed before it opens.
    pub probes: bool,
}

/// The number of kinds: crash, freeze, move, outage, gate, ask.
pub const FAULTS: usize = 6;

impl Profile {
    pub fn new(chance: &mut Chance) -> Self {
        let tight = chance.percent(50);
        let bound = |chance: &mut Chance, tight_to: i64, wide: usize| {
            if tight { chance.between(1, tight_to) as usize } else { wide }
        };
        let person = chance.percent(80);
        let bounds = Bounds {
            max_gap: bound(chance, 12, 1_000),
            max_in_memory: bound(chance, 8, 1_000),
            max_in_memory_bytes: bound(chance, 60, 100_000),
            // A held delivery holds the partition back until a person comes.
            max_parked: if person { bound(chance, 12, 1_000) } else { 1_000 },
            max_parked_bytes: bound(chance, 40, 100_000),
            max_batch: chance.pick(&[1, 2, 3, 5, 1_000]),
        };
        let mut weights = [0; FAULTS];
        for weight in &mut weights {
            *weight = chance.pick(&[0, 1, 4]);
        }
        Self {
            hosts: chance.between(1, 3) as usize,
            partitions: chance.between(1, 2) as usize,
            keys: chance.between(1, 4) as usize,
            ordering: chance.pick(&[Ordering::Key, Ordering::Key, Ordering::Key, Ordering::Whole, Ordering::Alone]),
            records: chance.between(4, 28) as usize,
            bounds,
            burst: chance.between(1, 4) as usize,
            calm_at: chance.between(100, 500),
            fault_every: chance.between(8, 60),
            weights,
            retry: chance.pick(&[0, 10, 30, 60]),
            reject: chance.pick(&[0, 5]),
            hold: chance.pick(&[0, 0, 8]),
            unavailable: chance.pick(&[0, 0, 8]),
            dropped: chance.pick(&[0, 3, 10]),
            lost_answer: chance.pick(&[0, 10, 30]),
            answer: chance.pick(&[1, 8, 40]),
            attempt: chance.pick(&[1, 6, 25]),
            wait: chance.pick(&[1, 10, 80]),
            lazy_flush: chance.pick(&[0, 40]),
            person,
            seeks: false,
            pieces: false,
            added: false,
            give_ups: false,
            probes: false,
        }
    }
}
