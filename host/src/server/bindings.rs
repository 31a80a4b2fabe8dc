//! Writes down what this node binds, so that every host can tell a group that
//! another node runs from one that nobody runs.

use std::sync::Arc;
use std::time::Duration;

use super::groups::RunningGroups;
use crate::store::SharedStore;

/// How long to wait before the store is asked again.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Follows the configuration in force, until it is dropped with its task.
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
