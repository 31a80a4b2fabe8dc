//! Redrives and replays: requests to run many deliveries again.
//!
//! A plan is a snapshot of the deliveries that a filter found, each an item. One host
//! at a time works on a plan, under a lease with an epoch. The reruns of items are
//! requested (see [`RerunStore::ask`](super::RerunStore::ask)) in the transaction that
//! marks the items, so that a host which dies in between neither requests a rerun
//! twice nor forgets one. The result of an item is read from its delivery's own outcome.

mod item;

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::{Offset, Timestamp};

pub use self::item::{
    CANCELLED, DueItem, FORGOTTEN, FoundDelivery, ItemAsk, ItemState, RedriveItemRow, ReplayRecord, Step, result, step,
};
use super::{DeliveryFilter, Listing, Page, PositionId, StoreError, WriterId};

/// Most deliveries of one plan. A plan is written in one transaction, and settles wait
/// for it; more deliveries need another plan.
pub const MAX_PLANNED: u32 = 100_000;
/// Most final rows that a plan reads when no index finds its deliveries.
pub const MAX_PLAN_SCAN: u32 = 500_000;
/// Most redrives of one group that did not end. A plan writes an item for each of its
/// deliveries, and the plans that somebody makes and never runs would fill the store.
pub const MAX_UNFINISHED: u32 = 2 * MAX_UNFINISHED_EACH;
/// Most of them that one token planned. Without this bound one tenant of a shared group
/// would leave the others none.
pub const MAX_UNFINISHED_EACH: u32 = 20;
/// How long a plan is kept that nobody runs, unless the retention is shorter.
pub const PLAN_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Most items whose reruns one transaction requests, or whose results it collects.
pub const MAX_STEP: u32 = 1_000;

/// A redrive, by its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RedriveId(pub i64);

impl std::fmt::Display for RedriveId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The state of a redrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedriveState {
    /// The items are counted, and none runs. A person runs or cancels it.
    Planned,
    /// A host requests the reruns of its items. A person can pause it, and it is done
    /// once its last item is.
    Running,
    /// No more reruns are requested, and requested ones finish. A person runs or cancels
    /// it.
    Paused,
    /// Every item has a result.
    Done,
    /// A person ended it. Reruns that were requested before finish.
    Cancelled,
}

impl RedriveState {
    const ALL: [Self; 5] = [Self::Planned, Self::Running, Self::Paused, Self::Done, Self::Cancelled];

    /// The word that people and programs see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "PLANNED",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Done => "DONE",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The number that stores keep; it never changes.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Self::Planned => 1,
            Self::Running => 2,
            Self::Paused => 3,
            Self::Done => 4,
            Self::Cancelled => 5,
        }
    }

    /// The state with this [`code`](Self::code).
    ///
    /// # Errors
    /// When there is none.
    pub fn from_code(code: i16) -> Result<Self, StoreError> {
        let found = Self::ALL.into_iter().find(|state| state.code() == code);
        found.ok_or_else(|| StoreError::Bug(format!("a row holds the unknown redrive state {code}")))
    }

    /// The state to which a person's wish leads from this one.
    ///
    /// # Errors
    /// `Conflict` with what would be possible.
    pub fn after(self, wish: RedriveWish) -> Result<Self, StoreError> {
        let next = match (wish, self) {
            (RedriveWish::Run, Self::Planned | Self::Paused | Self::Running) => Some(Self::Running),
            (RedriveWish::Pause, Self::Running | Self::Paused) => Some(Self::Paused),
            (RedriveWish::Cancel, Self::Planned | Self::Running | Self::Paused | Self::Cancelled) => {
                Some(Self::Cancelled)
            }
            _ => None,
        };
        next.ok_or_else(|| {
            let (word, right) = match wish {
                RedriveWish::Run => ("run", "plan another one"),
                RedriveWish::Pause => ("be paused", "only one that is RUNNING can"),
                RedriveWish::Cancel => ("be cancelled", "every item of it has a result"),
            };
            StoreError::Conflict(format!("the redrive is {} and cannot {word}: {right}", self.as_str()))
        })
    }
}

/// Redrives of a group that did not end.
pub(super) struct Unfinished {
    pub of_all: i64,
    /// Planned by the token that plans a further one.
    pub of_token: i64,
}

/// Refuses a further plan of a group with too many redrives that did not end, of all tokens
/// or of the one that plans it.
///
/// # Errors
/// `Conflict` with what makes room.
pub(super) fn check_room(group: &str, unfinished: &Unfinished) -> Result<(), StoreError> {
    let (whose, count, most) = if unfinished.of_token >= i64::from(MAX_UNFINISHED_EACH) {
        ("of this token ", unfinished.of_token, MAX_UNFINISHED_EACH)
    } else if unfinished.of_all >= i64::from(MAX_UNFINISHED) {
        ("", unfinished.of_all, MAX_UNFINISHED)
    } else {
        return Ok(());
    };
    Err(StoreError::Conflict(format!(
        "group {group} has {count} redrives {whose}that are planned, running or paused, and may have {most}: cancel \
         those that nobody needs, or run them and wait until they are done (GET /v1/redrives lists them)"
    )))
}

/// What a person wants of a redrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedriveWish {
    /// Start it, or go on with it.
    Run,
    /// Request no more reruns for now.
    Pause,
    /// Request no more reruns at all.
    Cancel,
}

/// What a plan is made from.
#[derive(Clone, Debug)]
pub struct NewRedrive {
    /// The deliveries to run again; the group is always given.
    pub filter: DeliveryFilter,
    /// Offsets to replay, in place of the filter.
    pub ranges: Option<Vec<ReplayRange>>,
    /// The request as JSON, for people.
    pub asked_for: String,
    /// Items a second.
    pub rate: u32,
    /// The token of the person who plans it.
    pub by: String,
}

/// Offsets of a partition, as far as they lie below its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayRange {
    pub position: PositionId,
    /// The first offset.
    pub from: Offset,
    /// The offset after the last.
    pub to: Offset,
}

/// Selects redrives by what a token may see.
#[derive(Clone, Debug, Default)]
pub struct RedriveFilter {
    /// Of these groups; `None` for all.
    pub groups: Option<Vec<String>>,
    /// Limited to one of these topics; `None` for all. A redrive without a topic
    /// concerns all topics of its group.
    pub topics: Option<Vec<String>>,
}

/// A redrive as people see it.
#[derive(Clone, Debug, PartialEq)]
pub struct RedriveRow {
    pub id: RedriveId,
    pub group: String,
    /// The topic, if it is limited to one.
    pub topic: Option<String>,
    /// The request as JSON.
    pub asked_for: String,
    /// Whether it replays a range.
    pub replay: bool,
    /// Items a second.
    pub rate: u32,
    pub state: RedriveState,
    /// Items in all.
    pub matched: u64,
    /// Items whose rerun was requested and that have no result yet.
    pub running: u64,
    /// Items that ended HANDLED.
    pub handled: u64,
    /// Items that ended HANDLE_FAIL.
    pub failed: u64,
    /// Items that were not run.
    pub skipped: u64,
    /// Whether more deliveries matched than a plan holds.
    pub truncated: bool,
    /// The token of the person who planned it.
    pub by: String,
    pub created_at: Timestamp,
    /// When it first ran.
    pub started_at: Option<Timestamp>,
    /// When it was done or cancelled.
    pub finished_at: Option<Timestamp>,
    /// The node that works on it.
    pub node: Option<String>,
}

impl RedriveRow {
    /// Completes the audit entry of a plan with what is known only once it is made: its
    /// number, and how many deliveries it found.
    pub(super) fn tell(&self, deed: &mut super::AuditEntry) {
        deed.subject = self.id.to_string();
        deed.detail = format!("{} items, {} a second: {}", self.matched, self.rate, self.asked_for);
    }
}

/// A host's right to work on a redrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedriveLease {
    pub id: RedriveId,
    /// Raised by each new holder. A holder with an older epoch may write nothing.
    pub epoch: i64,
    /// Items a second.
    pub rate: u32,
    /// Items whose rerun was requested and that have no result yet.
    pub running: u64,
    /// Whether more reruns may be requested.
    pub asks: bool,
}

/// Plans redrives for the API, and works through them for `consume/redrive.rs`.
#[async_trait]
pub trait RedriveStore {
    /// Writes a plan of the deliveries that match now, oldest first, at most
    /// [`MAX_PLANNED`]. `Conflict` when [`MAX_UNFINISHED`] redrives of the group did not
    /// end, or [`MAX_UNFINISHED_EACH`] of the same token; plans that are written at the same moment do not see one another.
    async fn plan_redrive(&self, plan: &NewRedrive) -> Result<RedriveRow, StoreError>;

    /// Reads one redrive.
    async fn redrive(&self, id: RedriveId) -> Result<Option<RedriveRow>, StoreError>;

    /// Lists redrives, newest first. Plans that were cancelled before they ran are left
    /// out.
    async fn redrives(&self, filter: &RedriveFilter, page: &Page) -> Result<Listing<RedriveRow>, StoreError>;

    /// Lists the items of a redrive in the order of the plan.
    async fn redrive_items(&self, id: RedriveId, page: &Page) -> Result<Listing<RedriveItemRow>, StoreError>;

    /// Moves a redrive to the state that a person wants. Cancelling skips the items that
    /// wait, and removes those of a plan that never ran. `Conflict` where the move is not possible, `NotFound` for an unknown
    /// redrive.
    async fn wish_redrive(&self, id: RedriveId, wish: RedriveWish) -> Result<RedriveRow, StoreError>;

    /// Leases redrives that have work to `writer`, at most `most` in all. The oldest of
    /// each group comes before the second of any, so that a group with slow redrives does
    /// not keep others out. Among equals `writer` keeps those that it has, so that few
    /// leases change hands.
    async fn lease_redrives(
        &self,
        writer: WriterId,
        most: u32,
        lease: Duration,
    ) -> Result<Vec<RedriveLease>, StoreError>;

    /// Lists the next items of a redrive whose reruns are to be requested, at most
    /// `limit`.
    async fn due_items(&self, id: RedriveId, limit: u32) -> Result<Vec<DueItem>, StoreError>;

    /// Requests the reruns of items, or skips them, in one transaction, and returns how
    /// many were requested. Does nothing when another host has the lease or the redrive
    /// is not running.
    async fn ask_items(&self, lease: &RedriveLease, asks: &[(i64, ItemAsk)]) -> Result<u64, StoreError>;

    /// Counts the items whose delivery ran and waits for its next attempt, so that
    /// nothing of them is under way.
    async fn retrying_items(&self, id: RedriveId) -> Result<u64, StoreError>;

    /// Writes the results of items whose rerun was requested, at most [`MAX_STEP`] at
    /// once, and ends the redrive when no item is left.
    async fn collect_items(&self, lease: &RedriveLease) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_redrives_is_exactly_this() {
        let mut arrows = Vec::new();
        for from in RedriveState::ALL {
            for wish in [RedriveWish::Run, RedriveWish::Pause, RedriveWish::Cancel] {
                if let Ok(to) = from.after(wish) {
                    arrows.push(format!("{}>{}", from.as_str(), to.as_str()));
                }
            }
        }
        assert_eq!(
            arrows.join(" "),
            "PLANNED>RUNNING PLANNED>CANCELLED RUNNING>RUNNING RUNNING>PAUSED RUNNING>CANCELLED PAUSED>RUNNING \
             PAUSED>PAUSED PAUSED>CANCELLED CANCELLED>CANCELLED"
        );
        let refused = RedriveState::Done.after(RedriveWish::Run).unwrap_err().to_string();
        assert!(refused.contains("DONE") && refused.contains("plan another"), "{refused}");
    }
}
