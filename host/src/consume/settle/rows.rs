//! Makes the rows that the store writes of the machine's decisions.

use std::sync::Arc;

use courier_core::partition::{DeliveryWrite, NewState};
use courier_core::status::State;
use courier_core::verdict::Verdict;

use crate::config::Trace;
use crate::consume::attempt::finished::FinishedAttempt;
use crate::kafka::buffered::BufferedRecord;
use crate::stats::{self, BatchStats};
use crate::store::{AttemptRow, Becomes, OutcomeRow, Part, SourceHash};

/// The row of a write. `fetched` is the record of a delivery that was parked
/// without an attempt; an attempted one carries its own.
#[must_use]
pub fn row(
    write: &DeliveryWrite<Box<FinishedAttempt>>,
    fetched: Option<&Arc<BufferedRecord>>,
    node: &Arc<str>,
    trace: Trace,
) -> Option<OutcomeRow> {
    if let Some(only) = handled_at_once(write).filter(|_| trace == Trace::Failures) {
        return Some(in_handled_set(write, only, node));
    }
    let last = write.details.last();
    let buffered = last.map(|last| &last.buffered).or(fetched)?;
    let message = buffered.message();
    let is_done = matches!(write.to, NewState::Handled);
    Some(OutcomeRow {
        offset: write.offset,
        had_row: write.had_row,
        record_time: buffered.record.timestamp,
        message_id: message.id.clone(),
        source_hash: Some(SourceHash::of(&message.source)),
        key: buffered.key(),
        type_name: message.type_name.clone(),
        node: Arc::clone(node),
        received_at: buffered.received_at,
        verdict: last.map(|last| last.verdict),
        reason: last.and_then(|last| last.reason.clone()),
        fingerprint: last.and_then(|last| last.fingerprint.clone()),
        version: last.and_then(|last| last.version.clone()),
        started_at: last.filter(|last| last.invoked).map(|last| last.started_at),
        attempts_so_far: write.attempts,
        to: becomes(write, buffered),
        attempts: attempts(write, node),
        // A failed attempt publishes nothing.
        outbound: last.map(|last| last.outbound.clone()).unwrap_or_default(),
        state_writes: last.filter(|_| is_done).map(|last| last.state_writes.clone()).unwrap_or_default(),
    })
}

/// The attempt of a delivery that was HANDLED at its first, and of which the
/// store has no row.
fn handled_at_once(write: &DeliveryWrite<Box<FinishedAttempt>>) -> Option<&FinishedAttempt> {
    let only = match &write.details[..] {
        [only] if matches!(write.to, NewState::Handled) && !write.had_row && write.attempts.invoked == 1 => only,
        _ => return None,
    };
    (only.invoked && only.verdict == Verdict::Success).then_some(only)
}

/// What is written of it where no row is kept: its place, its time, and what it
/// publishes and stores.
fn in_handled_set(write: &DeliveryWrite<Box<FinishedAttempt>>, only: &FinishedAttempt, node: &Arc<str>) -> OutcomeRow {
    OutcomeRow {
        offset: write.offset,
        had_row: false,
        record_time: only.buffered.record.timestamp,
        message_id: String::new(),
        source_hash: None,
        key: None,
        type_name: String::new(),
        node: Arc::clone(node),
        received_at: only.buffered.received_at,
        verdict: Some(only.verdict),
        reason: None,
        fingerprint: None,
        version: only.version.clone(),
        started_at: Some(only.started_at),
        attempts_so_far: write.attempts,
        to: Becomes::InHandledSet { settled_at: only.finished_at },
        attempts: Vec::new(),
        outbound: only.outbound.clone(),
        state_writes: only.state_writes.clone(),
    }
}

fn becomes(write: &DeliveryWrite<Box<FinishedAttempt>>, buffered: &BufferedRecord) -> Becomes {
    // A record that is too large, or that Kafka removed, keeps only its coordinates.
    let record = || buffered.record.left_out.is_none().then(|| buffered.record.encode());
    let settled_at = write.details.last().map_or(buffered.received_at, |last| last.finished_at);
    match write.to {
        NewState::Handled => Becomes::Final { state: State::Handled, settled_at, record: None },
        NewState::Failed => Becomes::Final { state: State::HandleFail, settled_at, record: record() },
        NewState::Open { state, due, held, keep_record } => {
            Becomes::Open { state, next_attempt_at: due, held, record: keep_record.then(record).flatten() }
        }
    }
}

/// The attempts to be stored: failed ones, those of a delivery with more than
/// one, and those with a log. The only attempt of a handled delivery is shown
/// from its final row, which saves a row for each.
fn attempts(write: &DeliveryWrite<Box<FinishedAttempt>>, node: &Arc<str>) -> Vec<AttemptRow> {
    let at_once = matches!(write.to, NewState::Handled) && write.attempts.invoked == 1;
    write
        .details
        .iter()
        .filter(|one| one.invoked && (!at_once || one.log.is_some()))
        .map(|one| AttemptRow {
            number: one.attempts.invoked,
            counted: !one.verdict.never_ran(),
            version: one.version.clone(),
            node: Arc::clone(node),
            started_at: one.started_at,
            finished_at: one.finished_at,
            verdict: one.verdict,
            reason: one.reason.clone(),
            fingerprint: one.fingerprint.clone(),
            log: one.log.clone(),
        })
        .collect()
}

/// Counts the outcomes of a batch by state.
pub fn count(part: &Part) {
    let mut counts = [0_u64; State::ALL.len()];
    let mut tally = BatchStats::default();
    for outcome in &part.outcomes {
        let (state, ended) = match outcome.to {
            Becomes::Final { state, settled_at, .. } => (state, Some(settled_at)),
            Becomes::InHandledSet { settled_at } => (State::Handled, Some(settled_at)),
            Becomes::Open { state, .. } => (state, outcome.attempts.last().map(|last| last.finished_at)),
        };
        counts[state.code() as usize - 1] += 1;
        let is_final = matches!(outcome.to, Becomes::Final { .. });
        tally.given_up += u64::from(is_final && state == State::HandleFail);
        match state {
            State::Handled => tally.handled += 1,
            State::HandleFail | State::PushFail => tally.failed += 1,
            State::Committed | State::SendFail => {}
        }
        if let (Some(started), Some(ended)) = (outcome.started_at, ended) {
            tally.took.push(ended.since(started));
        }
    }
    stats::process().settled(&part.group, &tally);
    for (state, count) in State::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
        metrics::counter!("courier_deliveries_total", "group" => part.group.clone(), "state" => state.as_str())
            .increment(count);
    }
}
