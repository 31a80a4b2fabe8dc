//! The result of an attempt, as its owner gets it.

use std::sync::Arc;

use courier_core::message::{Attempts, Timestamp};
use courier_core::status::State;
use courier_core::verdict::{Outcome, Verdict, fingerprint};

use super::effects_budget::EffectsPermit;
use crate::clock::now;
use crate::kafka::buffered::BufferedRecord;
use crate::store::{NewOutbound, StateWrites};

/// A judged attempt, or a delivery that ended without one.
#[derive(Debug)]
pub struct FinishedAttempt {
    pub buffered: Arc<BufferedRecord>,
    /// What happens to the delivery next.
    pub outcome: Outcome,
    /// Its attempts so far.
    pub attempts: Attempts,
    /// What the attempt finished.
    pub verdict: Verdict,
    pub reason: Option<String>,
    /// Equal for failures of one kind.
    pub fingerprint: Option<String>,
    /// The plugin version that ran.
    pub version: Option<Arc<str>>,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// The handler's log.
    pub log: Option<String>,
    pub invoked: bool,
    /// The messages that it published.
    pub outbound: Vec<NewOutbound>,
    /// The key/value writes of a success.
    pub state_writes: StateWrites,
    /// Counts its effects against the budget of the binding until they are written.
    pub effects_permit: Option<EffectsPermit>,
}

impl FinishedAttempt {
    /// A delivery whose record is gone from Kafka: it cannot run any more.
    #[must_use]
    pub fn lost(buffered: Arc<BufferedRecord>, attempts: Attempts) -> Self {
        let reason = "the record is no longer in kafka: its retention is shorter than the retries";
        Self::without_record(buffered, attempts, reason.to_owned())
    }

    /// A delivery whose record has more bytes than this host keeps. It has no
    /// dead letter, whose content would be the record's.
    #[must_use]
    pub fn too_large(buffered: Arc<BufferedRecord>, attempts: Attempts, bytes: usize) -> Self {
        let reason = format!(
            "the record has {bytes} bytes, more than [kafka] max_record lets this host keep: it is left in kafka at {} \
             offset {}; raise max_record and run the delivery again, or handle the record there",
            buffered.place, buffered.offset
        );
        Self::without_record(buffered, attempts, reason)
    }

    pub(super) fn without_record(buffered: Arc<BufferedRecord>, attempts: Attempts, reason: String) -> Self {
        let outcome = Outcome::Failed { dead_letter: false };
        Self::not_invoked(buffered, attempts, outcome, Verdict::Reject, Some(reason))
    }

    /// A delivery whose message the group handled before. It counts as handled
    /// and has no effects, since those of the first one are there.
    #[must_use]
    pub fn duplicate(buffered: Arc<BufferedRecord>, attempts: Attempts) -> Self {
        Self::not_invoked(buffered, attempts, Outcome::Handled, Verdict::Duplicate, None)
    }

    /// A delivery that ended now without an invocation and without effects.
    pub(super) fn not_invoked(
        buffered: Arc<BufferedRecord>,
        attempts: Attempts,
        outcome: Outcome,
        verdict: Verdict,
        reason: Option<String>,
    ) -> Self {
        let at = now();
        Self {
            buffered,
            outcome,
            attempts,
            verdict,
            fingerprint: reason.as_deref().map(|reason| fingerprint(verdict, reason)),
            reason,
            version: None,
            started_at: at,
            finished_at: at,
            log: None,
            invoked: false,
            outbound: Vec::new(),
            state_writes: Vec::new(),
            effects_permit: None,
        }
    }

    /// The public state of the delivery.
    #[must_use]
    pub fn state(&self) -> State {
        match self.outcome {
            Outcome::Handled => State::Handled,
            Outcome::Again { state, .. } => state,
            Outcome::Held | Outcome::Failed { .. } => State::HandleFail,
        }
    }
}
