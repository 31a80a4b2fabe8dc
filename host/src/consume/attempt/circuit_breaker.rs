//! The gate of a binding: says whether deliveries may begin. It closes for a
//! pause, a missing plugin, a dependency that is down, and an open circuit.
//!
//! A closed gate stops fetching, fails what is dispatched with PUSH_FAIL and
//! lets nothing begin. After a while it is half open: each partition dispatches one
//! delivery, of which one at a time probes, and the first success opens the gate.
//! During a pause nothing fails: dispatched deliveries wait.

use std::time::{Duration, Instant};

use courier_core::partition::Gate;
use courier_core::verdict::{MAX_UNAVAILABLE_WAIT, Verdict};
use tokio::sync::watch;

use crate::config::Circuit;

/// How long a lack of sandboxes is reported after the last attempt that met it.
const ROOM_FORGOTTEN: Duration = Duration::from_secs(30);
/// The wait before the first probe; each further one waits twice as long.
const FIRST_PROBE_WAIT: Duration = Duration::from_secs(1);
/// The longest wait before a probe, unless the binding's policy has a shorter
/// one.
const MAX_PROBE_WAIT: Duration = Duration::from_secs(60);

/// The state of the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Deliveries may begin.
    Open,
    /// A person or the TOML paused the binding; the text says who and why.
    Paused(String),
    /// Too many of the messages it publishes are undelivered; the text says
    /// which. Dispatched deliveries wait, as in a pause.
    Full(String),
    /// Deliveries cannot run.
    Closed {
        /// `Unavailable`, `NoPlugin`, `Instantiate` or `CircuitOpen`.
        verdict: Verdict,
        /// Why, for people.
        reason: String,
    },
    /// Half open: one delivery at a time probes whether the binding can run again.
    Probing,
}

impl Permission {
    /// What the partitions may fetch and dispatch.
    #[must_use]
    pub fn of_partitions(&self) -> Gate {
        match self {
            Self::Open => Gate::Open,
            Self::Probing => Gate::Probe,
            Self::Paused(_) | Self::Full(_) | Self::Closed { .. } => Gate::Closed,
        }
    }
}

/// The gate of one binding on this node.
#[derive(Debug)]
pub struct BindingGate {
    gate: watch::Sender<Permission>,
    circuit: Option<Circuit>,
    max_probe_wait: Duration,
    state: parking_lot::Mutex<GateState>,
}

#[derive(Debug, Default)]
struct GateState {
    paused: Option<String>,
    /// Why nothing more may be published.
    full: Option<String>,
    missing: Option<(Verdict, String)>,
    shut: Option<Opened>,
    /// When an attempt last found no room on this host, and its reason.
    no_room: Option<(Instant, String)>,
    failures: u32,
    wait: Duration,
    probing: bool,
}

/// How long a closed gate waits before a delivery may probe.
#[derive(Clone, Copy, Debug)]
enum ProbeWait {
    /// Doubles with each failed probe up to `most`, and is never less than
    /// `least`, which a handler asked for.
    Growing { least: Duration, most: Duration },
    /// As long as `circuit.open` of the binding.
    Fixed(Duration),
}

#[derive(Debug)]
struct Opened {
    verdict: Verdict,
    reason: String,
    probe_at: Instant,
    /// Whether the wait is over and the gate is half open.
    half_open: bool,
}

impl BindingGate {
    /// An open gate. Once closed it is probed at least every `probe_within`.
    #[must_use]
    pub fn new(circuit: Option<Circuit>, probe_within: Option<Duration>) -> Self {
        let max_probe_wait = probe_within.unwrap_or(MAX_PROBE_WAIT).min(MAX_PROBE_WAIT);
        Self {
            gate: watch::Sender::new(Permission::Open),
            circuit,
            max_probe_wait,
            state: parking_lot::Mutex::default(),
        }
    }

    /// Watches the state of the gate.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Permission> {
        self.gate.subscribe()
    }

    /// The state of the gate now.
    #[must_use]
    pub fn now(&self) -> Permission {
        self.gate.borrow().clone()
    }

    /// Pauses the binding, or resumes it with `None`.
    pub fn pause(&self, why: Option<String>) {
        self.change(|keeping| keeping.paused = why);
    }

    /// Stops the binding because too many of its messages are undelivered, or
    /// resumes it with `None`.
    pub fn hold_for_undelivered(&self, why: Option<String>) {
        self.change(|keeping| keeping.full = why);
    }

    /// Has another gate stand still for what a person, the TOML or undelivered
    /// rows stopped this one for.
    pub fn pass_holds_on(&self, other: &Self) {
        // Locked until the other has it: a pause in between would be undone there.
        let state = self.lock();
        other.change(|keeping| (keeping.paused, keeping.full) = (state.paused.clone(), state.full.clone()));
    }

    /// Closes the gate for a missing plugin, or opens it again with `None`.
    pub fn missing(&self, why: Option<(Verdict, String)>) {
        self.change(|keeping| keeping.missing = why);
    }

    /// Why attempts find no sandbox on this host; `None` once one found one.
    #[must_use]
    pub fn without_room(&self) -> Option<String> {
        let state = self.lock();
        let lately = state.no_room.as_ref().filter(|(at, _)| at.elapsed() < ROOM_FORGOTTEN);
        lately.map(|(_, reason)| reason.clone())
    }

    /// Takes the probe; false when another delivery has it.
    #[must_use]
    pub fn take_probe(&self) -> bool {
        let mut state = self.lock();
        !std::mem::replace(&mut state.probing, true)
    }

    /// Returns a probe that was not made, so that another delivery can take it.
    pub fn give_probe_back(&self) {
        self.lock().probing = false;
        self.gate.send_modify(|_| {});
    }

    /// Counts the verdict of an attempt: failures in a row open the circuit.
    /// The gate stays closed for at least `asked`, the wait that an
    /// `unavailable` asked for. `probe` marks the attempt that
    /// [`BindingGate::take_probe`] let begin.
    pub fn ended(&self, verdict: Verdict, reason: Option<&str>, asked: Option<Duration>, probe: bool) {
        // The common case takes the lock only, and notifies nobody.
        {
            let mut state = self.lock();
            match verdict {
                Verdict::NoRoom => {
                    let reason = reason.unwrap_or("the host had no room for another instance").to_owned();
                    state.no_room = Some((Instant::now(), reason));
                }
                Verdict::NoPlugin | Verdict::CircuitOpen | Verdict::Instantiate => {}
                _ => state.no_room = None,
            }
            if verdict == Verdict::Success && state.shut.is_none() {
                state.failures = 0;
                return;
            }
        }
        self.change(|keeping| {
            if keeping.shut.is_some() && !probe {
                // The attempt began before the gate closed, so it says nothing about now.
                return;
            }
            match verdict {
                Verdict::Unavailable | Verdict::Instantiate => {
                    let reason = reason.unwrap_or("the handler says it cannot run now").to_owned();
                    let asked = asked.filter(|_| verdict == Verdict::Unavailable).unwrap_or_default();
                    let wait = ProbeWait::Growing { least: asked.min(MAX_UNAVAILABLE_WAIT), most: self.max_probe_wait };
                    keeping.shut(verdict, reason, wait);
                }
                Verdict::Success | Verdict::Reject | Verdict::Duplicate => keeping.open(),
                // These verdicts say nothing about the handler.
                Verdict::NoRoom | Verdict::NoPlugin | Verdict::CircuitOpen => {}
                _ => {
                    keeping.failures += 1;
                    let why = || {
                        let last = reason.unwrap_or("no reason given");
                        format!("circuit open after {} failures in a row; the last: {last}", keeping.failures)
                    };
                    match &self.circuit {
                        Some(circuit) if keeping.failures >= circuit.failures || probe => {
                            let why = why();
                            keeping.shut(Verdict::CircuitOpen, why, ProbeWait::Fixed(circuit.open));
                        }
                        None if probe => keeping.open(),
                        _ => {}
                    }
                }
            }
        });
        if probe {
            self.give_probe_back();
        }
    }

    /// Half-opens the gate when its wait is over. Returns when to call again.
    pub fn tick(&self) -> Option<Duration> {
        let mut left = None;
        self.change(|keeping| {
            if let Some(shut) = &mut keeping.shut {
                let now = Instant::now();
                if !shut.half_open && shut.probe_at <= now {
                    shut.half_open = true;
                    keeping.probing = false;
                } else if !shut.half_open {
                    left = Some(shut.probe_at - now);
                }
            }
        });
        left
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, GateState> {
        self.state.lock()
    }

    fn change(&self, change: impl FnOnce(&mut GateState)) {
        let mut state = self.lock();
        change(&mut state);
        let gate = state.gate();
        // Sent under the lock, so that watchers see changes in their order.
        self.gate.send_if_modified(|now| {
            let changed = *now != gate;
            if changed {
                *now = gate;
            }
            changed
        });
    }
}

impl GateState {
    fn shut(&mut self, verdict: Verdict, reason: String, wait: ProbeWait) {
        self.wait = if self.wait.is_zero() { FIRST_PROBE_WAIT } else { (self.wait * 2).min(MAX_PROBE_WAIT) };
        let wait = match wait {
            ProbeWait::Growing { least, most } => self.wait.min(most).max(least),
            ProbeWait::Fixed(wait) => wait,
        };
        let probe_at = Instant::now() + wait;
        self.shut = Some(Opened { verdict, reason, probe_at, half_open: false });
    }

    fn open(&mut self) {
        self.shut = None;
        self.failures = 0;
        self.wait = Duration::ZERO;
    }

    fn gate(&self) -> Permission {
        if let Some(why) = &self.paused {
            return Permission::Paused(why.clone());
        }
        if let Some(why) = &self.full {
            return Permission::Full(why.clone());
        }
        if let Some((verdict, reason)) = &self.missing {
            return Permission::Closed { verdict: *verdict, reason: reason.clone() };
        }
        match &self.shut {
            Some(shut) if shut.half_open => Permission::Probing,
            Some(shut) => Permission::Closed { verdict: shut.verdict, reason: shut.reason.clone() },
            None => Permission::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_closed(gate: &BindingGate, verdict: Verdict) -> bool {
        matches!(gate.now(), Permission::Closed { verdict: found, .. } if found == verdict)
    }

    fn let_time_pass(gate: &BindingGate) {
        if let Some(shut) = &mut gate.lock().shut {
            shut.probe_at = Instant::now();
        }
        gate.tick();
    }

    #[test]
    fn unavailable_closes_and_one_probe_opens() {
        let gate = BindingGate::new(None, None);
        gate.ended(Verdict::Unavailable, Some("database away"), None, false);
        assert!(is_closed(&gate, Verdict::Unavailable));
        gate.ended(Verdict::Success, None, None, false);
        assert!(is_closed(&gate, Verdict::Unavailable), "a success that began before says nothing");
        let_time_pass(&gate);
        assert_eq!((gate.now(), gate.now().of_partitions()), (Permission::Probing, Gate::Probe));
        assert!(gate.take_probe());
        assert!(!gate.take_probe(), "one at a time");
        gate.ended(Verdict::Success, None, None, true);
        assert_eq!((gate.now(), gate.now().of_partitions()), (Permission::Open, Gate::Open));
    }

    #[test]
    fn a_gate_that_is_added_stands_still_for_the_same() {
        let (first, added) = (BindingGate::new(None, None), BindingGate::new(None, None));
        first.hold_for_undelivered(Some("10,000 undelivered".into()));
        first.pause(Some("at night".into()));
        first.pass_holds_on(&added);
        assert_eq!(added.now(), Permission::Paused("at night".into()));
        added.pause(None);
        assert_eq!(added.now(), Permission::Full("10,000 undelivered".into()));
        assert_eq!(first.now(), Permission::Paused("at night".into()), "its own gate keeps what it has");
    }

    #[test]
    fn a_failed_probe_closes_for_longer() {
        let gate = BindingGate::new(None, None);
        gate.ended(Verdict::Unavailable, None, None, false);
        gate.ended(Verdict::Unavailable, None, None, false);
        assert_eq!(gate.lock().wait, Duration::from_secs(1), "what was under way counts once");
        let_time_pass(&gate);
        assert!(gate.take_probe());
        gate.ended(Verdict::Unavailable, None, None, true);
        assert!(is_closed(&gate, Verdict::Unavailable));
        assert_eq!(gate.lock().wait, Duration::from_secs(2));
    }

    #[test]
    fn the_wait_that_an_unavailable_asks_for_is_kept_and_bounded() {
        let second = Duration::from_secs(1);
        for (asked, least) in [
            (Some(30 * second), 30 * second),
            (Some(second / 1_000), second),
            (None, second),
            (Some(Duration::MAX), MAX_UNAVAILABLE_WAIT),
        ] {
            let gate = BindingGate::new(None, None);
            gate.ended(Verdict::Unavailable, Some("database away"), asked, false);
            let left = gate.tick().expect("it is closed");
            assert!(left <= least && left + second / 2 > least, "{asked:?}: {left:?}");
        }
        let gate = BindingGate::new(None, None);
        gate.ended(Verdict::Instantiate, None, Some(30 * second), false);
        assert!(gate.tick().unwrap() <= second, "only a handler that says so asks for a wait");
    }

    #[test]
    fn a_policy_can_ask_for_probes_at_short_intervals_however_long_it_lasts() {
        let gate = BindingGate::new(None, Some(Duration::from_secs(4)));
        gate.ended(Verdict::Unavailable, None, None, false);
        for _ in 0..10 {
            let_time_pass(&gate);
            assert!(gate.take_probe());
            gate.ended(Verdict::Unavailable, None, None, true);
            assert!(gate.tick().is_some_and(|left| left <= Duration::from_secs(4)));
        }
        let_time_pass(&gate);
        gate.ended(Verdict::Unavailable, None, Some(Duration::from_secs(60)), true);
        assert!(gate.tick().is_some_and(|left| left > Duration::from_secs(50)), "what was asked for counts");
    }

    #[test]
    fn a_lack_of_room_is_told_until_an_attempt_finds_room() {
        let gate = BindingGate::new(None, None);
        assert_eq!(gate.without_room(), None);
        gate.ended(Verdict::NoRoom, Some("all 64 slots are taken"), None, false);
        assert_eq!(gate.without_room().as_deref(), Some("all 64 slots are taken"));
        assert_eq!(gate.now(), Permission::Open, "a busy moment stops nobody");
        gate.ended(Verdict::Error, Some("no"), None, false);
        assert_eq!(gate.without_room(), None);
    }

    #[test]
    fn a_circuit_counts_failures_in_a_row() {
        let circuit = Circuit { failures: 3, open: Duration::from_secs(30) };
        let gate = BindingGate::new(Some(circuit), None);
        for verdict in [Verdict::Error, Verdict::Trap, Verdict::Success, Verdict::Error, Verdict::Error] {
            gate.ended(verdict, Some("no"), None, false);
            assert_eq!(gate.now(), Permission::Open);
        }
        gate.ended(Verdict::Timeout, Some("no"), None, false);
        assert!(is_closed(&gate, Verdict::CircuitOpen));
    }

    #[test]
    fn a_binding_whose_topic_is_full_cannot_run_and_is_not_paused() {
        let gate = BindingGate::new(None, None);
        gate.hold_for_undelivered(Some("too much is undelivered".to_owned()));
        assert_eq!(gate.now(), Permission::Full("too much is undelivered".to_owned()));
        assert_eq!(gate.now().of_partitions(), Gate::Closed);
        gate.pause(Some("by ops".to_owned()));
        assert_eq!(gate.now(), Permission::Paused("by ops".to_owned()));
        gate.pause(None);
        gate.hold_for_undelivered(None);
        assert_eq!(gate.now(), Permission::Open);
    }

    #[test]
    fn a_pause_stands_before_everything() {
        let gate = BindingGate::new(None, None);
        gate.missing(Some((Verdict::NoPlugin, "no active version".to_owned())));
        gate.pause(Some("by ops".to_owned()));
        assert_eq!(gate.now(), Permission::Paused("by ops".to_owned()));
        gate.pause(None);
        assert!(is_closed(&gate, Verdict::NoPlugin));
        gate.missing(None);
        assert_eq!(gate.now(), Permission::Open);
    }
}
