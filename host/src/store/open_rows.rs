//! Open deliveries as the owner of a partition reads them, in `consume/owner/`, and
//! requests of reruns, which `server/` polls for all owners.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::{Offset, Timestamp};

use super::{AskedLately, OpenRecord, OpenRow, PositionId, StoreError};

/// Reads open deliveries and requests to run them.
#[async_trait]
pub trait OpenRowStore: Send + Sync + 'static {
    /// Reads the records of open deliveries, in the order of `offsets`: `None` where
    /// the row is gone, and `record: None` where only coordinates are kept.
    async fn open_records(
        &self,
        position: PositionId,
        offsets: &[Offset],
    ) -> Result<Vec<Option<OpenRecord>>, StoreError>;

    /// Lists the open deliveries of `positions` whose rerun was requested after
    /// `since`, by the time of the request, at most `limit`.
    async fn asked(&self, positions: &[PositionId], since: Timestamp, limit: u32) -> Result<Vec<OpenRow>, StoreError>;

    /// Counts the open deliveries of all positions whose rerun was requested within
    /// the `window` before now, and reads the time of the newest request. A result
    /// that differs from the one before means that [`OpenRowStore::asked`] may find
    /// something new.
    async fn asked_lately(&self, window: Duration) -> Result<AskedLately, StoreError>;
}
