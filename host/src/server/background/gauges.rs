//! Sets the gauges of open deliveries.

use std::time::Duration;

use courier_core::status::State;

use crate::store::SharedStore;

/// How often they are set.
const INTERVAL: Duration = Duration::from_secs(2);

/// Sets the gauges from the totals of the store.
pub async fn set(store: SharedStore) {
    loop {
        if let Ok(totals) = store.totals().await {
            for total in totals {
                let open = [
                    (State::Committed, total.waiting),
                    (State::PushFail, total.push_fail),
                    (State::HandleFail, total.retrying + total.held),
                ];
                for (state, count) in open {
                    metrics::gauge!("courier_open_deliveries", "group" => total.group.clone(), "state" => state.as_str())
                        .set(count as f64);
                }
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
