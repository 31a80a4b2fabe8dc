//! What happened in each minute, for charts.
//!
//! Each process keeps its own sums and writes them every few seconds, always
//! as what the whole minute came to so far: a row belongs to one process, so
//! that writing it again changes nothing. They are no record of anything;
//! what counts as kept is in the groups' totals.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::Timestamp;

use super::{StoreError, WriterId};

/// How long minutes are kept.
pub const MINUTES_KEPT: Duration = Duration::from_secs(6 * 3_600);

/// One minute of one group, or of the send side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MinuteRow {
    /// When the minute began.
    pub minute: Timestamp,
    /// The group; empty for the send side.
    pub group: String,
    /// Messages that came to be on Kafka.
    pub published: u64,
    /// Messages that became SEND_FAIL, for now or for good.
    pub send_fail: u64,
    /// Deliveries that became HANDLED.
    pub handled: u64,
    /// Attempts that failed, and deliveries whose handler could not run.
    pub failed: u64,
    /// Deliveries that ended HANDLE_FAIL, for good.
    pub given_up: u64,
}

/// How long attempts of a group took lately, as one process saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaceRow {
    pub group: String,
    /// How many attempts fell into each bucket, from the first to the last
    /// that is not empty.
    pub buckets: Vec<u64>,
}

/// The verbs of minutes.
#[async_trait]
pub trait MinuteStore: Send + Sync {
    /// Writes what minutes came to so far in this process, and the pace of its
    /// groups.
    async fn put_minutes(&self, writer: WriterId, minutes: &[MinuteRow], paces: &[PaceRow]) -> Result<(), StoreError>;

    /// Minutes from `since` on, summed over all processes, oldest first.
    async fn minutes(&self, since: Timestamp) -> Result<Vec<MinuteRow>, StoreError>;

    /// The pace of each group in each process that wrote one since `since`.
    async fn paces(&self, since: Timestamp) -> Result<Vec<PaceRow>, StoreError>;
}
