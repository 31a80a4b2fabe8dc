//! What the host counts and measures, for `/metrics`.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Bounds of the histograms of seconds: from a sandbox's microseconds to the
/// longest timeouts.
const SECONDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Installs the recorder behind `/metrics` and describes what it counts.
///
/// # Errors
/// When another recorder is installed already.
pub fn metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    metrics::describe_counter!("courier_deliveries_total", "Outcomes of deliveries written by this node");
    metrics::describe_gauge!("courier_open_deliveries", "Unfinished deliveries in the store");
    metrics::describe_gauge!("courier_lag", "Records between a group's position and the end of the log");
    metrics::describe_counter!(
        "courier_stale_writes_total",
        "Outcomes refused because a newer owner has the partition"
    );
    metrics::describe_histogram!("courier_attempt_seconds", metrics::Unit::Seconds, "How long attempts take");
    metrics::describe_histogram!("courier_settle_seconds", metrics::Unit::Seconds, "How long group commits take");
    metrics::describe_counter!("courier_messages_total", "Messages taken from senders");
    metrics::counter!("courier_stale_writes_total").absolute(0);
    Ok(handle)
}
