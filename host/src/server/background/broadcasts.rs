//! Watches who listens to broadcasts, and which nobody heard.

use std::sync::Arc;
use std::time::Duration;

use crate::app::groups::RunningGroups;
use crate::said;
use crate::store::SharedStore;

/// How often listeners and new broadcasts are checked.
const LOOK: Duration = Duration::from_secs(1);
/// Broadcasts that are judged in one look.
const MAX_JUDGED: u32 = 1_000;

/// Removes listeners that are no longer expected, and logs new broadcasts
/// without a listener.
pub async fn watch(store: SharedStore, fleet: Arc<RunningGroups>) {
    loop {
        tokio::time::sleep(LOOK).await;
        fleet.listen_only_to_bound().await;
        match store.forget_listeners().await {
            Ok(forgotten) => {
                for one in forgotten {
                    tracing::warn!(
                        group = one.group,
                        topic = one.topic,
                        node = one.node,
                        "a listener was away longer than broadcast_forget and is no longer expected to hear broadcasts"
                    );
                }
            }
            Err(error) => tracing::debug!(%error, "cannot look for nodes that are away"),
        }
        match store.judge_broadcasts(MAX_JUDGED).await {
            Ok(unheard) => {
                for (message, topic) in unheard {
                    metrics::counter!("courier_broadcast_unheard_total").increment(1);
                    if let Some(unsaid) = said::again(&format!("unheard {topic}")) {
                        tracing::warn!(message, topic, unsaid, "no node was there to hear a broadcast");
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "cannot look for broadcasts that nobody heard"),
        }
    }
}
