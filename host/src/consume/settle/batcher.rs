//! The batches that wait for the writer, and what the next transaction takes
//! of them.
//!
//! All groups of a host share one writer. Where several write, a transaction is
//! small enough that a group with few outcomes never waits long for those of
//! groups that have many: a large batch is cut into pieces, which go one after
//! another and let others pass between them.
//!
//! A batch that the store refuses for a cause that lasts keeps its place as the
//! partition's next one, and is tried again ever more rarely. Its owner starts
//! no handler meanwhile ([`SettleRequest::refused`]): the outcomes could not be kept.

use std::time::{Duration, Instant};

use courier_core::message::Offset;
use courier_core::partition::Answer;
use tokio::sync::{oneshot, watch};

use crate::store::{OutcomeRow, Part};

/// What one transaction writes at most, in rows ([`OutcomeRow::weight`]), while
/// one group has the writer to itself.
const ALONE: usize = 1_000;
/// The same while several groups write: whoever comes next waits for all of it.
/// Smaller ones cost a busy host a quarter of what it can do, and larger ones
/// let the others wait longer.
const SHARED: usize = 500;
/// How long after two groups wrote one after the other it counts as several.
const LATELY: Duration = Duration::from_secs(1);

/// How long a batch that was refused waits until it is tried again; doubles
/// with each refusal, up to the longest.
const REFUSED_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How long to wait after something was refused this many times in a row.
pub fn refused_wait(times: u32) -> Duration {
    REFUSED_WAIT.0.saturating_mul(1 << times.saturating_sub(1).min(8)).min(REFUSED_WAIT.1)
}

/// A batch on its way to the store.
#[derive(Debug)]
pub struct SettleRequest {
    /// What is to be written.
    pub part: Part,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
    /// Whether the store refuses to write it, for a cause that lasts.
    pub refused: watch::Sender<bool>,
}

/// What becomes of a batch that waits after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRefusal {
    /// It is written again: the store may have been mended.
    Again,
    /// Its owner starts anew from what is stored, after this time: what it
    /// believes differs.
    FenceAfter(Duration),
}

/// Why a part was not written.
#[derive(Debug)]
pub struct NotWritten {
    /// Which of the transaction's parts.
    pub at: usize,
    /// What of it is not written.
    pub left: Vec<OutcomeRow>,
    /// What happens next.
    pub then: AfterRefusal,
}

/// A batch of which something is not written yet.
pub struct QueuedBatch {
    request: SettleRequest,
    /// [`OutcomeRow::weight`] of all its outcomes.
    weight: usize,
    /// How long it waited after the last refusal, if there was one.
    refused_for: Option<Duration>,
}

/// A batch that was refused.
struct RefusedBatch {
    waiting: QueuedBatch,
    due: Instant,
    then: AfterRefusal,
}

impl QueuedBatch {
    /// Puts back what of a piece was not written, in front of the rest.
    fn put_back(&mut self, mut piece: Vec<OutcomeRow>) {
        let part = &mut self.request.part;
        piece.append(&mut part.outcomes);
        part.outcomes = piece;
        self.weight = part.outcomes.iter().map(OutcomeRow::weight).sum();
    }

    /// Whether nobody wants to know what becomes of it.
    fn is_orphan(&self) -> bool {
        self.request.answer.is_closed()
    }

    fn is_written(&self) -> bool {
        self.request.part.outcomes.is_empty()
    }

    /// Cuts off as many outcomes as weigh no more than `most`, and one at
    /// least. They stay in their order, and the position moves with the last:
    /// until then some of what lies below it is not written.
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

/// What waits.
#[derive(Default)]
pub struct Batcher {
    /// In the order of their turns: as they came, and what is left of one that
    /// was cut behind the others. No more than there are owners: each has one
    /// batch under way at most.
    waiting: Vec<QueuedBatch>,
    /// What was refused and is not due yet.
    refused: Vec<RefusedBatch>,
    /// The group that came last, and when.
    last: Option<(String, Instant)>,
    /// Until when several groups count as writing.
    shared_until: Option<Instant>,
}

impl Batcher {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the next one that was refused is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.refused.iter().map(|one| one.due).min()
    }

    /// Lets those wait again that were refused and are due, or answers them.
    /// One whose owner is gone is dropped with it; answers how many outcomes
    /// nobody writes any more.
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

    /// Whether as much waits as one transaction takes.
    pub fn is_full(&self, now: Instant) -> bool {
        self.waiting.iter().map(|one| one.weight).sum::<usize>() >= self.most(now)
    }

    /// Takes a batch in.
    pub fn push(&mut self, request: SettleRequest, now: Instant) {
        let part = &request.part;
        match &mut self.last {
            // One that only moves its position is nobody to wait for.
            _ if part.outcomes.is_empty() => {}
            Some((last, at)) if *last == part.group => *at = now,
            last => {
                if last.as_ref().is_some_and(|(_, at)| now.duration_since(*at) < LATELY) {
                    self.shared_until = Some(now + LATELY);
                }
                *last = Some((part.group.clone(), now));
            }
        }
        let weight = part.outcomes.iter().map(OutcomeRow::weight).sum();
        self.waiting.push(QueuedBatch { request, weight, refused_for: None });
    }

    /// What the next transaction may take.
    fn most(&self, now: Instant) -> usize {
        let mut groups = self.waiting.iter().filter(|one| one.weight > 0).map(|one| &one.request.part.group);
        let first = groups.next();
        let several = groups.any(|group| Some(group) != first);
        if several || self.shared_until.is_some_and(|until| now < until) { SHARED } else { ALONE }
    }

    /// What the next transaction writes, and the batches that it is of.
    pub fn next_transaction(&mut self, now: Instant) -> (Vec<Part>, Vec<QueuedBatch>) {
        let weights: Vec<usize> = self.waiting.iter().map(|one| one.weight).collect();
        let mut shares = share_out(&weights, self.most(now)).into_iter();
        let mut parts = Vec::new();
        let mut take = |one: &mut QueuedBatch| {
            let share = shares.next().flatten();
            parts.extend(share.map(|share| one.cut(share)));
            share.is_some()
        };
        let under_way = self.waiting.extract_if(.., |one| take(one)).collect();
        (parts, under_way)
    }

    /// Answers the batches that are written, and those that were `stale`. What
    /// is left of one waits behind the others; what is left of a stale one is
    /// not tried any more, and how many outcomes that are is returned. What was
    /// `refused` waits.
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
            // An owner that is gone was dropped with everything it decided.
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

/// How much of each batch that waits, by their weights and oldest first, the
/// next transaction takes, of `most` in all. The oldest has half of it at
/// least, so that none waits for ever; the smallest go in whole beside it, so
/// that a group with few outcomes never waits for those of groups that have
/// many; and what is left is for the oldest again, and the next ones.
fn share_out(weights: &[usize], most: usize) -> Vec<Option<usize>> {
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
    use courier_core::message::Timestamp;
    use courier_core::status::State;
    use courier_core::verdict::Verdict;

    use super::*;
    use crate::store::{Becomes, PositionId};

    #[test]
    fn the_oldest_batch_has_its_half_and_the_smallest_go_beside_it() {
        let shares = |weights: &[usize]| share_out(weights, 10);
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
            number: 1,
            counted: 1,
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

    const LARGE: i64 = SHARED as i64 + 200;

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
        let first = SHARED as i64 - 1;
        assert_eq!(told(&parts), [("large", 0..first, 0), ("small", 0..1, 1)], "the position waits for the last piece");
        queue.written(under_way, &[], Vec::new(), now);
        assert_eq!(of_small.try_recv(), Ok(Answer::Written));
        assert!(of_large.try_recv().is_err(), "it is not written yet");
        // What is left goes with a piece of what came meanwhile.
        let (third, mut of_third) = request("third", 0..SHARED as i64);
        queue.push(third, now);
        let (parts, under_way) = queue.next_transaction(now);
        let cut = SHARED as i64 - (LARGE - first);
        assert_eq!(told(&parts), [("large", first..LARGE, LARGE), ("third", 0..cut, 0)]);
        queue.written(under_way, &[], Vec::new(), now);
        assert_eq!(of_large.try_recv(), Ok(Answer::Written));
        let (parts, under_way) = queue.next_transaction(now);
        assert_eq!(told(&parts), [("third", cut..SHARED as i64, SHARED as i64)]);
        queue.written(under_way, &[], Vec::new(), now);
        assert_eq!(of_third.try_recv(), Ok(Answer::Written));
        assert!(queue.is_empty() && !queue.is_full(now));
    }

    #[test]
    fn a_group_that_is_alone_writes_more_at_once() {
        let (mut queue, begun) = (Batcher::default(), Instant::now());
        let later = begun + LATELY + Duration::from_millis(1);
        queue.push(request("other", 0..1).0, begun);
        queue.next_transaction(begun);
        queue.push(request("large", 0..LARGE).0, later);
        assert_eq!(told(&queue.next_transaction(later).0), [("large", 0..LARGE, LARGE)]);
        // The other one is back, and for a while it may come again.
        queue.push(request("other", 1..2).0, later);
        queue.next_transaction(later);
        queue.push(request("large", LARGE..2 * LARGE).0, later);
        assert_eq!(told(&queue.next_transaction(later).0), [("large", LARGE..LARGE + SHARED as i64, 0)]);
    }

    #[test]
    fn a_stale_piece_ends_its_batch() {
        let (mut queue, now) = (Batcher::default(), Instant::now());
        let (large, mut of_large) = request("large", 0..2 * ALONE as i64);
        queue.push(large, now);
        let (_, under_way) = queue.next_transaction(now);
        assert_eq!(queue.written(under_way, &[0], Vec::new(), now), ALONE, "so many are left and were never tried");
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
