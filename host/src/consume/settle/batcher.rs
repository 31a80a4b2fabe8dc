//! Queues the batches of all partitions, and chooses what the next transaction
//! writes.
//!
//! All groups of a host share one writer. While several groups write,
//! transactions are small, so that a group with few outcomes never waits long
//! for groups with many: a large batch is cut into pieces, and batches of other
//! groups are written between them.
//!
//! A batch that the store refuses for a lasting cause stays the next batch of
//! its partition, and is tried again with back-off. Its owner starts no handler
//! meanwhile ([`SettleRequest::refused`]): their outcomes could not be kept.

use std::time::{Duration, Instant};

use courier_core::message::Offset;
use courier_core::partition::Answer;
use tokio::sync::{oneshot, watch};

use crate::store::{OutcomeRow, Part};

/// Rows of one transaction ([`OutcomeRow::weight`]) while one group has the
/// writer to itself. With 1,000 a busy host handles a twelfth less.
const MAX_ROWS_ALONE: usize = 2_000;
/// The same while several groups write: the next batch waits for all of them.
/// Smaller transactions cost a busy host a quarter of its throughput, and
/// larger ones let other groups wait longer.
const MAX_ROWS_SHARED: usize = 500;
/// How long several groups count as writing after two of them did.
const SHARED_WINDOW: Duration = Duration::from_secs(1);

/// First and longest wait of a refused batch; it doubles with each refusal.
const REFUSED_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How long to wait after something was refused this many times in a row.
pub fn refused_wait(times: u32) -> Duration {
    REFUSED_WAIT.0.saturating_mul(1 << times.saturating_sub(1).min(8)).min(REFUSED_WAIT.1)
}

/// A batch that an owner hands to the writer.
#[derive(Debug)]
pub struct SettleRequest {
    /// The rows and the position.
    pub part: Part,
    /// Receives the answer.
    pub answer: oneshot::Sender<Answer>,
    /// Tells the owner whether the store refuses the batch for a lasting cause.
    pub refused: watch::Sender<bool>,
}

/// What happens to a refused batch after its wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRefusal {
    /// It is written again, since the store may be repaired.
    Again,
    /// Its owner starts anew from the store after this time, because its state
    /// differs.
    FenceAfter(Duration),
}

/// Why a part was not written.
#[derive(Debug)]
pub struct NotWritten {
    /// Its index in the transaction.
    pub at: usize,
    /// The outcomes that are not written.
    pub left: Vec<OutcomeRow>,
    pub then: AfterRefusal,
}

/// A batch that is not written completely.
pub struct QueuedBatch {
    request: SettleRequest,
    /// The sum of [`OutcomeRow::weight`].
    weight: usize,
    /// Its wait after the last refusal, if any.
    refused_for: Option<Duration>,
}

/// A batch that was refused.
struct RefusedBatch {
    waiting: QueuedBatch,
    due: Instant,
    then: AfterRefusal,
}

impl QueuedBatch {
    /// Puts the unwritten outcomes of a piece back in front of the rest.
    fn put_back(&mut self, mut piece: Vec<OutcomeRow>) {
        let part = &mut self.request.part;
        piece.append(&mut part.outcomes);
        part.outcomes = piece;
        self.weight = part.outcomes.iter().map(OutcomeRow::weight).sum();
    }

    /// Whether its owner is gone.
    fn is_orphan(&self) -> bool {
        self.request.answer.is_closed()
    }

    fn is_written(&self) -> bool {
        self.request.part.outcomes.is_empty()
    }

    /// Cuts off the first outcomes that weigh at most `most` together, at least
    /// one. The position moves with the last piece: until then some outcomes
    /// below it are not written.
    fn cut(&mut self, most: usize) -> Part {
        let part = &mut self.request.part;
        let (mut count, mut weight) = (0, 0);
        for outcome in &part.outcomes {
            let next = weight + outcome.weight();
            if next > most && count > 0 {
                break;
            }
            (count, weight) = (count + 1, next);
        }
        self.weight -= weight;
        let left = part.outcomes.split_off(count);
        let next = if left.is_empty() { part.next } else { Offset(0) };
        let outcomes = std::mem::replace(&mut part.outcomes, left);
        Part { group: part.group.clone(), topic: part.topic.clone(), next, outcomes, ..*part }
    }
}

/// The queue.
#[derive(Default)]
pub struct Batcher {
    /// In the order of their turns: as they came, and the rest of a cut batch
    /// behind the others. Bounded by the number of owners, each of which has at
    /// most one batch.
    waiting: Vec<QueuedBatch>,
    /// Refused batches that are not due yet.
    refused: Vec<RefusedBatch>,
    /// The group of the newest batch, and when it came.
    last: Option<(String, Instant)>,
    shared_until: Option<Instant>,
}

impl Batcher {
    /// Whether no batch waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the next refused batch is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.refused.iter().map(|one| one.due).min()
    }

    /// Queues the refused batches that are due, or answers them. A batch whose
    /// owner is gone is dropped. Returns how many outcomes were dropped.
    pub fn take_due(&mut self, now: Instant) -> usize {
        let mut dropped = 0;
        let due: Vec<RefusedBatch> =
            self.refused.extract_if(.., |one| one.due <= now || one.waiting.is_orphan()).collect();
        for RefusedBatch { waiting, then, .. } in due {
            if then == AfterRefusal::Again && !waiting.is_orphan() {
                self.waiting.push(waiting);
                continue;
            }
            let SettleRequest { part, answer, refused } = waiting.request;
            dropped += part.outcomes.len();
            refused.send_replace(false);
            let _ = answer.send(Answer::Fenced);
        }
        dropped
    }

    /// Whether a whole transaction is waiting.
    pub fn is_full(&self, now: Instant) -> bool {
        self.waiting.iter().map(|one| one.weight).sum::<usize>() >= self.most(now)
    }

    /// Adds a batch.
    pub fn push(&mut self, request: SettleRequest, now: Instant) {
        let part = &request.part;
        match &mut self.last {
            // A batch that only moves its position delays nobody.
            _ if part.outcomes.is_empty() => {}
            Some((last, at)) if *last == part.group => *at = now,
            last => {
                if last.as_ref().is_some_and(|(_, at)| now.duration_since(*at) < SHARED_WINDOW) {
                    self.shared_until = Some(now + SHARED_WINDOW);
                }
                *last = Some((part.group.clone(), now));
            }
        }
        let weight = part.outcomes.iter().map(OutcomeRow::weight).sum();
        self.waiting.push(QueuedBatch { request, weight, refused_for: None });
    }

    /// Rows that the next transaction may have.
    fn most(&self, now: Instant) -> usize {
        let mut groups = self.waiting.iter().filter(|one| one.weight > 0).map(|one| &one.request.part.group);
        let first = groups.next();
        let several = groups.any(|group| Some(group) != first);
        if several || self.shared_until.is_some_and(|until| now < until) { MAX_ROWS_SHARED } else { MAX_ROWS_ALONE }
    }

    /// The parts of the next transaction, and the batches that they are of.
    pub fn next_transaction(&mut self, now: Instant) -> (Vec<Part>, Vec<QueuedBatch>) {
        let weights: Vec<usize> = self.waiting.iter().map(|one| one.weight).collect();
        let mut shares = split_capacity(&weights, self.most(now)).into_iter();
        let mut parts = Vec::new();
        let mut take = |one: &mut QueuedBatch| {
            let share = shares.next().flatten();
            parts.extend(share.map(|share| one.cut(share)));
            share.is_some()
        };
        let under_way = self.waiting.extract_if(.., |one| take(one)).collect();
        (parts, under_way)
    }

    /// Answers the batches that are written and those that were `stale`, queues
    /// the rest of a cut batch behind the others, and lets `refused` ones wait.
    /// Returns how many outcomes of stale batches are dropped.
    pub fn written(
        &mut self,
        under_way: Vec<QueuedBatch>,
        stale: &[usize],
        mut refused: Vec<NotWritten>,
        now: Instant,
    ) -> usize {
        let mut dropped = 0;
        for (at, mut waiting) in under_way.into_iter().enumerate() {
            if let Some(found) = refused.iter().position(|one| one.at == at) {
                let NotWritten { left, then, .. } = refused.swap_remove(found);
                self.refuse(waiting, left, then, now);
                continue;
            }
            if waiting.refused_for.take().is_some() {
                waiting.request.refused.send_replace(false);
            }
            let is_stale = stale.contains(&at);
            if !is_stale && !waiting.is_written() {
                self.waiting.push(waiting);
                continue;
            }
            let SettleRequest { part, answer, .. } = waiting.request;
            dropped += part.outcomes.len();
            // An owner that is gone drops its outcomes with it.
            let _ = answer.send(if is_stale { Answer::Fenced } else { Answer::Written });
        }
        dropped
    }

    fn refuse(&mut self, mut waiting: QueuedBatch, left: Vec<OutcomeRow>, then: AfterRefusal, now: Instant) {
        waiting.put_back(left);
        let wait = match (then, waiting.refused_for) {
            (AfterRefusal::FenceAfter(wait), _) => wait,
            (AfterRefusal::Again, Some(wait)) => (wait * 2).min(REFUSED_WAIT.1),
            (AfterRefusal::Again, None) => REFUSED_WAIT.0,
        };
        waiting.refused_for = Some(wait);
        waiting.request.refused.send_replace(true);
        self.refused.push(RefusedBatch { waiting, due: now + wait, then });
    }
}

/// Splits `most` rows among the waiting batches, given by weight, oldest first.
/// The oldest has at least half, so that none waits for ever. The smallest are
/// written whole beside it, so that a group with few outcomes never waits for
/// groups with many. The rest goes to the oldest and the next ones.
fn split_capacity(weights: &[usize], most: usize) -> Vec<Option<usize>> {
    let mut shares = vec![None; weights.len()];
    let Some((&oldest, others)) = weights.split_first() else { return shares };
    let mut smallest: Vec<usize> = (1..=others.len()).collect();
    smallest.sort_by_key(|&at| weights[at]);
    let half = oldest.min(most / 2);
    shares[0] = Some(half);
    let mut left = most - half;
    for at in smallest {
        let Some(rest) = left.checked_sub(weights[at]) else { break };
        left = rest;
        shares[at] = Some(weights[at]);
    }
    for (share, weight) in shares.iter_mut().zip(weights) {
        let more = left.min(weight - share.unwrap_or(0));
        if more > 0 {
            *share = Some(share.unwrap_or(0) + more);
            left -= more;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use courier_core::message::{Attempts, Timestamp};
    use courier_core::status::State;
    use courier_core::verdict::Verdict;

    use super::*;
    use crate::store::{Becomes, PositionId};

    #[test]
    fn the_oldest_batch_has_its_half_and_the_smallest_go_beside_it() {
        let shares = |weights: &[usize]| split_capacity(weights, 10);
        assert!(shares(&[]).is_empty());
        assert_eq!(shares(&[3, 4, 2]), [Some(3), Some(4), Some(2)]);
        // A flood stands before a few: those go beside its first piece.
        assert_eq!(shares(&[30, 6, 1, 6, 2]), [Some(7), None, Some(1), None, Some(2)]);
        // What the oldest does not need is a piece of the next.
        assert_eq!(shares(&[6, 6, 1, 6]), [Some(6), Some(3), Some(1), None]);
        // Alone it may have all.
        assert_eq!(shares(&[30]), [Some(10)]);
        // However many are small, the oldest has its half.
        assert_eq!(shares(&[30, 2, 2, 2, 2]), [Some(6), Some(2), Some(2), None, None]);
        // One that weighs nothing only moves its position.
        assert_eq!(shares(&[30, 0]), [Some(10), Some(0)]);
    }

    /// Outcomes of a group, each of one row.
    fn request(group: &str, offsets: std::ops::Range<i64>) -> (SettleRequest, oneshot::Receiver<Answer>) {
        let outcome = |offset| OutcomeRow {
            offset: Offset(offset),
            had_row: false,
            record_time: Timestamp(0),
            message_id: String::new(),
            source_hash: None,
            key: None,
            type_name: String::new(),
            node: "host-1".into(),
            received_at: Timestamp(0),
            verdict: Some(Verdict::Success),
            reason: None,
            fingerprint: None,
            version: None,
            started_at: None,
            attempts_so_far: Attempts { invoked: 1, used: 1 },
            to: Becomes::Final { state: State::Handled, settled_at: Timestamp(0), record: None },
            attempts: Vec::new(),
            outbound: Vec::new(),
            state_writes: Vec::new(),
        };
        let part = Part {
            group: group.into(),
            topic: "t".into(),
            partition: 0,
            position: PositionId(1),
            epoch: 1,
            next: Offset(offsets.end),
            outcomes: offsets.map(outcome).collect(),
        };
        let (answer, answered) = oneshot::channel();
        (SettleRequest { part, answer, refused: watch::Sender::new(false) }, answered)
    }

    /// What a transaction holds: groups, offsets, and where positions move to.
    fn told(parts: &[Part]) -> Vec<(&str, std::ops::Range<i64>, i64)> {
        let range = |part: &Part| {
            let offsets: Vec<i64> = part.outcomes.iter().map(|outcome| outcome.offset.0).collect();
            assert!(offsets.is_sorted(), "outcomes keep their order: {offsets:?}");
            offsets[0]..offsets[offsets.len() - 1] + 1
        };
        parts.iter().map(|part| (part.group.as_str(), range(part), part.next.0)).collect()
    }

    const LARGE: i64 = MAX_ROWS_SHARED as i64 + 200;

    #[test]
    fn a_large_batch_goes_in_pieces_and_lets_others_pass() {
        let (mut queue, now) = (Batcher::default(), Instant::now());
        let (large, mut of_large) = request("large", 0..LARGE);
        let (small, mut of_small) = request("small", 0..1);
        queue.push(large, now);
        assert!(!queue.is_full(now), "alone it may have more");
        queue.push(small, now);
        assert!(queue.is_full(now));
        let (parts, under_way) = queue.next_transaction(now);
        let first = MAX_ROWS_SHARED as i64 - 1;
        assert_eq!(told(&parts), [("large", 0..first, 0), ("small", 0..1, 1)], "the position waits for the last piece");
        queue.written(under_way, &[], Vec::new(), now);
        assert_eq!(of_small.try_recv(), Ok(Answer::Written));
        assert!(of_large.try_recv().is_err(), "it is not written yet");
        // What is left goes with a piece of what came meanwhile.
        let (third, mut of_third) = request("third", 0..MAX_ROWS_SHARED as i64);
        queue.push(third, now);
        let (parts, under_way) = queue.next_transaction(now);
        let cut = MAX_ROWS_SHARED as i64 - (LARGE - first);
        assert_eq!(told(&parts), [("large", first..LARGE, LARGE), ("third", 0..cut, 0)]);
        queue.written(under_way, &[], Vec::new(), now);
        assert_eq!(of_large.try_recv(), Ok(Answer::Written));
        let (parts, under_way) = queue.next_transaction(now);
        assert_eq!(told(&parts), [("third", cut..MAX_ROWS_SHARED as i64, MAX_ROWS_SHARED as i64)]);
        queue.written(under_way, &[], Vec::new(), now);
        assert_eq!(of_third.try_recv(), Ok(Answer::Written));
        assert!(queue.is_empty() && !queue.is_full(now));
    }

    #[test]
    fn a_group_that_is_alone_writes_more_at_once() {
        let (mut queue, begun) = (Batcher::default(), Instant::now());
        let later = begun + SHARED_WINDOW + Duration::from_millis(1);
        queue.push(request("other", 0..1).0, begun);
        queue.next_transaction(begun);
        queue.push(request("large", 0..LARGE).0, later);
        assert_eq!(told(&queue.next_transaction(later).0), [("large", 0..LARGE, LARGE)]);
        // The other one is back, and for a while it may come again.
        queue.push(request("other", 1..2).0, later);
        queue.next_transaction(later);
        queue.push(request("large", LARGE..2 * LARGE).0, later);
        assert_eq!(told(&queue.next_transaction(later).0), [("large", LARGE..LARGE + MAX_ROWS_SHARED as i64, 0)]);
    }

    #[test]
    fn a_stale_piece_ends_its_batch() {
        let (mut queue, now) = (Batcher::default(), Instant::now());
        let (large, mut of_large) = request("large", 0..2 * MAX_ROWS_ALONE as i64);
        queue.push(large, now);
        let (_, under_way) = queue.next_transaction(now);
        assert_eq!(
            queue.written(under_way, &[0], Vec::new(), now),
            MAX_ROWS_ALONE,
            "so many are left and were never tried"
        );
        assert_eq!(of_large.try_recv(), Ok(Answer::Fenced));
        assert!(queue.is_empty(), "nothing more is written of it");
    }

    #[test]
    fn a_refused_batch_keeps_its_place_and_is_tried_ever_more_rarely() {
        let (mut queue, mut now) = (Batcher::default(), Instant::now());
        let (large, mut of_large) = request("large", 0..LARGE);
        let mut refused = large.refused.subscribe();
        queue.push(large, now);
        queue.push(request("small", 0..1).0, now);
        let (mut parts, under_way) = queue.next_transaction(now);
        // Of its first piece the first outcome was written before the refusal.
        let left = parts.swap_remove(0).outcomes.split_off(1);
        queue.written(under_way, &[], vec![NotWritten { at: 0, left, then: AfterRefusal::Again }], now);
        assert!(*refused.borrow_and_update() && queue.is_empty(), "nothing else of its partition goes");
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            let wait = Duration::from_secs(expected);
            assert_eq!(queue.next_due(), Some(now + wait));
            assert_eq!(queue.take_due(now + wait / 2), 0);
            assert!(queue.is_empty());
            now += wait;
            queue.take_due(now);
            let (mut parts, under_way) = queue.next_transaction(now);
            assert_eq!(parts[0].outcomes[0].offset, Offset(1), "in its order");
            let left = std::mem::take(&mut parts[0].outcomes);
            queue.written(under_way, &[], vec![NotWritten { at: 0, left, then: AfterRefusal::Again }], now);
        }
        now += REFUSED_WAIT.1;
        queue.take_due(now);
        while !queue.is_empty() {
            let (_, under_way) = queue.next_transaction(now);
            queue.written(under_way, &[], Vec::new(), now);
        }
        assert_eq!(of_large.try_recv(), Ok(Answer::Written), "once the store is mended all of it is written");
        assert!(!*refused.borrow());
    }

    #[test]
    fn what_does_not_fit_the_store_starts_anew_later_and_what_nobody_waits_for_is_dropped() {
        let (mut queue, now) = (Batcher::default(), Instant::now());
        let (fault, mut of_fault) = request("fault", 0..2);
        queue.push(fault, now);
        let (mut parts, under_way) = queue.next_transaction(now);
        let left = std::mem::take(&mut parts[0].outcomes);
        queue.written(
            under_way,
            &[],
            vec![NotWritten { at: 0, left, then: AfterRefusal::FenceAfter(REFUSED_WAIT.0) }],
            now,
        );
        assert!(of_fault.try_recv().is_err(), "its owner would only run its handlers again");
        assert_eq!(queue.take_due(now + REFUSED_WAIT.0), 2);
        assert_eq!(of_fault.try_recv(), Ok(Answer::Fenced));
        let (gone, of_gone) = request("gone", 0..3);
        queue.push(gone, now);
        let (mut parts, under_way) = queue.next_transaction(now);
        let left = std::mem::take(&mut parts[0].outcomes);
        queue.written(under_way, &[], vec![NotWritten { at: 0, left, then: AfterRefusal::Again }], now);
        drop(of_gone);
        assert_eq!(queue.take_due(now), 3);
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn an_outcome_that_weighs_more_than_a_transaction_goes_alone() {
        let (mut queue, now) = (Batcher::default(), Instant::now());
        let (mut large, _) = request("large", 0..2);
        large.part.outcomes[0].state_writes = vec![("key".into(), Some(vec![0; 2 * 1024 * 1024].into()))];
        queue.push(large, now);
        assert_eq!(told(&queue.next_transaction(now).0), [("large", 0..1, 0)]);
    }
}
