//! A model of Kafka's assignment: which host owns a partition, which host is
//! told so, and how late a frozen host learns of it.

use super::world::{Task, World};
use crate::partition::{Event, Release};

/// How long Kafka waits for a host that does not answer, in milliseconds.
pub const SESSION: i64 = 30;

/// The owner of a partition according to Kafka.
#[derive(Clone, Copy, Default)]
pub struct Assignment {
    pub host: usize,
    pub generation: u64,
    pub moving_to: Option<usize>,
}

impl World {
    pub fn assign(&mut self, partition: usize, host: usize) {
        let assignment = &mut self.assigned[partition];
        *assignment = Assignment { host, generation: assignment.generation + 1, moving_to: None };
        let life = self.hosts[host].life;
        let wait = self.chance.pick(&[0, 2, 25]);
        self.note(|| format!("kafka: partition {partition} belongs to host {host}"));
        self.after(wait, Task::Claim { host, life, partition });
    }

    pub fn owner_of(&self, host: usize, partition: usize) -> Option<u64> {
        self.owners.iter().find(|(_, owner)| owner.host == host && owner.partition == partition).map(|(id, _)| *id)
    }

    /// A host claims a partition that it was assigned, possibly late.
    pub fn claim(&mut self, host: usize, life: u64, partition: usize) -> Result<(), String> {
        if self.hosts[host].life != life {
            return Ok(());
        }
        if !self.hosts[host].alive || !self.up {
            self.after(3, Task::Claim { host, life, partition });
            return Ok(());
        }
        if let Some(earlier) = self.owner_of(host, partition) {
            self.drop_owner(earlier);
        }
        self.start_owner(host, partition)
    }

    pub fn gone(&mut self, host: usize, life: u64, partition: usize) -> Result<(), String> {
        let current = self.assigned[partition];
        match self.owner_of(host, partition).filter(|_| self.hosts[host].life == life && current.host != host) {
            Some(claim) => self.step(claim, Event::Lost),
            None => Ok(()),
        }
    }

    /// A host's reaction when an owner ends: Kafka decides who owns the partition.
    pub fn after_release(&mut self, host: usize, partition: usize, why: Release) {
        let Assignment { host: listed, moving_to, .. } = self.assigned[partition];
        if listed != host {
            return;
        }
        let life = self.hosts[host].life;
        match (why, moving_to) {
            (_, Some(to)) => self.assign(partition, to),
            (Release::Fenced, None) => self.soon(Task::Claim { host, life, partition }),
            _ => {}
        }
    }

    /// Kafka moves a partition.
    pub fn rebalance(&mut self) -> Result<(), String> {
        let partition = self.chance.below(self.profile.partitions);
        let to = self.chance.below(self.profile.hosts);
        let Assignment { host, generation, moving_to } = self.assigned[partition];
        if moving_to.is_some() {
            return Ok(());
        }
        let answers = self.hosts[host].alive && self.hosts[host].frozen_until <= self.now;
        match self.owner_of(host, partition).filter(|_| answers) {
            Some(claim) => {
                self.assigned[partition].moving_to = Some(to);
                let wait = self.chance.pick(&[1, 10, 60]);
                self.after(wait, Task::Mail { claim, event: Event::Deadline });
                self.after(wait + SESSION, Task::Expire { partition, generation });
                self.step(claim, Event::Revoke)
            }
            None => {
                let life = self.hosts[host].life;
                self.after(0, Task::Gone { host, life, partition });
                self.assign(partition, to);
                Ok(())
            }
        }
    }

    /// Kafka takes all partitions from a host that does not answer.
    pub fn expel(&mut self, host: usize) {
        for partition in 0..self.profile.partitions {
            if self.assigned[partition].host == host {
                let to = self.assigned[partition].moving_to.unwrap_or_else(|| self.chance.below(self.profile.hosts));
                let life = self.hosts[host].life;
                self.after(0, Task::Gone { host, life, partition });
                self.assign(partition, to);
            }
        }
    }

    /// Kafka no longer waits for a host that should give a partition up.
    pub fn expire(&mut self, partition: usize, generation: u64) {
        let Assignment { host, generation: current, moving_to } = self.assigned[partition];
        if let Some(to) = moving_to.filter(|_| current == generation) {
            let life = self.hosts[host].life;
            self.after(0, Task::Gone { host, life, partition });
            self.assign(partition, to);
        }
    }
}
