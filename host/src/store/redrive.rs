//! Redrives and replays: what somebody wants to run again, many at once.
//!
//! A plan is a snapshot: the deliveries that a filter found, each an item of
//! its own. One host at a time works on it, under a lease with an epoch. Items
//! become wishes (see [`RerunStore::ask`](super::RerunStore::ask)) in the transaction that
//! says so of them, so that a host which dies in between neither asks twice nor
//! forgets; what became of an item is read from its delivery's own outcome.

mod item;

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::{Offset, Timestamp};

pub use self::item::{
    CANCELLED, DueItem, FORGOTTEN, FoundDelivery, ItemAsk, ItemState, RedriveItemRow, ReplayRecord, Step, result, step,
};
use super::{DeliveryFilter, Listing, Page, PositionId, StoreError, WriterId};

/// Deliveries of one plan. What lies beyond is for another one: a plan is
/// written in one transaction, which must not hold settles up.
pub const MAX_PLANNED: u32 = 100_000;
/// Final rows that a plan looks at, when no index leads to what it wants.
pub const MAX_PLAN_SCAN: u32 = 500_000;
/// Items that one transaction asks for or collects.
pub const MAX_STEP: u32 = 1_000;

/// A redrive, by its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RedriveId(pub i64);

impl std::fmt::Display for RedriveId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a redrive stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedriveState {
    /// Counted; nothing runs. A person runs or cancels it.
    Planned,
    /// A host asks for its items. It pauses when a person says so, and is done
    /// when its last item is.
    Running,
    /// What was asked for finishes; a person runs it on or cancels it.
    Paused,
    /// Every item has a result.
    Done,
    /// A person ended it; what was asked for before finishes.
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

    /// Where a person's wish leads from here.
    ///
    /// # Errors
    /// `Conflict` with what would be right.
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

/// What a person wants of a redrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedriveWish {
    /// Run it, or go on.
    Run,
    /// Ask for nothing more for now.
    Pause,
    /// Ask for nothing more.
    Cancel,
}

/// What a plan is made from.
#[derive(Clone, Debug)]
pub struct NewRedrive {
    /// Which deliveries; the group is always given.
    pub filter: DeliveryFilter,
    /// Offsets to be replayed instead of deliveries that are looked for.
    pub ranges: Option<Vec<ReplayRange>>,
    /// The filter as it was asked for, as JSON, for people.
    pub asked_for: String,
    /// Items a second.
    pub rate: u32,
    /// Who plans it.
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

/// A redrive as people see it.
#[derive(Clone, Debug, PartialEq)]
pub struct RedriveRow {
    pub id: RedriveId,
    pub group: String,
    /// The topic, when it is held to one.
    pub topic: Option<String>,
    /// The filter as it was asked for, as JSON.
    pub asked_for: String,
    /// Whether it replays a range.
    pub replay: bool,
    /// Items a second.
    pub rate: u32,
    /// Where it stands.
    pub state: RedriveState,
    /// Items in all.
    pub matched: u64,
    /// Items that were asked for and have no result yet.
    pub running: u64,
    /// Items that ended HANDLED.
    pub handled: u64,
    /// Items that ended HANDLE_FAIL.
    pub failed: u64,
    /// Items that were not run.
    pub skipped: u64,
    /// Whether more matched than a plan holds.
    pub truncated: bool,
    /// Who planned it.
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
    /// Tells of a plan what is known only once it is made: its number, and how
    /// many it found.
    pub(super) fn tell(&self, deed: &mut super::AuditEntry) {
        deed.subject = self.id.to_string();
        deed.detail = format!("{} items, {} a second: {}", self.matched, self.rate, self.asked_for);
    }
}

/// A host's right to work on a redrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedriveLease {
    pub id: RedriveId,
    /// Counts the holders; an older one may write nothing.
    pub epoch: i64,
    /// Items a second.
    pub rate: u32,
    /// Items that were asked for and have no result yet.
    pub running: u64,
    /// Whether more items may be asked for.
    pub asks: bool,
}

/// The verbs of redrives.
#[async_trait]
pub trait RedriveStore {
    /// Writes a plan: the deliveries that match now, oldest first, at most
    /// [`MAX_PLANNED`].
    async fn plan_redrive(&self, plan: &NewRedrive) -> Result<RedriveRow, StoreError>;

    /// One redrive.
    async fn redrive(&self, id: RedriveId) -> Result<Option<RedriveRow>, StoreError>;

    /// Redrives of the groups in scope, newest first. Plans that were dropped
    /// before they ran are none.
    async fn redrives(&self, groups: Option<&[String]>, page: &Page) -> Result<Listing<RedriveRow>, StoreError>;

    /// The items of a redrive in the order of the plan.
    async fn redrive_items(&self, id: RedriveId, page: &Page) -> Result<Listing<RedriveItemRow>, StoreError>;

    /// Moves a redrive as a person wants; `Conflict` where that is not
    /// possible, `NotFound` for an unknown one. Cancelling skips what waits.
    async fn wish_redrive(&self, id: RedriveId, wish: RedriveWish) -> Result<RedriveRow, StoreError>;

    /// Leases redrives that have work for `writer`, `most` in all: of each group
    /// the oldest before the second of any, so that no group keeps others out
    /// by slow ones; of equals those that it has, so that few change hands.
    async fn lease_redrives(
        &self,
        writer: WriterId,
        most: u32,
        lease: Duration,
    ) -> Result<Vec<RedriveLease>, StoreError>;

    /// The next items of a redrive to be asked for, at most `limit`.
    async fn due_items(&self, id: RedriveId, limit: u32) -> Result<Vec<DueItem>, StoreError>;

    /// Asks for items, or skips them, in one transaction; answers how many
    /// were asked for. Does nothing when the lease is no longer the present
    /// one or the redrive is not running.
    async fn ask_items(&self, lease: &RedriveLease, asks: &[(i64, ItemAsk)]) -> Result<u64, StoreError>;

    /// Items that were asked for and wait for a retry: they ran, and nothing
    /// of them is under way.
    async fn retrying_items(&self, id: RedriveId) -> Result<u64, StoreError>;

    /// Writes down what became of items that were asked for, and that the
    /// redrive is done when nothing is left; at most [`MAX_STEP`] at once.
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
