//! The batches that wait for the writer, and what the next transaction takes
//! of them.
//!
//! All groups of a host share one writer. A transaction is small enough that a
//! group with few outcomes never waits long for those of groups that have many:
//! a large batch is cut into pieces, which go one after another and let others
//! pass between them.

use courier_core::message::Offset;
use courier_core::partition::Answer;
use tokio::sync::oneshot;

use crate::store::{OutcomeRow, Part};

/// A batch on its way to the store.
#[derive(Debug)]
pub struct Request {
    /// What is to be written.
    pub part: Part,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// A batch of which something is not written yet.
pub struct Waiting {
    request: Request,
    /// [`OutcomeRow::weight`] of all its outcomes.
    weight: usize,
}

impl Waiting {
    fn is_written(&self) -> bool {
        self.request.part.outcomes.is_empty()
    }

    /// Cuts off as many outcomes as weigh no more than `most`, and one at
    /// least. They stay in their order, and the position moves with the last:
    /// until then some of what lies below it is not written.
    fn cut(&mut self, most: usize) -> Part {
        let part = &mut self.request.part;
        let mut weight = 0;
        let fits = |outcome: &&OutcomeRow| {
            weight += outcome.weight();
            weight <= most
        };
        let count = part.outcomes.iter().take_while(fits).count().max(1).min(part.outcomes.len());
        let left = part.outcomes.split_off(count);
        let next = if left.is_empty() { part.next } else { Offset(0) };
        let outcomes = std::mem::replace(&mut part.outcomes, left);
        self.weight = part.outcomes.iter().map(OutcomeRow::weight).sum();
        Part { group: part.group.clone(), topic: part.topic.clone(), next, outcomes, ..*part }
    }
}

/// What waits, oldest first. No more than there are owners: each has one batch
/// under way at most.
#[derive(Default)]
pub struct Queue(Vec<Waiting>);

impl Queue {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What all that waits weighs.
    pub fn weight(&self) -> usize {
        self.0.iter().map(|one| one.weight).sum()
    }

    /// Takes a batch in.
    pub fn push(&mut self, request: Request) {
        let weight = request.part.outcomes.iter().map(OutcomeRow::weight).sum();
        self.0.push(Waiting { request, weight });
    }

    /// What the next transaction writes, and the batches that it is of.
    pub fn next_transaction(&mut self, most: usize) -> (Vec<Part>, Vec<Waiting>) {
        let weights: Vec<usize> = self.0.iter().map(|one| one.weight).collect();
        let mut shares = share_out(&weights, most).into_iter();
        let mut parts = Vec::new();
        let mut take = |one: &mut Waiting| {
            let share = shares.next().flatten();
            parts.extend(share.map(|share| one.cut(share)));
            share.is_some()
        };
        let under_way = self.0.extract_if(.., |one| take(one)).collect();
        (parts, under_way)
    }

    /// Answers the batches that are written, and those that were `stale`. What
    /// is left of one waits behind the others.
    pub fn written(&mut self, under_way: Vec<Waiting>, stale: &[usize]) {
        for (at, waiting) in under_way.into_iter().enumerate() {
            let answer = match (stale.contains(&at), waiting.is_written()) {
                (true, _) => Answer::Fenced,
                (false, true) => Answer::Written,
                (false, false) => {
                    self.0.push(waiting);
                    continue;
                }
            };
            // An owner that is gone was dropped with everything it decided.
            let _ = waiting.request.answer.send(answer);
        }
    }
}

/// How much of each batch that waits, by their weights and oldest first, the
/// next transaction takes, of `most` in all. The oldest has half of it at
/// least, so that none waits for ever; the smallest go in whole beside it, so
/// that a group with few outcomes never waits for those of groups that have
/// many.
fn share_out(weights: &[usize], most: usize) -> Vec<Option<usize>> {
    let mut shares = vec![None; weights.len()];
    let Some((&oldest, others)) = weights.split_first() else { return shares };
    let mut smallest: Vec<usize> = (1..=others.len()).collect();
    smallest.sort_by_key(|&at| weights[at]);
    let mut left = most - oldest.min(most / 2);
    for at in smallest {
        let Some(rest) = left.checked_sub(weights[at]) else { break };
        left = rest;
        shares[at] = Some(weights[at]);
    }
    shares[0] = Some(oldest.min(most / 2) + left);
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
        assert_eq!(shares(&[3, 4, 2]), [Some(4), Some(4), Some(2)]);
        // A flood stands before a few: those go beside its first piece.
        assert_eq!(shares(&[30, 6, 1, 6, 2]), [Some(7), None, Some(1), None, Some(2)]);
        // Alone it may have all.
        assert_eq!(shares(&[30]), [Some(10)]);
        // However many are small, the oldest has its half.
        assert_eq!(shares(&[30, 2, 2, 2, 2]), [Some(6), Some(2), Some(2), None, None]);
        // One that weighs nothing only moves its position.
        assert_eq!(shares(&[30, 0]), [Some(10), Some(0)]);
    }

    /// Outcomes `from..to`, each of one row.
    fn request(position: i64, offsets: std::ops::Range<i64>) -> (Request, oneshot::Receiver<Answer>) {
        let outcome = |offset| OutcomeRow {
            offset: Offset(offset),
            had_row: false,
            record_time: Timestamp(0),
            message_id: String::new(),
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
            group: "g".into(),
            topic: "t".into(),
            partition: 0,
            position: PositionId(position),
            epoch: 1,
            next: Offset(offsets.end),
            outcomes: offsets.map(outcome).collect(),
        };
        let (answer, answered) = oneshot::channel();
        (Request { part, answer }, answered)
    }

    /// What a transaction holds: position, offsets, and where it moves to.
    fn told(parts: &[Part]) -> Vec<(i64, Vec<i64>, i64)> {
        let offsets = |part: &Part| part.outcomes.iter().map(|outcome| outcome.offset.0).collect();
        parts.iter().map(|part| (part.position.0, offsets(part), part.next.0)).collect()
    }

    #[test]
    fn a_large_batch_goes_in_pieces_and_lets_others_pass() {
        let mut queue = Queue::default();
        let (large, mut of_large) = request(1, 0..7);
        let (small, mut of_small) = request(2, 0..1);
        queue.push(large);
        queue.push(small);
        assert_eq!(queue.weight(), 8);
        let (parts, under_way) = queue.next_transaction(4);
        assert_eq!(told(&parts), [(1, vec![0, 1, 2], 0), (2, vec![0], 1)], "the position waits for the last piece");
        let (third, mut of_third) = request(3, 0..4);
        queue.push(third);
        queue.written(under_way, &[]);
        assert_eq!(of_small.try_recv(), Ok(Answer::Written));
        assert!(of_large.try_recv().is_err(), "it is not written yet");
        // What is left stands behind the one that came meanwhile.
        let (parts, under_way) = queue.next_transaction(4);
        assert_eq!(told(&parts), [(3, vec![0, 1, 2, 3], 4)]);
        queue.written(under_way, &[]);
        assert_eq!(of_third.try_recv(), Ok(Answer::Written));
        let (parts, under_way) = queue.next_transaction(4);
        assert_eq!(told(&parts), [(1, vec![3, 4, 5, 6], 7)]);
        queue.written(under_way, &[]);
        assert_eq!(of_large.try_recv(), Ok(Answer::Written));
        assert!(queue.is_empty() && queue.weight() == 0);
    }

    #[test]
    fn a_stale_piece_ends_its_batch() {
        let mut queue = Queue::default();
        let (large, mut of_large) = request(1, 0..7);
        queue.push(large);
        let (_, under_way) = queue.next_transaction(4);
        queue.written(under_way, &[0]);
        assert_eq!(of_large.try_recv(), Ok(Answer::Fenced));
        assert!(queue.is_empty(), "nothing more is written of it");
    }

    #[test]
    fn an_outcome_that_weighs_more_than_a_transaction_goes_alone() {
        let mut queue = Queue::default();
        let (mut large, _) = request(1, 0..2);
        large.part.outcomes[0].state_writes = vec![("key".into(), Some(vec![0; 1024 * 1024].into()))];
        queue.push(large);
        let (parts, _) = queue.next_transaction(4);
        assert_eq!(told(&parts), [(1, vec![0], 0)]);
    }
}
