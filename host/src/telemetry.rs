//! The metrics of the host, for `/metrics`.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Bounds of the histograms of seconds: from a sandbox's microseconds to the
/// longest timeouts.
const SECONDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// What a metric measures.
enum Kind {
    Counter,
    Gauge,
    /// A histogram of seconds.
    Seconds,
}

/// Every metric of the host, with its description.
const METRICS: [(Kind, &str, &str); 25] = [
    (
        Kind::Counter,
        "courier_deliveries_total",
        "Outcomes decided by this node, also those that the store then refused or fenced",
    ),
    (Kind::Gauge, "courier_open_deliveries", "Unfinished deliveries in the store"),
    (
        Kind::Gauge,
        "courier_lag",
        "Records between a group's position and the end of the log; NaN once its binding is gone",
    ),
    (Kind::Counter, "courier_stale_writes_total", "Outcomes refused because a newer owner has the partition"),
    (Kind::Counter, "courier_refused_settles_total", "Transactions of outcomes that the store refused, by group"),
    (Kind::Seconds, "courier_attempt_seconds", "How long attempts take"),
    (
        Kind::Seconds,
        "courier_settle_seconds",
        "How long transactions of outcomes take, with what a store that is away lets them wait",
    ),
    (Kind::Counter, "courier_messages_total", "Messages taken from senders"),
    (Kind::Counter, "courier_transactions_total", "Half messages prepared, and what became of them"),
    (Kind::Gauge, "courier_undelivered", "Rows that cannot be delivered to Kafka as they are, by topic"),
    (Kind::Counter, "courier_duplicates_total", "Deliveries dropped because their message was handled already"),
    (Kind::Counter, "courier_broadcast_unheard_total", "Broadcasts that no node was there to hear"),
    (Kind::Gauge, "courier_held_back", "Whether a group that is behind is throttled for those that keep up"),
    (Kind::Counter, "courier_swept_total", "Deliveries taken up again that nobody had been working on"),
    (
        Kind::Counter,
        "courier_orphaned_partitions_total",
        "Partitions of this node that nobody worked on, claimed again",
    ),
    (
        Kind::Counter,
        "courier_topics_created_anew_total",
        "Topics that were deleted and created again while a group read them",
    ),
    (Kind::Gauge, "courier_config_refused", "Whether a changed configuration file was refused, by the file's place"),
    (Kind::Counter, "courier_reload_failures_total", "Changed configurations that changed nothing"),
    (Kind::Gauge, "courier_stalled_partitions", "Partitions that an open transaction holds back"),
    (Kind::Gauge, "courier_outbox_failing", "Whether an outbox cannot be relayed now"),
    (Kind::Gauge, "courier_outbox_pending", "Rows that wait in an outbox"),
    (Kind::Counter, "courier_outbox_relayed_total", "Rows of outboxes that became messages"),
    (Kind::Counter, "courier_outbox_refused_total", "Rows of outboxes that are no valid messages"),
    (Kind::Counter, "courier_connections_refused_total", "Connections refused because of a bound"),
    (Kind::Gauge, "courier_store_clock_ahead_seconds", "How far the store's clock is ahead of this node's"),
];

/// Installs the recorder behind `/metrics` and describes the metrics.
///
/// # Errors
/// When another recorder is installed already.
pub fn metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    for (kind, name, what) in METRICS {
        match kind {
            Kind::Counter => metrics::describe_counter!(name, what),
            Kind::Gauge => metrics::describe_gauge!(name, what),
            Kind::Seconds => metrics::describe_histogram!(name, metrics::Unit::Seconds, what),
        }
    }
    metrics::counter!("courier_stale_writes_total").absolute(0);
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::METRICS;

    fn sources(folder: &Path, texts: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                sources(&path, texts);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                texts.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    #[test]
    fn every_metric_is_described_and_every_description_has_its_metric() {
        let mut texts = String::new();
        sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut texts);
        let of_macro = |macro_name: &str| {
            let calls: Vec<&str> = texts.split(macro_name).skip(1).collect();
            let name = |call: &str| {
                call.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next().map(ToOwned::to_owned))
            };
            calls.into_iter().filter_map(name).filter(|name| name.starts_with("courier_")).collect::<Vec<_>>()
        };
        let used: BTreeSet<String> = ["counter!(", "gauge!(", "histogram!("]
            .into_iter()
            .flat_map(|name| of_macro(&format!("metrics::{name}")))
            .collect();
        let described: BTreeSet<String> = METRICS.iter().map(|(_, name, _)| (*name).to_owned()).collect();
        assert_eq!(described.len(), METRICS.len(), "a metric is described twice");
        assert_eq!(used, described);
    }
}
