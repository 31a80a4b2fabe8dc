//! What happened in each minute, for charts.
//!
//! Each process keeps its own sums and writes them every few seconds, always as the
//! sum of the whole minute so far. A row belongs to one process, so that writing it
//! again changes nothing. The sums are for charts alone; the counters that are kept
//! are the groups' totals.

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
    /// Messages that Kafka took.
    pub published: u64,
    /// Messages that became SEND_FAIL, for now or for good.
    pub send_fail: u64,
    /// Deliveries that became HANDLED.
    pub handled: u64,
    /// Attempts that failed, and deliveries whose handler could not run.
    pub failed: u64,
    /// Deliveries that became HANDLE_FAIL for good.
    pub given_up: u64,
}

/// How long recent attempts of a group took in one process: a histogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaceRow {
    pub group: String,
    /// The attempts in each bucket, up to the last bucket that is not empty.
    pub buckets: Vec<u64>,
}

/// Writes the sums of this process, and reads those of all for the charts of the API.
#[async_trait]
pub trait MinuteStore: Send + Sync {
    /// Writes the minutes of this process so far, and the histograms of its groups.
    async fn put_minutes(&self, writer: WriterId, minutes: &[MinuteRow], paces: &[PaceRow]) -> Result<(), StoreError>;

    /// Lists the minutes from `since` on, summed over all processes, oldest first.
    async fn minutes(&self, since: Timestamp) -> Result<Vec<MinuteRow>, StoreError>;

    /// Lists the histograms that processes wrote since `since`.
    async fn paces(&self, since: Timestamp) -> Result<Vec<PaceRow>, StoreError>;
}
