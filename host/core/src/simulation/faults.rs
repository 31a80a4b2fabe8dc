//! Faults of hosts, Kafka and the store, and requests of people meanwhile.

use super::kafka::SESSION;
use super::world::{Task, World};
use crate::lanes::LaneKey;
use crate::message::{Offset, Timestamp};
use crate::partition::{Event, Gate};

impl World {
    pub fn fault(&mut self) -> Result<(), String> {
        if self.calm() {
            return Ok(());
        }
        let wait = self.chance.between(1, self.profile.fault_every * 2);
        self.after(wait, Task::Fault);
        if self.profile.seeks && self.chance.percent(25) {
            self.somebody_seeks();
            return Ok(());
        }
        if self.profile.give_ups && self.chance.percent(40) {
            self.somebody_gives_up();
            return Ok(());
        }
        let total: usize = self.profile.weights.iter().sum();
        if total == 0 {
            return Ok(());
        }
        let mut dice = self.chance.below(total);
        let kind = self.profile.weights.iter().position(|weight| {
            let hit = dice < *weight;
            dice = dice.saturating_sub(*weight);
            hit
        });
        let host = self.chance.below(self.profile.hosts);
        match kind {
            Some(0) => self.crash(host),
            Some(1) => {
                let long = self.chance.pick(&[2, 20, 150]);
                self.note(|| format!("host {host} stands still for {long} ms"));
                self.hosts[host].frozen_until = Timestamp(self.now.0 + long * 1_000);
                let life = self.hosts[host].life;
                self.after(SESSION, Task::Session { host, life });
            }
            Some(2) => return self.rebalance(),
            Some(3) => {
                self.up = false;
                let long = self.chance.pick(&[5, 50]);
                self.after(long, Task::StoreUp);
            }
            Some(4) => {
                self.hosts[host].patient = self.chance.percent(50);
                self.shut(host);
            }
            _ => self.somebody_asks(),
        }
        Ok(())
    }

    pub fn crash(&mut self, host: usize) {
        self.note(|| format!("host {host} dies"));
        let claims: Vec<u64> =
            self.owners.iter().filter(|(_, owner)| owner.host == host).map(|(claim, _)| *claim).collect();
        claims.into_iter().for_each(|claim| self.drop_owner(claim));
        let down = self.chance.pick(&[0, 10, 60]);
        let state = &mut self.hosts[host];
        (state.alive, state.life, state.frozen_until, state.gate) = (false, state.life + 1, self.now, Gate::Open);
        state.probe = None;
        self.after(down, Task::Restart { host });
        self.expel(host);
    }

    /// The gate of a host closes for a while.
    pub fn shut(&mut self, host: usize) {
        if self.gate(host, Gate::Closed).is_ok() {
            let long = self.chance.pick(&[1, 10, 40]);
            self.after(long, Task::Open { host });
        }
    }

    pub fn gate(&mut self, host: usize, gate: Gate) -> Result<(), String> {
        self.hosts[host].gate = gate;
        let claims: Vec<u64> =
            self.owners.iter().filter(|(_, owner)| owner.host == host).map(|(claim, _)| *claim).collect();
        for claim in claims {
            // The owner learns of it a little later than its workers.
            self.soon(Task::GateMoved { claim });
        }
        Ok(())
    }

    /// A person requests a rerun of a delivery, in any state.
    pub fn somebody_asks(&mut self) {
        let partition = self.chance.below(self.profile.partitions);
        let records = &self.logs[partition].records;
        if !self.up || records.is_empty() {
            return;
        }
        let record = &records[self.chance.below(records.len())];
        let (offset, lane) = (record.offset, record.lane.clone());
        self.ask(partition, offset, lane);
    }

    /// A person moves a position to a random offset of its log.
    fn somebody_seeks(&mut self) {
        let partition = self.chance.below(self.profile.partitions);
        let log = &self.logs[partition];
        if !self.up || log.records.is_empty() {
            return;
        }
        let at = self.chance.below(log.records.len() + 1);
        let to = log.records.get(at).map_or(log.end, |record| record.offset);
        self.note(|| format!("somebody moves partition {partition} to {to}"));
        let passed = self.shelves[partition].seek(to, &self.logs[partition], self.now);
        // A delivery that was in flight when it was skipped may run again.
        self.excused[partition].extend(passed);
        self.after(self.profile.answer, Task::Compare { partition });
    }

    /// Some keys are open in an older partition, for a while.
    pub fn block(&mut self, partition: usize) {
        for key in 0..self.profile.keys {
            if self.chance.percent(60) {
                let lane = LaneKey::Key(vec![b'a' + key as u8].into());
                self.shelves[partition].blocked.insert(lane.clone());
                let long = self.chance.between(1, self.profile.calm_at);
                self.after(long, Task::Unblock { partition, lane });
            }
        }
    }

    /// Owners learn of it a little later; an owner that claims by then knows it.
    pub fn unblock(&mut self, partition: usize, lane: &LaneKey) {
        self.shelves[partition].blocked.remove(lane);
        let claims: Vec<u64> =
            self.owners.iter().filter(|(_, owner)| owner.partition == partition).map(|(claim, _)| *claim).collect();
        for claim in claims {
            self.answer_soon(Task::Mail { claim, event: Event::Unblocked(lane.clone()) });
        }
    }

    /// A host compares the epochs of its owners with the store's.
    pub fn compare(&mut self, partition: usize) -> Result<(), String> {
        if !self.up {
            self.after(5, Task::Compare { partition });
            return Ok(());
        }
        let assignment = self.assigned[partition];
        let host = assignment.host;
        let older = |owner: &super::owner::Owner| owner.epoch < self.shelves[partition].epoch;
        let fenced = self.owner_of(host, partition).filter(|claim| self.owners.get(claim).is_some_and(older));
        if fenced.is_some() && assignment.moving_to.is_none() {
            let life = self.hosts[host].life;
            self.soon(Task::Claim { host, life, partition });
        }
        Ok(())
    }

    pub fn ask(&mut self, partition: usize, offset: Offset, lane: LaneKey) {
        if self.shelves[partition].ask(offset, lane, self.now) {
            self.note(|| format!("somebody asks for {offset} of partition {partition}"));
            self.answer_soon(Task::Asked { partition, offset });
        }
    }

    /// A person gives an open delivery up, in any state.
    fn somebody_gives_up(&mut self) {
        let partition = self.chance.below(self.profile.partitions);
        let open: Vec<Offset> = self.shelves[partition].open.keys().copied().collect();
        if !self.up || open.is_empty() {
            return;
        }
        let offset = open[self.chance.below(open.len())];
        if self.shelves[partition].give_up(offset) {
            self.note(|| format!("somebody gives {offset} of partition {partition} up"));
            self.answer_soon(Task::Asked { partition, offset });
        }
    }

    /// Owners poll for rerun requests, and may get one when it is over.
    pub fn poll_asked(&mut self, partition: usize, offset: Offset) -> Result<(), String> {
        if !self.up {
            self.after(5, Task::Asked { partition, offset });
            return Ok(());
        }
        let Some(open) = self.shelves[partition].row(offset) else { return Ok(()) };
        let claims: Vec<u64> =
            self.owners.iter().filter(|(_, owner)| owner.partition == partition).map(|(claim, _)| *claim).collect();
        for claim in claims {
            self.answer_soon(Task::Mail { claim, event: Event::RerunRequested(open.clone()) });
        }
        Ok(())
    }
}
