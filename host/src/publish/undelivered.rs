//! Watches for topics with too many undelivered rows, and stops their sources.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::debug;

use crate::causes::{Cause, Causes, Subject, UNDELIVERED_FULL};
use crate::store::SharedStore;
use crate::store::undelivered::{MAX_BYTES, MAX_ROWS, UndeliveredFilter, UndeliveredTotal};

/// Poll interval.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Topics for which nothing more is accepted; clones share it.
#[derive(Clone)]
pub struct FullTopics(watch::Receiver<Arc<HashSet<String>>>);

impl FullTopics {
    /// Whether nothing more is accepted for `topic`.
    #[must_use]
    pub fn contains(&self, topic: &str) -> bool {
        self.0.borrow().contains(topic)
    }

    /// The topics.
    #[must_use]
    pub fn all(&self) -> Arc<HashSet<String>> {
        Arc::clone(&self.0.borrow())
    }
}

/// Polls the counts of undelivered rows.
pub struct UndeliveredWatch {
    told: watch::Sender<Arc<HashSet<String>>>,
}

impl UndeliveredWatch {
    /// A watch that has not polled yet, and its result.
    #[must_use]
    pub fn new() -> (Self, FullTopics) {
        let (told, full) = watch::channel(Arc::default());
        (Self { told }, FullTopics(full))
    }

    #[cfg(test)]
    pub fn tell(&self, full: HashSet<String>) {
        self.told.send_replace(Arc::new(full));
    }

    /// Polls for ever: sets the gauge `courier_undelivered`, reports full
    /// topics, and passes them to `stop_sources` each time.
    pub async fn run(self, store: SharedStore, causes: Causes, stop_sources: impl Fn(&HashSet<String>) + Send) {
        let mut gauged: HashSet<String> = HashSet::new();
        loop {
            match store.undelivered_totals(&UndeliveredFilter::default()).await {
                Ok(totals) => {
                    gauge(&mut gauged, &totals);
                    let now = full_topics(&totals);
                    report(&causes, &now, &self.told.borrow());
                    stop_sources(&now);
                    self.told.send_replace(Arc::new(now));
                }
                Err(error) => debug!(%error, "the store could not say what is undelivered"),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

fn full_topics(totals: &[UndeliveredTotal]) -> HashSet<String> {
    totals.iter().filter(|total| total.is_full()).map(|total| total.topic.clone()).collect()
}

fn report(causes: &Causes, now: &HashSet<String>, before: &HashSet<String>) {
    for topic in now {
        let why = format!(
            "topic {topic} has {MAX_ROWS} undelivered messages or {} MiB of them: nothing more is accepted for it until \
             they are resent or given up (courier undelivered list --topic {topic})",
            MAX_BYTES >> 20
        );
        causes.report(Subject::Topic(topic.clone()), Cause::new(UNDELIVERED_FULL, why).with("topic", topic).at_once());
    }
    for topic in before.difference(now) {
        causes.clear_code(&Subject::Topic(topic.clone()), UNDELIVERED_FULL);
    }
}

/// Sets the gauges; one whose topic has nothing left is set to zero once.
fn gauge(gauged: &mut HashSet<String>, totals: &[UndeliveredTotal]) {
    #[allow(clippy::cast_precision_loss)]
    let set = |topic: &str, rows: i64| {
        metrics::gauge!("courier_undelivered", "topic" => topic.to_owned()).set(rows as f64);
    };
    let present: HashSet<String> = totals.iter().map(|total| total.topic.clone()).collect();
    for topic in gauged.difference(&present) {
        set(topic, 0);
    }
    for total in totals {
        set(&total.topic, total.rows);
    }
    *gauged = present;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_full_by_its_rows_or_its_bytes() {
        let total = |topic: &str, rows, bytes| UndeliveredTotal { topic: topic.to_owned(), rows, bytes };
        let totals =
            [total("rows", MAX_ROWS, 1), total("bytes", 1, MAX_BYTES), total("neither", MAX_ROWS - 1, MAX_BYTES - 1)];
        assert_eq!(full_topics(&totals), HashSet::from(["rows".to_owned(), "bytes".to_owned()]));
    }
}
