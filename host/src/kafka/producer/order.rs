//! Sends that keep their order: once one of them failed, none behind it goes to
//! the same partition.
//!
//! A pass of the relay and a request of a sender hand several records over, one
//! after another. While they still do, an earlier record can fail; sent now, the
//! next record of its key would overtake it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

/// The sends of one pass or request; clones are the same sends.
#[derive(Clone, Debug, Default)]
pub struct OrderedSends {
    /// The partitions with a record that failed, by their topics.
    failed: Arc<Mutex<HashMap<Arc<str>, HashSet<i32>>>>,
}

impl OrderedSends {
    /// Whether a record for the partition failed, which later ones must not overtake.
    #[must_use]
    pub fn has_failed(&self, topic: &str, partition: i32) -> bool {
        self.failed.lock().get(topic).is_some_and(|partitions| partitions.contains(&partition))
    }

    /// Notes that a record for the partition is not sent now.
    pub fn fail(&self, topic: &str, partition: i32) {
        let mut failed = self.failed.lock();
        match failed.get_mut(topic) {
            Some(partitions) => partitions.insert(partition),
            None => failed.entry(topic.into()).or_default().insert(partition),
        };
    }
}
