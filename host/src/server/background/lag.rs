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
    /// known. One whose binding is gone becomes NaN: a number that stays would
    /// say that nobody works.
    pub(super) fn tell(
        &mut self,
        bound: &HashSet<(&str, &str)>,
        positions: Vec<PositionRow>,
        ends: &HashMap<(String, i32), Offset>,
    ) {
        self.told.retain(|(group, topic, partition)| {
            let stays = bound.contains(&(group.as_str(), topic.as_str()));
            if !stays {
                set(group, topic, *partition, f64::NAN);
            }
            stays
        });
        for PositionRow { group, topic, partition, next, epoch, listener, .. } in positions {
            // Events only: what nodes have not heard is told by node, in the API.
            // What nobody ever owned has no lag yet, as there.
            if listener.is_some() || epoch == 0 || !bound.contains(&(group.as_str(), topic.as_str())) {
                continue;
            }
            if let Some(end) = ends.get(&(topic.clone(), partition)) {
                set(&group, &topic, partition, (end.0 - next.0).max(0) as f64);
                self.told.insert((group, topic, partition));
            }
        }
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
            // Kafka did not tell the end this time: what was said stands.
            lags.tell(&bound, positions(), &HashMap::new());
            assert!(handle.render().contains("} 13"));
            lags.tell(&HashSet::new(), positions(), &ends);
            assert!(handle.render().contains(r#"courier_lag{group="stock",topic="order",partition="0"} NaN"#));
        });
    }
}
