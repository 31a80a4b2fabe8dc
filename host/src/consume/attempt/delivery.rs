//! A delivery's call, and the judgement of what its attempt returned, for the
//! owner of its partition.
//!
//! A stop is never a failure: an attempt that is dropped because its partition
//! or the host goes away is handed back and not counted.

use std::sync::Arc;
use std::time::Duration;

use courier_core::message::{Attempts, Kind, Message};
use courier_core::retry::MAX_ASKED_WAIT;
use courier_core::verdict::{DeadLetter, History, Outcome, Verdict, fingerprint, judge};
use tokio_util::sync::CancellationToken;

use super::binding::RunningBinding;
use super::finished::FinishedAttempt;
use super::unavailable::as_retry;
use crate::clock::now;
use crate::consume::owner::message::{OwnerMessage, ReadyDelivery};
use crate::engine::{AttemptInfo, Call, Ended, Outgoing, Prepared};
use crate::publish::rules::too_many_hops;
use crate::publish::{self, GivenUp};
use crate::random;
use crate::store::{DeliveryKey, GiveUp, NewOutbound, bytes_of_effects};

/// The header of the W3C Trace Context.
const TRACE_HEADER: &str = "traceparent";

impl ReadyDelivery {
    /// Returns it to its owner without an attempt.
    pub fn give_back(self) {
        self.owner.tell(OwnerMessage::NotStarted(self.buffered.offset));
    }

    /// Whether it must be returned to its owner.
    #[must_use]
    pub fn is_recalled(&self) -> bool {
        !self.owner.may_begin() || self.recall.as_ref().is_some_and(CancellationToken::is_cancelled)
    }

    #[must_use]
    pub fn key(&self) -> DeliveryKey {
        DeliveryKey { position: self.owner.position, offset: self.buffered.offset }
    }

    /// The call that the engine makes.
    #[must_use]
    pub fn call(&self, bound: &RunningBinding) -> Call<'_> {
        Call {
            message: self.buffered.message(),
            attempt: AttemptInfo {
                delivery: self.key().to_string(),
                number: self.attempts.invoked + 1,
                counted: self.attempts.used,
                max_attempts: bound.binding.failure.retry.max_attempts,
                partition: u32::try_from(self.owner.place.partition).unwrap_or_default(),
                offset: u64::try_from(self.buffered.offset.0).unwrap_or_default(),
            },
        }
    }

    /// Judges what the engine returned. The owner must be told.
    #[must_use]
    pub fn conclude(self, bound: &RunningBinding, version: &Prepared, ended: Ended) -> FinishedAttempt {
        let mut ended = self.without_loop(bound, ended);
        if bound.unavailable_alone.judged(self.key(), ended.verdict) != ended.verdict {
            ended.verdict = Verdict::Retry;
            // The wait was for the service to come back, and the service is there.
            ended.after = None;
            ended.reason = Some(as_retry(ended.reason.take()));
        }
        bound.gate.ended(ended.verdict, ended.reason.as_deref(), ended.after, self.probe);
        let seconds = ended.finished_at.since(ended.started_at).as_secs_f64();
        bound.attempt_seconds.record(seconds);
        let attempts = Attempts {
            invoked: self.attempts.invoked + 1,
            used: self.attempts.used + u32::from(!ended.verdict.never_ran()),
        };
        let mut outcome = self.judged(bound, ended.verdict, ended.after, attempts.invoked);
        let failed = ended.verdict != Verdict::Success;
        let fingerprint = failed.then(|| fingerprint(ended.verdict, ended.reason.as_deref().unwrap_or_default()));
        let mut outbound: Vec<NewOutbound> = Vec::new();
        let mut state_writes = Vec::new();
        match outcome {
            Outcome::Handled => {
                let message = self.buffered.message();
                outbound.extend(
                    ended
                        .emissions
                        .into_iter()
                        .map(|one| emission(&bound.binding.group, &bound.binding.plugin.name, message, one)),
                );
                state_writes = ended.state_writes;
            }
            Outcome::Failed { dead_letter: true } => {
                let mut reason = ended.reason.take().unwrap_or_else(|| "no reason given".to_owned());
                let to = self.letters_to(bound);
                match too_many_hops(self.buffered.message(), &bound.binding.group, &to, bound.binding.max_hops) {
                    None => outbound.push(self.dead_letter(bound, &to, &reason, attempts.invoked)),
                    Some(why) => outcome = without_letter(&mut reason, &why),
                }
                ended.reason = Some(reason);
            }
            _ => {}
        }
        let effects_permit = bound.effects_budget.take(bytes_of_effects(&outbound, &state_writes) + ended.log.len());
        FinishedAttempt {
            outcome,
            attempts,
            verdict: ended.verdict,
            fingerprint,
            // The wait of an `unavailable` has its own bound.
            reason: reason_with_bound(ended.reason, ended.after.filter(|_| ended.verdict == Verdict::Retry)),
            version: Some(Arc::clone(&version.version)),
            started_at: ended.started_at,
            finished_at: ended.finished_at,
            log: (!ended.log.is_empty()).then_some(ended.log),
            invoked: !matches!(ended.verdict, Verdict::Instantiate | Verdict::NoRoom),
            outbound,
            state_writes,
            buffered: self.buffered,
            effects_permit,
        }
    }

    /// Fails it without an invocation, because the gate of its binding is closed.
    pub fn push_back(self, bound: &RunningBinding, verdict: Verdict, reason: &str) {
        let outcome = self.judged(bound, verdict, None, self.attempts.invoked + 1);
        let reason = Some(reason.to_owned());
        let finished = FinishedAttempt::not_invoked(self.buffered, self.attempts, outcome, verdict, reason);
        self.owner.tell(OwnerMessage::AttemptFinished(Box::new(finished)));
    }

    /// Ends it without an attempt, because a person gave it up.
    pub fn give_up(self, bound: &RunningBinding, give_up: GiveUp) {
        let GiveUp { reason, dead_letter } = give_up;
        // The dead letter of a record that is too large to be kept would be empty.
        let dead_letter = dead_letter && self.buffered.record.left_out.is_none();
        let outbound: Vec<NewOutbound> = dead_letter
            .then(|| self.dead_letter(bound, &self.letters_to(bound), &reason, self.attempts.invoked))
            .into_iter()
            .collect();
        let outcome = Outcome::Failed { dead_letter };
        let (verdict, reason) = (Verdict::GivenUp, Some(reason));
        let finished = FinishedAttempt {
            effects_permit: bound.effects_budget.take(bytes_of_effects(&outbound, &Vec::new())),
            outbound,
            ..FinishedAttempt::not_invoked(self.buffered, self.attempts, outcome, verdict, reason)
        };
        self.owner.tell(OwnerMessage::AttemptFinished(Box::new(finished)));
    }

    fn judged(&self, bound: &RunningBinding, verdict: Verdict, after: Option<Duration>, invoked: u32) -> Outcome {
        // A requested rerun has a retry schedule of its own.
        let budget_from = self.buffered.asked_at.unwrap_or(self.buffered.received_at);
        let history = History { number: invoked, counted: self.attempts.used, budget_from };
        judge(verdict, after, history, &bound.binding.failure, now(), random::fraction())
    }

    /// The outcome of an attempt that published. It fails for ever when its
    /// messages would go round in a loop.
    fn without_loop(&self, bound: &RunningBinding, ended: Ended) -> Ended {
        let Some(first) = ended.emissions.first().filter(|_| ended.verdict == Verdict::Success) else { return ended };
        let why = too_many_hops(self.buffered.message(), &bound.binding.group, &first.topic, bound.binding.max_hops);
        match why {
            None => ended,
            Some(why) => Ended {
                verdict: Verdict::Reject,
                reason: Some(why),
                emissions: Vec::new(),
                state_writes: Vec::new(),
                ..ended
            },
        }
    }

    /// The topic of the dead letter.
    fn letters_to(&self, bound: &RunningBinding) -> String {
        match &bound.binding.failure.dead_letter {
            DeadLetter::Topic(Some(topic)) => topic.clone(),
            _ => dead_letter_topic(&self.owner.place.topic, &bound.binding.group),
        }
    }

    fn dead_letter(&self, bound: &RunningBinding, to: &str, reason: &str, attempts: u32) -> NewOutbound {
        let message = self.buffered.message();
        let lies_in = self.owner.place.log_topic();
        let given_up = GivenUp {
            message_id: &message.id,
            type_name: &message.type_name,
            source: &message.source,
            topic: &lies_in,
            partition: self.owner.place.partition,
            offset: self.buffered.offset,
            group: &bound.binding.group,
            attempts,
            reason,
        };
        publish::dead_letter(&self.buffered.record, &given_up, to)
    }
}

/// The handler's reason; it says so when the handler asked for a longer wait
/// than a delivery may have.
fn reason_with_bound(reason: Option<String>, asked: Option<Duration>) -> Option<String> {
    let Some(asked) = asked.filter(|asked| *asked > MAX_ASKED_WAIT) else { return reason };
    let days = |wait: Duration| wait.as_secs() / 86_400;
    let cut = format!(
        "it asked to wait {} days; a handler may ask for {} days at most, which is how long it waits",
        days(asked),
        days(MAX_ASKED_WAIT)
    );
    Some(reason.map_or_else(|| cut.clone(), |reason| format!("{reason} ({cut})")))
}

/// The outcome of a delivery without a dead letter, and why it has none.
fn without_letter(reason: &mut String, why: &str) -> Outcome {
    reason.push_str("; no dead letter was written: ");
    reason.push_str(why);
    Outcome::Failed { dead_letter: false }
}

/// The default dead-letter topic of a group.
#[must_use]
pub fn dead_letter_topic(topic: &str, group: &str) -> String {
    format!("dlq.{topic}.{group}")
}

/// A published message as a row for the relay. It continues the trace of the
/// handled message, unless the handler set its own.
fn emission(group: &str, plugin: &str, handled: &Message, outgoing: Outgoing) -> NewOutbound {
    let mut headers = outgoing.headers;
    let traced = headers.iter().any(|header| header.name.eq_ignore_ascii_case(TRACE_HEADER));
    if !traced {
        headers.extend(handled.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(TRACE_HEADER)).cloned());
    }
    let message = Message {
        id: outgoing.id,
        key: outgoing.key,
        source: plugin.to_owned(),
        topic: outgoing.topic,
        type_name: outgoing.type_name,
        kind: Kind::Event,
        time: now(),
        content_type: outgoing.content_type,
        is_tombstone: outgoing.body.is_none(),
        body: outgoing.body.unwrap_or_default(),
        hops: handled.hops.saturating_add(1),
        headers,
    };
    publish::outbound_from(&message, group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_was_cut_is_told_in_the_reason() {
        let told = reason_with_bound(Some("busy".to_owned()), Some(MAX_ASKED_WAIT * 2));
        assert_eq!(
            told.as_deref(),
            Some("busy (it asked to wait 14 days; a handler may ask for 7 days at most, which is how long it waits)")
        );
        assert_eq!(reason_with_bound(Some("busy".to_owned()), Some(MAX_ASKED_WAIT)).as_deref(), Some("busy"));
        assert_eq!(reason_with_bound(None, None), None);
    }
}
