//! What may start by the state of the gate.
//!
//! A gate that closed because handlers cannot run is probed after a while. Were it
//! simply opened for that, every waiting delivery would be dispatched and pushed back
//! again, and records would be fetched only to wait too, at each probe of an outage.
//! So a probed gate lets one delivery start and is closed for all others.

use std::time::Duration;

use super::{Action, Gate, Machine, Phase, Probe};
use crate::lanes::{Head, LaneId};
use crate::message::{Offset, Timestamp};

/// How long a probe may take to come back before another delivery is dispatched beside
/// it. It may not come back at all: its record may be unreadable, or its attempt wait.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

impl<D> Machine<D> {
    /// When [`Event::Due`](super::Event::Due) is wanted next. `None` while the gate is
    /// closed, since nothing may start then.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        if self.phase != Phase::Consuming {
            return None;
        }
        match (self.gate, self.probe) {
            (Gate::Closed, _) => None,
            (Gate::Probe, Some(probe)) => Some(probe.since.after(PROBE_PATIENCE)),
            (Gate::Open, _) | (Gate::Probe, None) => self.lanes.next_due(),
        }
    }

    /// Whether records are fetched as far as the gate is concerned.
    pub(super) fn gate_fetches(&self) -> bool {
        match self.gate {
            Gate::Open => true,
            Gate::Probe => self.probe.is_none_or(|probe| probe.fetches),
            Gate::Closed => false,
        }
    }

    pub(super) fn due(&mut self, now: Timestamp, actions: &mut Vec<Action<D>>) {
        if self.phase != Phase::Consuming || self.gate != Gate::Open {
            return;
        }
        while let Some(id) = self.lanes.first_due(now) {
            self.dispatch(id, actions);
        }
    }

    pub(super) fn gate(&mut self, gate: Gate, now: Timestamp, actions: &mut Vec<Action<D>>) {
        let opened = self.gate != Gate::Open && gate == Gate::Open;
        self.gate = gate;
        if opened {
            // A delivery that could not run need not wait out its retry time.
            let pushed_back: Vec<LaneId> = self.lanes.pushed_back().collect();
            for id in pushed_back {
                self.lanes.set_head(id, Head::Waiting(now));
            }
            self.due(now, actions);
        }
    }

    /// Takes a delivery that came back off those that run, whatever became of it.
    pub(super) fn came_back(&mut self, offset: Offset) -> Option<LaneId> {
        self.probe = self.probe.filter(|probe| probe.offset != offset);
        self.running.remove(&offset)
    }

    /// Makes the delivery of a new record the probe, if there is none, or its company.
    pub(super) fn probe_with(&mut self, offset: Offset, now: Timestamp) {
        if self.gate == Gate::Probe && self.running.contains_key(&offset) {
            let probe = self.probe.get_or_insert(Probe { offset, since: now, fetches: false });
            probe.fetches = false;
            self.probed = Some(probe.offset);
        }
    }

    /// Dispatches a waiting head as the next probe, once the one before came back or is
    /// overdue. Whatever became of that one, the gate says.
    ///
    /// The same delivery probes twice in a row only if no other one waits, and then beside
    /// a new one: it may be the only one that cannot run, and would keep the gate closed
    /// for ever.
    pub(super) fn probe_next(&mut self, now: Timestamp, actions: &mut Vec<Action<D>>) {
        self.probe = self.probe.filter(|probe| now < probe.since.after(PROBE_PATIENCE));
        if self.phase != Phase::Consuming || self.gate != Gate::Probe || self.probe.is_some() {
            return;
        }
        // One that could not run need not wait out its retry time.
        let heads = self.lanes.all_due(now).chain(self.lanes.pushed_back());
        let (mut other, mut same) = (None, None);
        for id in heads {
            match self.lanes.head_offset(id) {
                Some(offset) if self.probed == Some(offset) => same = Some((id, offset)),
                Some(offset) => {
                    other = Some((id, offset));
                    break;
                }
                None => {}
            }
        }
        if let Some((id, offset)) = other.or(same) {
            self.probe = Some(Probe { offset, since: now, fetches: other.is_none() });
            self.probed = Some(offset);
            self.dispatch(id, actions);
        }
    }
}
