//! Open deliveries as the owner of a partition reads them, in `consume/owner/`.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::{Offset, Timestamp};

use super::{AskedLately, OpenRecord, OpenRow, PositionId, StoreError};

/// The verbs that read open deliveries.
#[async_trait]
pub trait OpenRowStore: Send + Sync + 'static {
    /// The stored records of open deliveries, in the order of `offsets`; none
    /// where the row has gone, `record: None` where only coordinates are kept.
    async fn open_records(
        &self,
        position: PositionId,
        offsets: &[Offset],
    ) -> Result<Vec<Option<OpenRecord>>, StoreError>;

    /// Open deliveries of `positions` that somebody asked to run
    /// (`asked_at > since`), oldest first, at most `limit`.
    async fn asked(&self, positions: &[PositionId], since: Timestamp, limit: u32) -> Result<Vec<OpenRow>, StoreError>;

    /// How many open deliveries, of whatever position, somebody asked to run
    /// within the `window` before now, and when the last of them. Another answer
    /// than before says that [`OpenRowStore::asked`] may have something new.
    async fn asked_lately(&self, window: Duration) -> Result<AskedLately, StoreError>;
}
