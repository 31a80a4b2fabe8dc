//! The gauges of lag: how far groups are behind the ends of their topics.

use std::collections::{HashMap, HashSet};

use courier_core::message::Offset;

use crate::store::PositionRow;

/// A group, a topic and a partition.
type GroupPartition = (String, String, i32);

/// The gauges in use.
#[derive(Default)]
pub(super) struct Lags {
    told: HashSet<GroupPartition>,
}

impl Lags {
    /// Sets the gauges of the groups and topics in `bound` whose ends are
    /// known. One whose binding is gone, or whose end is not known now, becomes NaN: a
    /// number that stays would say that nobody works, or that nothing comes.
    pub(super) fn tell(
        &mut self,
        bound: &HashSet<(&str, &str)>,
        positions: Vec<PositionRow>,
        ends: &HashMap<(String, i32), Offset>,
    ) {
        let mut before = std::mem::take(&mut self.told);
        for PositionRow { group, topic, partition, next, epoch, listener, .. } in positions {
            // Events only: what nodes have not heard is told by node, in the API.
            // What nobody ever owned has no lag yet, as there.
            if listener.is_some() || epoch == 0 || !bound.contains(&(group.as_str(), topic.as_str())) {
                continue;
            }
            if let Some(end) = ends.get(&(topic.clone(), partition)) {
                set(&group, &topic, partition, (end.0 - next.0).max(0) as f64);
                let told = (group, topic, partition);
                before.remove(&told);
                self.told.insert(told);
            }
        }
        tell_unknown(before);
    }

    /// Makes all gauges NaN, while Kafka or the store is away.
    pub(super) fn tell_none(&mut self) {
        tell_unknown(std::mem::take(&mut self.told));
    }
}

fn tell_unknown(lags: HashSet<GroupPartition>) {
    for (group, topic, partition) in lags {
        set(&group, &topic, partition, f64::NAN);
    }
}

fn set(group: &str, topic: &str, partition: i32, records: f64) {
    let (group, topic, partition) = (group.to_owned(), topic.to_owned(), partition.to_string());
    metrics::gauge!("courier_lag", "group" => group, "topic" => topic, "partition" => partition).set(records);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::position;
    use metrics_exporter_prometheus::PrometheusBuilder;

    #[test]
    fn a_lag_is_told_while_its_binding_is_there() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let mut lags = Lags::default();
            let bound = HashSet::from([("stock", "order")]);
            let ends = HashMap::from([(("order".to_owned(), 0), Offset(30)), (("secret".to_owned(), 0), Offset(30))]);
            let positions = || vec![position(1, "stock", "order", 0), position(2, "other", "secret", 0)];
            lags.tell(&bound, positions(), &ends);
            let shown = handle.render();
            assert!(shown.contains(r#"courier_lag{group="stock",topic="order",partition="0"} 13"#), "{shown}");
            assert!(!shown.contains("secret"), "{shown}");
            let is_unknown =
                || handle.render().contains(r#"courier_lag{group="stock",topic="order",partition="0"} NaN"#);
            // Kafka did not tell the end this time.
            lags.tell(&bound, positions(), &HashMap::new());
            assert!(is_unknown());
            lags.tell(&bound, positions(), &ends);
            assert!(!is_unknown());
            lags.tell_none();
            assert!(is_unknown(), "Kafka or the store is away");
            lags.tell(&bound, positions(), &ends);
            lags.tell(&HashSet::new(), positions(), &ends);
            assert!(is_unknown(), "its binding is gone");
        });
    }
}
