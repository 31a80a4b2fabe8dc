//! The metrics of the host, for `/metrics`.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Bounds of the histograms of seconds: from a sandbox's microseconds to the
/// longest timeouts.
const SECONDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Installs the recorder behind `/metrics` and describes the metrics.
///
/// # Errors
/// When another recorder is installed already.
pub fn metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    metrics::describe_counter!("courier_deliveries_total", "Outcomes of deliveries written by this node");
    metrics::describe_gauge!("courier_open_deliveries", "Unfinished deliveries in the store");
    metrics::describe_gauge!(
        "courier_lag",
        "Records between a group's position and the end of the log; NaN once its binding is gone"
    );
    metrics::describe_counter!(
        "courier_stale_writes_total",
        "Outcomes refused because a newer owner has the partition"
    );
    metrics::describe_histogram!("courier_attempt_seconds", metrics::Unit::Seconds, "How long attempts take");
    metrics::describe_histogram!("courier_settle_seconds", metrics::Unit::Seconds, "How long group commits take");
    metrics::describe_counter!("courier_messages_total", "Messages taken from senders");
    metrics::describe_counter!("courier_transactions_total", "Half messages prepared, and what became of them");
    metrics::describe_counter!(
        "courier_duplicates_total",
        "Deliveries dropped because their message was handled already"
    );
    metrics::describe_counter!("courier_broadcast_unheard_total", "Broadcasts that no node was there to hear");
    metrics::describe_gauge!("courier_held_back", "Whether a group that is behind is held back for those that keep up");
    metrics::describe_counter!("courier_swept_total", "Deliveries taken up again that nobody had been working on");
    metrics::describe_counter!(
        "courier_orphaned_partitions_total",
        "Partitions of ours that nobody worked on, claimed again"
    );
    metrics::describe_counter!("courier_reload_failures_total", "Changed configurations that changed nothing");
    metrics::describe_gauge!("courier_stalled_partitions", "Partitions that an open transaction holds back");
    metrics::describe_gauge!("courier_outbox_failing", "Whether an outbox cannot be relayed now");
    metrics::describe_gauge!("courier_outbox_pending", "Rows that wait in an outbox");
    metrics::describe_counter!("courier_outbox_relayed_total", "Rows of outboxes that became messages");
    metrics::describe_counter!("courier_outbox_refused_total", "Rows of outboxes that are no valid messages");
    metrics::counter!("courier_stale_writes_total").absolute(0);
    Ok(handle)
}
