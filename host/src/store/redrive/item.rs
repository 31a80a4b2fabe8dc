//! The items of a redrive: each a delivery, where it stands, and what may
//! become of it.
//!
//! That is decided here, once for both dialects: [`step`] when its turn has
//! come, [`result`] from what its delivery came to.

use bytes::Bytes;
use courier_core::message::{Kind, Timestamp};
use courier_core::status::State;

use crate::store::{DeliveryKey, StoreError};

/// Where an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemState {
    /// Not asked for yet.
    Waiting,
    /// Asked for; its outcome is not durable yet.
    Running,
    /// It ended HANDLED.
    Handled,
    /// It ended HANDLE_FAIL, or its lane is held for it.
    HandleFail,
    /// It was not run; the reason says why.
    Skipped,
}

impl ItemState {
    const ALL: [Self; 5] = [Self::Waiting, Self::Running, Self::Handled, Self::HandleFail, Self::Skipped];

    /// The word that people and programs see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "WAITING",
            Self::Running => "RUNNING",
            Self::Handled => "HANDLED",
            Self::HandleFail => "HANDLE_FAIL",
            Self::Skipped => "SKIPPED",
        }
    }

    /// The number that stores keep; it never changes.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Self::Waiting => 1,
            Self::Running => 2,
            Self::Handled => 3,
            Self::HandleFail => 4,
            Self::Skipped => 5,
        }
    }

    /// The state with this [`code`](Self::code).
    ///
    /// # Errors
    /// When there is none.
    pub fn from_code(code: i16) -> Result<Self, StoreError> {
        let found = Self::ALL.into_iter().find(|state| state.code() == code);
        found.ok_or_else(|| StoreError::Bug(format!("a row holds the unknown item state {code}")))
    }
}

/// An item as people see it.
#[derive(Clone, Debug, PartialEq)]
pub struct RedriveItemRow {
    /// Its place in the plan, from 1.
    pub seq: i64,
    pub key: DeliveryKey,
    /// The message; none where a replay has not read it yet.
    pub message_id: Option<String>,
    pub topic: String,
    pub partition: i32,
    /// Where it stands.
    pub state: ItemState,
    /// Why it failed or was not run.
    pub reason: Option<String>,
    /// When it was asked for.
    pub asked_at: Option<Timestamp>,
    /// When its outcome was decided.
    pub finished_at: Option<Timestamp>,
}

/// An item whose turn has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueItem {
    /// Its place in the plan.
    pub seq: i64,
    pub key: DeliveryKey,
    pub group: String,
    pub topic: String,
    pub partition: i32,
    /// Which of the topic's messages: broadcasts lie in a companion of it.
    pub kind: Kind,
    /// Whether the store has a row for it, open or final.
    pub has_row: bool,
    /// Whether the store has its record.
    pub has_record: bool,
}

/// What is to be done with an item.
#[derive(Clone, Debug)]
pub enum ItemAsk {
    /// Ask for its delivery.
    Run,
    /// Make an open row of it, which has none: its record is in Kafka.
    Replay(ReplayRecord),
    /// Do not run it.
    Skip(&'static str),
}

/// What a row says of a record that is read from Kafka when it runs.
#[derive(Clone, Debug)]
pub struct ReplayRecord {
    pub message_id: String,
    pub key: Option<Bytes>,
    /// The message's type; empty when unknown.
    pub type_name: String,
    /// Kafka's time of the record.
    pub record_time: Timestamp,
    /// The node that found it.
    pub node: String,
}

/// What the store has about an item's delivery when its turn comes.
#[derive(Clone, Copy, Debug, Default)]
pub struct FoundDelivery {
    /// Invocations when it was planned; none for a replay, which takes any.
    pub planned: Option<u32>,
    /// Whether it was final when it was planned.
    pub was_final: bool,
    /// State and invocations of its final row.
    pub ended: Option<(State, u32)>,
    /// Invocations of its open row.
    pub open: Option<u32>,
    /// Whether its topic still is the one that the position belongs to.
    pub current: bool,
    /// Whether the position has passed it.
    pub passed: bool,
}

/// What becomes of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its final row becomes an open one that is due.
    Reopen,
    /// Its open row becomes due.
    Wake,
    /// An open row is made for it.
    Insert,
    /// It is not run.
    Skip(&'static str),
}

/// What becomes of an item whose turn has come. A plan is a snapshot: what has
/// changed since is left alone and says so.
#[must_use]
pub fn step(ask: &ItemAsk, found: FoundDelivery) -> Step {
    if let ItemAsk::Skip(why) = ask {
        return Step::Skip(why);
    }
    if !found.current {
        return Step::Skip("the topic was created anew since, or the node of a broadcast no longer listens");
    }
    match (found.planned, found.ended, found.open) {
        (Some(number), Some((_, now)), _) if found.was_final && now == number => Step::Reopen,
        (Some(_), Some(_), _) if found.was_final => Step::Skip("it ran again since the plan was made"),
        (Some(_), Some(_), _) => Step::Skip("it ended since the plan was made"),
        (Some(_), None, Some(_)) if found.was_final => Step::Skip("it runs again already"),
        (Some(number), None, Some(now)) if now == number => Step::Wake,
        (Some(_), None, Some(_)) => Step::Skip("it was tried again since the plan was made"),
        (Some(_), None, None) => Step::Skip("the store no longer knows it: it is past retention"),
        (None, Some(_), _) => Step::Reopen,
        (None, None, Some(_)) => Step::Skip("it is not finished and runs anyway"),
        (None, None, None) if !found.passed => Step::Skip("its first flight is not over"),
        (None, None, None) => match ask {
            ItemAsk::Replay(_) => Step::Insert,
            _ => Step::Skip("its record was not read"),
        },
    }
}

/// What became of an item that was asked for: nothing yet, or its state and
/// the reason. An item whose delivery has no row at all ended, and retention
/// removed what it came to.
#[must_use]
pub fn result(ended: Option<State>, open: Option<bool>) -> Option<ItemState> {
    match (ended, open) {
        (Some(State::Handled), _) => Some(ItemState::Handled),
        // A held lane waits for a person: that is how it ended for now.
        (Some(_), _) | (None, Some(true)) => Some(ItemState::HandleFail),
        (None, Some(false)) => None,
        (None, None) => Some(ItemState::Skipped),
    }
}

/// Why an item that was asked for has no outcome that anybody could read.
pub const FORGOTTEN: &str = "its outcome is past retention";
/// Why the items of a cancelled redrive were not run.
pub const CANCELLED: &str = "the redrive was cancelled before its turn";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_changed_since_the_plan_is_left_alone() {
        let planned = FoundDelivery {
            planned: Some(1),
            was_final: true,
            current: true,
            passed: true,
            ..FoundDelivery::default()
        };
        let ended = |number| FoundDelivery { ended: Some((State::HandleFail, number)), ..planned };
        assert_eq!(step(&ItemAsk::Run, ended(1)), Step::Reopen);
        let skipped = |ask: &ItemAsk, found| matches!(step(ask, found), Step::Skip(_));
        assert!(skipped(&ItemAsk::Run, ended(2)), "it ran again");
        assert!(skipped(&ItemAsk::Run, FoundDelivery { open: Some(1), ..planned }), "it runs");
        assert!(skipped(&ItemAsk::Run, planned), "it is forgotten");
        assert!(skipped(&ItemAsk::Run, FoundDelivery { current: false, ..ended(1) }));
        assert!(skipped(&ItemAsk::Skip("no record"), ended(1)));
        let waits = FoundDelivery { was_final: false, open: Some(1), ..planned };
        assert_eq!(step(&ItemAsk::Run, waits), Step::Wake);
        assert!(skipped(&ItemAsk::Run, FoundDelivery { open: Some(2), ..waits }));
    }

    #[test]
    fn a_replay_takes_what_is_finished_and_what_has_no_row() {
        let found = FoundDelivery { current: true, passed: true, ..FoundDelivery::default() };
        let record = ItemAsk::Replay(ReplayRecord {
            message_id: "m".into(),
            key: None,
            type_name: String::new(),
            record_time: Timestamp(0),
            node: "host-1".into(),
        });
        assert_eq!(step(&record, found), Step::Insert);
        assert_eq!(step(&record, FoundDelivery { ended: Some((State::Handled, 3)), ..found }), Step::Reopen);
        for left_alone in [FoundDelivery { open: Some(0), ..found }, FoundDelivery { passed: false, ..found }] {
            assert!(matches!(step(&record, left_alone), Step::Skip(_)), "{left_alone:?}");
        }
    }

    #[test]
    fn a_result_is_the_deliverys_own() {
        assert_eq!(result(Some(State::Handled), None), Some(ItemState::Handled));
        assert_eq!(result(Some(State::HandleFail), None), Some(ItemState::HandleFail));
        assert_eq!(result(None, Some(true)), Some(ItemState::HandleFail), "held");
        assert_eq!(result(None, Some(false)), None, "it runs");
        assert_eq!(result(None, None), Some(ItemState::Skipped));
    }
}
