//! Stores the bindings of this node, so that every host can tell a group that
//! another node runs from one that no node runs.

use std::sync::Arc;
use std::time::Duration;

use crate::app::groups::RunningGroups;
use crate::store::SharedStore;

/// Wait before the store is asked again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Stores the bindings whenever the configuration changes.
pub async fn keep(store: SharedStore, fleet: Arc<RunningGroups>, node: Arc<str>) {
    let mut applied = fleet.applied();
    while applied.changed().await.is_ok() {
        loop {
            match store.keep_bindings(&node, &fleet.node_bindings()).await {
                Ok(()) => break,
                Err(error) => tracing::debug!(%error, "cannot write down what this node binds"),
            }
            tokio::time::sleep(STORE_RETRY).await;
        }
    }
}
