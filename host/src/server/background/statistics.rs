//! Writes the statistics of this process to the store.

use std::time::Duration;

use crate::stats;
use crate::store::{SharedStore, WriterId};

/// How often they are written.
const INTERVAL: Duration = Duration::from_secs(2);

/// Writes what was counted. What the store does not take is written the next time.
pub async fn keep(store: SharedStore, writer: WriterId) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let (minutes, paces) = stats::process().rows();
        if minutes.is_empty() && paces.is_empty() {
            continue;
        }
        match store.put_minutes(writer, &minutes, &paces).await {
            Ok(()) => stats::process().taken(&minutes, &paces),
            Err(error) => tracing::debug!(%error, "what was counted could not be written yet"),
        }
    }
}
