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
    let is_open = matches!(write.to, NewState::Open { .. });
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
        // A failed attempt publishes nothing, except the dead letter of a delivery that
        // ends: one that runs again although its attempt was the last has none.
        outbound: last.filter(|_| !is_open).map(|last| last.outbound.clone()).unwrap_or_default(),
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

#[cfg(test)]
mod tests {
    use courier_core::message::{Attempts, Kind, Offset, Timestamp};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::kafka::buffered::TopicPartition;
    use crate::kafka::record::Record;
    use crate::store::NewOutbound;

    async fn lost() -> FinishedAttempt {
        let room = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let place = TopicPartition { topic: "order".into(), partition: 0, kind: Kind::Event };
        let record = Record::removed(Some("key".into()));
        let buffered = BufferedRecord::reread(place, Offset(7), record, (Timestamp(5), None), room);
        FinishedAttempt::lost(Arc::new(buffered), Attempts { invoked: 2, used: 2 })
    }

    fn written(finished: FinishedAttempt, to: NewState) -> OutcomeRow {
        let attempts = finished.attempts;
        let write = DeliveryWrite { offset: Offset(7), had_row: true, to, attempts, details: vec![Box::new(finished)] };
        row(&write, None, &"host-1".into(), Trace::All).unwrap()
    }

    /// A retry of the failed delivery read an empty record from its row and ran the
    /// handler with it.
    #[tokio::test]
    async fn nothing_is_kept_of_a_record_that_kafka_removed() {
        let row = written(lost().await, NewState::Failed);
        assert!(matches!(row.to, Becomes::Final { state: State::HandleFail, record: None, .. }), "{:?}", row.to);
    }

    /// The attempt was the last and wrote a dead letter, and a rerun was requested
    /// meanwhile.
    #[tokio::test]
    async fn a_delivery_that_runs_again_leaves_no_dead_letter() {
        let outbound = |to| async move {
            let dead_letter = NewOutbound {
                message_id: "m".to_owned(),
                topic: "dlq.order.stock".to_owned(),
                type_name: String::new(),
                source: String::new(),
                key: None,
                record: "record".into(),
                shard: 0,
                held_for: None,
                listed: false,
                group: Some("stock".to_owned()),
            };
            written(FinishedAttempt { outbound: vec![dead_letter], ..lost().await }, to).outbound.len()
        };
        assert_eq!(outbound(NewState::Failed).await, 1);
        let open =
            NewState::Open { state: State::HandleFail, due: Some(Timestamp(9)), held: false, keep_record: false };
        assert_eq!(outbound(open).await, 0);
    }
}
