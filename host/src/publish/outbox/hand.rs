//! The rows in hand: those that the store has and the source still has too. Pure.
//!
//! The rows in hand are bounded for each topic, so that a topic that Kafka does
//! not take now leaves room for others: a topic at its bound is skipped by the
//! next looks, and its rows wait at their source. No row of a topic is taken
//! before an earlier one of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courier_core::message::Timestamp;
use courier_core::status::State;
use tokio::time::Instant;

use super::source::RowRef;
use crate::publish::waker::Watch;
use crate::store::Identity;

/// Rows in hand of one topic, while there is room.
const TOPIC_ROWS: usize = 4_000;
/// Rows in hand of all topics above which each topic may have only
/// [`TOPIC_ROWS_LEAST`], so that many topics which stand still leave room for
/// others.
const AMPLE_ROWS: usize = 16_000;
const TOPIC_ROWS_LEAST: usize = 100;
/// Rows in hand of all topics; beyond it nothing more is read.
const ALL_ROWS: usize = 64_000;
/// Oversized rows that may stay at their source.
const STAYING_ROWS: usize = 1_000;
/// When an oversized row is read again, since it may be smaller now.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How long no row of a topic may end before the topic counts as standing
/// still.
const STANDS_STILL_AFTER: Duration = Duration::from_secs(10);

/// A row that the store has and the source still has too.
pub(super) struct HeldRow {
    /// Its id at the source.
    pub row_id: Option<Bytes>,
    /// Its message; none before the store took it.
    pub message: Option<Identity>,
    /// The topic it is for.
    pub topic: Arc<str>,
    /// When it was written.
    pub created_at: Option<Timestamp>,
    /// Tells how it ends, if a relay of this process sends it.
    pub watch: Option<Watch>,
    /// Its state, once nothing more happens to it.
    pub ended: Option<State>,
}

/// How many rows of a topic are held, and when one of them ended last.
struct HeldTopic {
    rows: usize,
    moved_at: Instant,
}

/// A topic none of whose rows has ended for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StandingTopic {
    pub topic: Arc<str>,
    pub rows: usize,
    pub since: Instant,
}

/// The rows in hand.
#[derive(Default)]
pub(super) struct Hand {
    rows: BTreeMap<i64, HeldRow>,
    topics: HashMap<Arc<str>, HeldTopic>,
    staying: BTreeMap<i64, Instant>,
}

impl Hand {
    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many rows are held.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether a row is held.
    pub fn holds(&self, seq: i64) -> bool {
        self.rows.contains_key(&seq)
    }

    /// How many rows stay at their source for being too large.
    pub fn staying(&self) -> usize {
        self.staying.len()
    }

    /// Whether more may be read.
    pub fn has_space(&self) -> bool {
        self.rows.len() < ALL_ROWS && self.staying.len() < STAYING_ROWS
    }

    /// Whether a row for the topic may be taken.
    pub fn has_room(&self, topic: &str) -> bool {
        let bound = if self.rows.len() < AMPLE_ROWS { TOPIC_ROWS } else { TOPIC_ROWS_LEAST };
        self.topics.get(topic).is_none_or(|held| held.rows < bound)
    }

    /// The topics whose rows are left out of a look.
    pub fn full_topics(&self) -> Vec<String> {
        self.topics.keys().filter(|topic| !self.has_room(topic)).map(|topic| topic.to_string()).collect()
    }

    /// The numbers that are left out of a look beside those topics.
    pub fn numbers(&self) -> Vec<i64> {
        let held = self.rows.iter().filter(|(_, row)| self.has_room(&row.topic)).map(|(seq, _)| *seq);
        held.chain(self.staying.keys().copied()).collect()
    }

    /// Holds a row.
    pub fn hold(&mut self, seq: i64, row: HeldRow, now: Instant) {
        let topic = Arc::clone(&row.topic);
        if self.rows.insert(seq, row).is_none() {
            let held = self.topics.entry(topic).or_insert(HeldTopic { rows: 0, moved_at: now });
            held.rows += 1;
        }
    }

    /// Notes under which message the store has a row.
    pub fn taken(&mut self, seq: i64, message: Option<Identity>, watch: Option<Watch>) {
        if let Some(row) = self.rows.get_mut(&seq) {
            (row.message, row.watch) = (message, watch);
        }
    }

    /// Skips an oversized row.
    pub fn let_stay(&mut self, seq: i64, now: Instant) {
        self.staying.insert(seq, now);
    }

    /// Lets oversized rows be read once more, when it is time.
    pub fn look_again(&mut self, now: Instant) {
        self.staying.retain(|_, since| now.duration_since(*since) < LOOK_AGAIN);
    }

    /// Rows that have not ended yet, as far as is known.
    pub fn open(&mut self) -> impl Iterator<Item = (&i64, &mut HeldRow)> {
        self.rows.iter_mut().filter(|(_, row)| row.ended.is_none())
    }

    /// Notes how a row ended.
    pub fn end(&mut self, seq: i64, state: State, now: Instant) {
        let Some(row) = self.rows.get_mut(&seq) else { return };
        row.ended = Some(state);
        if let Some(held) = self.topics.get_mut(&row.topic) {
            held.moved_at = now;
        }
    }

    /// The rows that ended, and how.
    pub fn ended(&self) -> impl Iterator<Item = (RowRef, State)> {
        self.rows.iter().filter_map(|(seq, row)| Some(((*seq, row.row_id.clone()), row.ended?)))
    }

    /// Whether at least so many rows have ended.
    pub fn has_ended(&self, rows: usize) -> bool {
        self.rows.values().filter(|row| row.ended.is_some()).take(rows).count() >= rows
    }

    /// Forgets a row that is gone at its source.
    pub fn forget(&mut self, seq: i64) {
        let Some(row) = self.rows.remove(&seq) else { return };
        if let Some(held) = self.topics.get_mut(&row.topic) {
            held.rows -= 1;
            if held.rows == 0 {
                self.topics.remove(&row.topic);
            }
        }
    }

    /// When the oldest row was written.
    pub fn oldest_at(&self) -> Option<Timestamp> {
        self.rows.values().next().and_then(|row| row.created_at)
    }

    /// The topic that has stood still for longest, if any does.
    pub fn standing_topic(&self, now: Instant) -> Option<StandingTopic> {
        let still = self.topics.iter().filter(|(_, held)| now.duration_since(held.moved_at) >= STANDS_STILL_AFTER);
        // Rows that ended only wait for their deletion.
        let open = |topic: &Arc<str>| self.rows.values().any(|row| row.topic == *topic && row.ended.is_none());
        let (topic, held) =
            still.filter(|(topic, _)| open(topic)).min_by_key(|(topic, held)| (held.moved_at, Arc::clone(topic)))?;
        Some(StandingTopic { topic: Arc::clone(topic), rows: held.rows, since: held.moved_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(topic: &str) -> HeldRow {
        HeldRow { row_id: None, message: None, topic: topic.into(), created_at: None, watch: None, ended: None }
    }

    fn fill(hand: &mut Hand, topic: &str, first: i64, now: Instant) -> i64 {
        let mut seq = first;
        while hand.has_room(topic) {
            hand.hold(seq, row(topic), now);
            seq += 1;
        }
        seq
    }

    #[test]
    fn a_topic_that_stands_still_leaves_room_for_the_others() {
        let (mut hand, now) = (Hand::default(), Instant::now());
        let next = fill(&mut hand, "away", 0, now);
        assert_eq!((hand.len(), hand.full_topics()), (TOPIC_ROWS, vec!["away".to_owned()]));
        assert!(hand.has_space() && hand.has_room("healthy"));
        assert!(hand.numbers().is_empty(), "rows of a topic that is left out need not be named");
        hand.hold(next, row("healthy"), now);
        assert_eq!(hand.numbers(), [next]);
        hand.end(0, State::Committed, now);
        assert_eq!(hand.ended().collect::<Vec<_>>(), [((0, None), State::Committed)]);
        hand.forget(0);
        assert!(hand.has_room("away"));
    }

    #[test]
    fn many_topics_that_stand_still_leave_room_too() {
        let (mut hand, now) = (Hand::default(), Instant::now());
        let mut seq = 0;
        for number in 0..200 {
            seq = fill(&mut hand, &format!("away-{number}"), seq, now);
        }
        assert!(hand.has_space() && hand.has_room("healthy"), "{} rows", hand.len());
        assert_eq!(hand.len(), AMPLE_ROWS + (200 - AMPLE_ROWS / TOPIC_ROWS) * TOPIC_ROWS_LEAST);
    }

    #[test]
    fn a_topic_is_told_to_stand_still_once_no_row_of_it_ended_for_a_while() {
        let (mut hand, since) = (Hand::default(), Instant::now());
        hand.hold(1, row("away"), since);
        hand.hold(2, row("healthy"), since);
        assert_eq!(hand.standing_topic(since), None);
        let later = since + STANDS_STILL_AFTER;
        hand.end(2, State::Committed, later);
        assert_eq!(hand.standing_topic(later), Some(StandingTopic { topic: "away".into(), rows: 1, since }));
        hand.end(1, State::Committed, later);
        assert_eq!(hand.standing_topic(later + STANDS_STILL_AFTER), None, "what ended does not wait for kafka");
    }

    #[test]
    fn a_row_that_stays_is_looked_at_again() {
        let (mut hand, now) = (Hand::default(), Instant::now());
        hand.let_stay(5, now);
        assert_eq!(hand.numbers(), [5]);
        hand.look_again(now);
        assert_eq!(hand.staying(), 1);
        hand.look_again(now + LOOK_AGAIN);
        assert_eq!(hand.staying(), 0);
    }
}
