//! Keeps the store to its retention.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::groups::RunningGroups;
use crate::causes::{Cause, Causes, Subject};
use crate::store::{SharedStore, StoreError};

/// How often what is older than the retention is removed.
const PRUNE: Duration = Duration::from_secs(60);
/// The code of the cause that old rows cannot be removed.
const NOT_PRUNED: &str = "not_pruned";

/// Removes rows older than the retention, and expired state; joins the segments
/// of handled sets.
pub async fn prune(
    store: SharedStore,
    fleet: Arc<RunningGroups>,
    retention: Duration,
    causes: Causes,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let removed = async {
            let mut more = store.prune(retention).await?;
            while !stop.is_cancelled() && store.compact_sets().await? {}
            for (group, max_age) in fleet.state_ttls() {
                more |= store.forget_state(&group, max_age).await?;
            }
            Ok::<_, StoreError>(more)
        };
        let removed = removed.await;
        if removed.is_ok() {
            causes.clear_code(&Subject::Store, NOT_PRUNED);
        }
        match removed {
            Ok(true) => tokio::task::yield_now().await,
            Ok(false) => tokio::time::sleep(PRUNE).await,
            Err(error) => {
                let why = format!("what is older than the retention of the store stays in it: {error}");
                // The next try comes later than causes expire.
                causes.report(Subject::Store, Cause::new(NOT_PRUNED, why).until_cleared());
                tokio::time::sleep(PRUNE).await;
            }
        }
    }
}
