//! The world around the owners: time, hosts, Kafka's assignment, and faults.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use super::bug::Bug;
use super::chance::Chance;
use super::kafka::Assignment;
use super::log::Log;
use super::owner::{Owner, Turn};
use super::profile::Profile;
use super::store::Shelf;
use crate::lanes::LaneKey;
use crate::message::{Offset, Timestamp};
use crate::partition::{Answer, Batch, Event, Gate};

/// How long after the calm everything must be done, in milliseconds.
const PATIENCE: i64 = 20_000;

/// Something that happens at a time.
#[derive(Debug)]
pub enum Task {
    Append {
        partition: usize,
    },
    Tick {
        claim: u64,
    },
    Flush {
        claim: u64,
    },
    Due {
        claim: u64,
    },
    Load {
        claim: u64,
        turn: Turn,
    },
    Start {
        claim: u64,
        turn: Turn,
    },
    End {
        claim: u64,
        turn: Turn,
    },
    Mail {
        claim: u64,
        event: Event<u64>,
    },
    Arrive {
        claim: u64,
        partition: usize,
        sequence: u64,
        batch: Arc<Batch<u64>>,
    },
    /// A host learns that a piece of its batch is written, and sends the rest.
    Rest {
        claim: u64,
        partition: usize,
        batch: Arc<Batch<u64>>,
    },
    Answer {
        claim: u64,
        answer: Answer,
        batch: Option<Arc<Batch<u64>>>,
    },
    Claim {
        host: usize,
        life: u64,
        partition: usize,
    },
    /// Kafka tells a host that a partition is no longer its own.
    Gone {
        host: usize,
        life: u64,
        partition: usize,
    },
    /// Kafka's patience with a host that should give a partition up.
    Expire {
        partition: usize,
        generation: u64,
    },
    /// Kafka's patience with a frozen host.
    Session {
        host: usize,
        life: u64,
    },
    Restart {
        host: usize,
    },
    Asked {
        partition: usize,
        offset: Offset,
    },
    Open {
        host: usize,
    },
    /// A host compares its owner's epoch with the store's.
    Compare {
        partition: usize,
    },
    /// Nothing of a lane is open in an older partition any more.
    Unblock {
        partition: usize,
        lane: LaneKey,
    },
    /// An owner looks at the gate, which may have moved again meanwhile.
    GateMoved {
        claim: u64,
    },
    StoreUp,
    Fault,
    Calm,
}

/// A process.
pub struct Host {
    pub alive: bool,
    /// The number of its process, so that messages to a dead process are dropped.
    pub life: u64,
    pub frozen_until: Timestamp,
    pub gate: Gate,
    /// The claim and the delivery that probe the gate.
    pub probe: Option<(u64, Offset)>,
    /// Whether dispatched deliveries wait behind a closed gate.
    pub patient: bool,
}

/// The whole world.
pub struct World {
    pub profile: Profile,
    pub chance: Chance,
    pub bug: Option<Bug>,
    pub now: Timestamp,
    queue: BinaryHeap<Reverse<(Timestamp, u64)>>,
    tasks: BTreeMap<u64, Task>,
    next_task: u64,
    pub steps: u64,
    pub logs: Vec<Log>,
    pub shelves: Vec<Shelf>,
    pub hosts: Vec<Host>,
    pub assigned: Vec<Assignment>,
    pub owners: BTreeMap<u64, Owner>,
    pub next_claim: u64,
    pub next_attempt: u64,
    /// Deliveries that were ever begun, by partition.
    pub begun: Vec<BTreeSet<Offset>>,
    /// Deliveries that may begin once more, since their first attempt was lost.
    pub excused: Vec<BTreeSet<Offset>>,
    pub up: bool,
    trace: Option<Vec<String>>,
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>, traced: bool) -> Self {
        let mut chance = Chance::new(seed);
        let profile = Profile::new(&mut chance);
        let logs: Vec<Log> = (0..profile.partitions).map(|_| Log::new(&mut chance)).collect();
        let host = |_| Host {
            alive: true,
            life: 0,
            frozen_until: Timestamp(0),
            gate: Gate::Open,
            probe: None,
            patient: false,
        };
        let mut world = Self {
            bug,
            now: Timestamp(0),
            queue: BinaryHeap::new(),
            tasks: BTreeMap::new(),
            next_task: 0,
            steps: 0,
            shelves: logs.iter().map(|log| Shelf::new(log.end)).collect(),
            hosts: (0..profile.hosts).map(host).collect(),
            assigned: vec![Assignment::default(); profile.partitions],
            owners: BTreeMap::new(),
            next_claim: 1,
            next_attempt: 1,
            begun: vec![BTreeSet::new(); profile.partitions],
            excused: vec![BTreeSet::new(); profile.partitions],
            up: true,
            trace: traced.then(Vec::new),
            logs,
            chance,
            profile,
        };
        for partition in 0..world.profile.partitions {
            for _ in 0..world.profile.records {
                let at = world.chance.between(0, world.profile.calm_at);
                world.after(at, Task::Append { partition });
            }
            let host = world.chance.below(world.profile.hosts);
            world.assign(partition, host);
        }
        world.after(world.profile.fault_every, Task::Fault);
        world.after(world.profile.calm_at, Task::Calm);
        world
    }

    /// Adds a line to the trace, if there is one.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>8} {}", self.now.0, line()));
        }
    }

    pub fn trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    pub fn at(&mut self, at: Timestamp, task: Task) {
        self.queue.push(Reverse((at, self.next_task)));
        self.tasks.insert(self.next_task, task);
        self.next_task += 1;
    }

    pub fn after(&mut self, millis: i64, task: Task) {
        self.at(Timestamp(self.now.0 + millis * 1_000), task);
    }

    /// Schedules a task after the short time of a message inside a host.
    pub fn soon(&mut self, task: Task) {
        let wait = self.chance.pick(&[0, 0, 0, 1, 3]);
        self.after(wait, task);
    }

    /// Schedules a task after the time that the store takes.
    pub fn answer_soon(&mut self, task: Task) {
        let wait = self.chance.between(0, self.profile.answer);
        self.after(wait, task);
    }

    pub fn calm(&self) -> bool {
        self.now.0 >= self.profile.calm_at * 1_000
    }

    /// Runs until everything is done.
    pub fn run(&mut self) -> Result<(), String> {
        while let Some(Reverse((at, id))) = self.queue.pop() {
            let Some(task) = self.tasks.remove(&id) else { continue };
            self.now = at;
            self.steps += 1;
            if let Some(thaw) = self.frozen(&task) {
                self.at(thaw, task);
                continue;
            }
            self.perform(task)?;
            if self.calm() && self.steps.is_multiple_of(8) && self.done() {
                return Ok(());
            }
            if at.0 > (self.profile.calm_at + PATIENCE) * 1_000 {
                return Err(format!("stuck: {}", self.undone()));
            }
        }
        Err("the world stands still".to_owned())
    }

    /// When the host of this task runs again, if it is frozen.
    fn frozen(&self, task: &Task) -> Option<Timestamp> {
        let host = match task {
            Task::Tick { claim }
            | Task::Flush { claim }
            | Task::Due { claim }
            | Task::Load { claim, .. }
            | Task::Start { claim, .. }
            | Task::End { claim, .. }
            | Task::Mail { claim, .. }
            | Task::GateMoved { claim }
            | Task::Rest { claim, .. }
            | Task::Answer { claim, .. } => self.owners.get(claim)?.host,
            Task::Claim { host, .. } | Task::Gone { host, .. } | Task::Open { host } => *host,
            _ => return None,
        };
        Some(self.hosts[host].frozen_until).filter(|until| *until > self.now)
    }

    fn perform(&mut self, task: Task) -> Result<(), String> {
        match task {
            Task::Append { partition } => self.logs[partition].append(&self.profile, &mut self.chance),
            Task::Tick { claim } => return self.tick(claim),
            Task::Flush { claim } => return self.flush(claim),
            Task::Due { claim } => return self.due(claim),
            Task::Load { claim, turn } => return self.load(claim, turn),
            Task::Start { claim, turn } => return self.start(claim, turn),
            Task::End { claim, turn } => return self.end(claim, turn),
            Task::Mail { claim, event } => return self.step(claim, event),
            Task::GateMoved { claim } => {
                let gate = self.owners.get(&claim).map_or(Gate::Open, |owner| self.hosts[owner.host].gate);
                return self.step(claim, Event::Gate(gate));
            }
            Task::Arrive { claim, partition, sequence, batch } => {
                return self.arrive(claim, partition, sequence, batch);
            }
            Task::Rest { claim, partition, batch } => self.send_rest(claim, partition, batch),
            Task::Answer { claim, answer, batch } => return self.answered(claim, answer, batch.as_deref()),
            Task::Claim { host, life, partition } => return self.claim(host, life, partition),
            Task::Gone { host, life, partition } => return self.gone(host, life, partition),
            Task::Expire { partition, generation } => {
                self.expire(partition, generation);
            }
            Task::Session { host, life } => {
                if self.hosts[host].life == life && self.hosts[host].frozen_until > self.now {
                    self.expel(host);
                }
            }
            Task::Restart { host } => self.hosts[host].alive = true,
            Task::Asked { partition, offset } => return self.poll_asked(partition, offset),
            Task::Compare { partition } => return self.compare(partition),
            Task::Unblock { partition, lane } => self.unblock(partition, &lane),
            Task::Open { host } => return self.reopen(host),
            Task::StoreUp => self.up = true,
            Task::Fault => return self.fault(),
            Task::Calm => return self.begin_calm(),
        }
        Ok(())
    }

    /// All faults stop.
    fn begin_calm(&mut self) -> Result<(), String> {
        self.up = true;
        for host in 0..self.profile.hosts {
            self.hosts[host].frozen_until = self.hosts[host].frozen_until.min(self.now);
            self.hosts[host].alive = true;
            self.reopen(host)?;
        }
        Ok(())
    }

    /// Whether every record is settled, or behind a held delivery.
    fn done(&mut self) -> bool {
        let mut asked = false;
        if self.profile.person && self.steps.is_multiple_of(64) {
            for partition in 0..self.profile.partitions {
                let held = self.shelves[partition].open.iter().find(|(_, row)| row.held);
                if let Some((offset, lane)) = held.map(|(offset, row)| (*offset, row.lane.clone())) {
                    self.ask(partition, offset, lane);
                    asked = true;
                }
            }
        }
        !asked && self.first_undone().is_none()
    }

    fn first_undone(&self) -> Option<(usize, Offset)> {
        self.logs.iter().zip(&self.shelves).enumerate().find_map(|(partition, (log, shelf))| {
            let waits = |offset, lane: &LaneKey| {
                shelf.open.contains_key(offset)
                    && shelf.open.values().any(|row| row.held && !row.give_up && row.lane == *lane)
                    && !self.profile.person
            };
            let open = shelf.open.iter().find(|(offset, row)| !waits(offset, &row.lane)).map(|(offset, _)| *offset);
            let lost = log.records.iter().filter(|record| record.wanted);
            let lost = lost.map(|record| record.offset).find(|offset| !shelf.knows(*offset));
            let behind = (shelf.position < log.end).then_some(shelf.position);
            open.or(lost).or(behind).map(|offset| (partition, offset))
        })
    }

    fn undone(&self) -> String {
        match self.first_undone() {
            Some((partition, offset)) => format!(
                "{offset} of partition {partition} is not done; row {:?}, position {}, end {}",
                self.shelves[partition].open.get(&offset),
                self.shelves[partition].position,
                self.logs[partition].end
            ),
            None => "nothing is left to do".to_owned(),
        }
    }
}
