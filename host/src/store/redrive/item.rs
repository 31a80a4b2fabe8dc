//! The items of a redrive: each is a delivery with a state.
//!
//! Two decisions about an item are made here for both dialects: [`step`] decides what
//! to do when its turn has come, and [`result`] reads its result from its delivery's
//! outcome.

use bytes::Bytes;
use courier_core::message::{Kind, Timestamp};
use courier_core::status::State;

use crate::store::{DeliveryKey, StoreError};

/// The state of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemState {
    /// Its rerun was not requested yet.
    Waiting,
    /// Its rerun was requested, and its outcome is not stored yet.
    Running,
    /// Its delivery ended HANDLED.
    Handled,
    /// Its delivery ended HANDLE_FAIL, or is held.
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
    /// Its number in the plan, from 1.
    pub seq: i64,
    pub key: DeliveryKey,
    /// The message's id; `None` where a replay has not read the record yet.
    pub message_id: Option<String>,
    pub topic: String,
    pub partition: i32,
    pub state: ItemState,
    /// Why it failed or was not run.
    pub reason: Option<String>,
    /// When its rerun was requested.
    pub asked_at: Option<Timestamp>,
    /// When its outcome was decided.
    pub finished_at: Option<Timestamp>,
}

/// An item whose turn has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueItem {
    /// Its number in the plan.
    pub seq: i64,
    pub key: DeliveryKey,
    pub group: String,
    pub topic: String,
    pub partition: i32,
    /// Whether it is a broadcast, which lies in a companion of the topic.
    pub kind: Kind,
    /// Whether the store has a row for it, open or final.
    pub has_row: bool,
    /// Whether the store has its record.
    pub has_record: bool,
}

/// What a host does with an item.
#[derive(Clone, Debug)]
pub enum ItemAsk {
    /// Request a rerun of its delivery.
    Run,
    /// Make an open row for its delivery, which has none: its record is in Kafka.
    Replay(ReplayRecord),
    /// Do not run it.
    Skip(&'static str),
}

/// The columns of an open row whose record is read from Kafka when it runs.
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

/// What the store knows of an item's delivery when its turn comes.
#[derive(Clone, Copy, Debug, Default)]
pub struct FoundDelivery {
    /// Invocations when it was planned; `None` for a replay, which accepts any.
    pub planned: Option<u32>,
    /// Whether it was final when it was planned.
    pub was_final: bool,
    /// State and invocations of its final row.
    pub ended: Option<(State, u32)>,
    /// Invocations of its open row.
    pub open: Option<u32>,
    /// Whether its position belongs to the present topic.
    pub current: bool,
    /// Whether the position is past its offset.
    pub passed: bool,
}

/// What a transaction does with an item.
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

/// Decides what to do with an item whose turn has come. A plan is a snapshot, so an item
/// whose delivery has changed since is skipped with that reason.
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

/// Reads the result of an item whose rerun was requested; `None` while it has none. A
/// delivery without any row ended, and retention removed its outcome.
#[must_use]
pub fn result(ended: Option<State>, open: Option<bool>) -> Option<ItemState> {
    match (ended, open) {
        (Some(State::Handled), _) => Some(ItemState::Handled),
        // A held delivery waits for a person, which is a result for the redrive.
        (Some(_), _) | (None, Some(true)) => Some(ItemState::HandleFail),
        (None, Some(false)) => None,
        (None, None) => Some(ItemState::Skipped),
    }
}

/// Why an item has no result although its delivery ran.
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
