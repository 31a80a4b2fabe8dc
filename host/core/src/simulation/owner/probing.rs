//! Deliveries that probe a gate: of a host one at a time, and what the machine may
//! dispatch meanwhile.

use std::collections::BTreeMap;

use super::{Checked, Turn};
use crate::message::{Offset, Timestamp};
use crate::partition::{Action, Event, Gate};
use crate::simulation::world::World;

/// Microseconds after which a machine may dispatch another probe.
const PATIENCE: i64 = 10_000_000;

/// What an owner's machine dispatched to probe.
#[derive(Default)]
pub(super) struct Probing {
    is_probed: bool,
    /// Whether a record came: its delivery is dispatched whatever the gate says.
    takes_record: bool,
    /// Waiting heads that were dispatched and did not come back, with their times.
    under_way: BTreeMap<Offset, Timestamp>,
}

impl Probing {
    pub(super) fn before(&mut self, event: &Event<u64>) {
        self.takes_record = matches!(event, Event::Record { .. });
        match event {
            Event::Gate(gate) => self.is_probed = *gate == Gate::Probe,
            Event::AttemptFinished { offset, .. } | Event::NotStarted { offset } | Event::RowGone { offset } => {
                self.under_way.remove(offset);
            }
            _ => {}
        }
    }

    /// Checks that no more than one waiting head probes.
    pub(super) fn after(&mut self, now: Timestamp, actions: &[Action<u64>]) -> Checked {
        if !self.is_probed || self.takes_record {
            return Ok(());
        }
        for action in actions {
            let Action::Dispatch { offset, .. } = action else { continue };
            self.under_way.retain(|_, since| now.0 < since.0 + PATIENCE);
            if let Some(other) = self.under_way.keys().next() {
                return Err(format!("{offset} is dispatched while {other} probes"));
            }
            self.under_way.insert(*offset, now);
        }
        Ok(())
    }
}

impl World {
    /// Whether a delivery may probe the gate of its host.
    pub(super) fn take_probe(&mut self, claim: u64, turn: Turn) -> bool {
        let Some(owner) = self.owners.get(&claim) else { return false };
        let probe = &mut self.hosts[owner.host].probe;
        let is_free = probe.is_none();
        probe.get_or_insert((claim, turn.offset));
        is_free
    }

    /// Ends the probe of a host. False when another delivery made it.
    pub(super) fn end_probe(&mut self, claim: u64, turn: Turn) -> bool {
        let Some(owner) = self.owners.get(&claim) else { return false };
        self.hosts[owner.host].probe.take_if(|probe| *probe == (claim, turn.offset)).is_some()
    }

    /// Opens a closed gate after its wait, or has it probed.
    pub fn reopen(&mut self, host: usize) -> Checked {
        match self.hosts[host].gate {
            Gate::Closed if self.profile.probes => self.gate(host, Gate::Probe),
            Gate::Probe => Ok(()),
            Gate::Open | Gate::Closed => self.gate(host, Gate::Open),
        }
    }
}
