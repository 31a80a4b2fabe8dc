//! The background tasks of a host: its lease, retention, broadcasts, gauges.

pub(super) mod group_causes;
mod lag;
pub(super) mod log_ends;
pub(super) mod node_bindings;
mod seen_log_ends;
mod stalled_partitions;
pub(super) mod store_watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use courier_core::message::Offset;
use courier_core::status::State;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::stalled_partitions::Stalled;
use crate::app::groups::RunningGroups;
use crate::causes::{Cause, Causes, Subject};
use crate::kafka::topic_watch::TopicWatch;
use crate::said;
use crate::stats;
use crate::store::{SharedStore, StoreError, WriterId};

/// How long a node's name is held without a renewal.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(3);
/// How often the ends of logs are asked for.
pub(super) const ENDS: Duration = Duration::from_secs(2);
/// How often what is older than the retention is removed.
const PRUNE: Duration = Duration::from_secs(60);
/// The code of the cause that old rows cannot be removed.
const NOT_PRUNED: &str = "not_pruned";
/// How often listeners and new broadcasts are checked, and how many broadcasts
/// at a time.
const BROADCASTS: Duration = Duration::from_secs(1);
const MAX_JUDGED: u32 = 1_000;
/// How often the statistics are written.
const MINUTES: Duration = Duration::from_secs(2);
/// How long Kafka may be silent before it counts as away: a question to a
/// frozen broker waits much longer for its answer.
pub(super) const SILENCE: Duration = Duration::from_secs(8);
/// How long an answer of a dependency is cached.
pub const FRESH: Duration = Duration::from_secs(5);

/// Kafka's last answers.
#[derive(Debug, Default)]
pub struct KafkaStatus {
    inner: Mutex<KafkaReports>,
}

#[derive(Debug, Default)]
pub(super) struct KafkaReports {
    pub(super) ends: HashMap<(String, i32), Offset>,
    pub(super) kafka: Option<(Instant, Result<(), String>)>,
    pub(super) missing: Vec<String>,
    pub(super) stalled: Vec<Stalled>,
}

impl KafkaStatus {
    pub(super) fn lock(&self) -> parking_lot::MutexGuard<'_, KafkaReports> {
        self.inner.lock()
    }

    /// Last offset + 1 of the partitions that are bound here.
    #[must_use]
    pub fn ends(&self) -> HashMap<(String, i32), Offset> {
        self.lock().ends.clone()
    }

    /// Why Kafka counts as away, if so.
    #[must_use]
    pub fn kafka_away(&self) -> Option<String> {
        match &self.lock().kafka {
            Some((_, Err(why))) => Some(why.clone()),
            Some((at, Ok(()))) if at.elapsed() > SILENCE => Some(format!("kafka has said nothing for {SILENCE:?}")),
            Some((_, Ok(()))) => None,
            None => Some("kafka has not answered yet".to_owned()),
        }
    }

    /// Whether Kafka was asked, and did not answer.
    #[must_use]
    pub fn is_kafka_away(&self) -> bool {
        matches!(&self.lock().kafka, Some((_, Err(_))))
    }

    /// Notes one answer of several. Only a whole round without a failure ends
    /// an outage.
    pub(super) fn kafka_answered(&self) {
        if let Some((at, Ok(()))) = &mut self.lock().kafka {
            *at = Instant::now();
        }
    }

    /// Notes that Kafka did not answer, and forgets the ends, which are unknown
    /// now.
    pub(super) fn kafka_failed(&self, why: String) {
        let mut inner = self.lock();
        inner.kafka = Some((Instant::now(), Err(why)));
        inner.ends.clear();
    }

    /// Topics that bindings need and that do not exist.
    #[must_use]
    pub fn missing_topics(&self) -> Vec<String> {
        self.lock().missing.clone()
    }

    /// Partitions that an open transaction holds back.
    #[must_use]
    pub fn stalled(&self) -> Vec<Stalled> {
        self.lock().stalled.clone()
    }
}

/// Renews the lease on the node's name. Returns why the host must stop, when
/// another process took the name.
pub async fn keep_lease(store: SharedStore, writer: WriterId, causes: Causes) -> String {
    let subject = Subject::Host("node name".to_owned());
    loop {
        tokio::time::sleep(RENEW).await;
        match store.renew(writer, LEASE).await {
            Ok(()) => causes.clear(&subject),
            Err(StoreError::Fenced(why)) => return why,
            Err(error) => {
                let why = format!("the lease on this node's name is not renewed: {error}");
                causes.report(subject.clone(), Cause::new("lease_not_renewed", why));
            }
        }
    }
}

/// Reports a broker that gives no topic ids.
pub async fn watch_ids(topics: TopicWatch, causes: Causes) {
    let subject = Subject::Host("topic ids".to_owned());
    loop {
        tokio::time::sleep(FRESH).await;
        if topics.has_no_ids() {
            let why = "kafka tells no ids of topics (it is older than 2.8): a topic that is created anew is noticed only \
                       if its log is shorter than the position of a group";
            causes.report(subject.clone(), Cause::new("no_topic_ids", why));
        } else {
            causes.clear(&subject);
        }
    }
}

/// Removes listeners that are no longer expected, and logs new broadcasts
/// without a listener.
pub async fn watch_broadcasts(store: SharedStore, fleet: Arc<RunningGroups>) {
    loop {
        tokio::time::sleep(BROADCASTS).await;
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

/// Sets the gauges of open deliveries.
pub async fn gauge_totals(store: SharedStore) {
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
        tokio::time::sleep(ENDS).await;
    }
}

/// Writes the statistics of this process. What the store does not take is
/// written the next time.
pub async fn keep_minutes(store: SharedStore, writer: WriterId) {
    loop {
        tokio::time::sleep(MINUTES).await;
        let (minutes, paces) = stats::process().rows();
        if minutes.is_empty() && paces.is_empty() {
            continue;
        }
        match store.put_minutes(writer, &minutes, &paces).await {
            Ok(()) => stats::process().taken(&minutes, &paces),
            Err(error) => tracing::debug!(%error, "what was counted could not be written yet"),
        }
    }
}

/// Removes rows older than the retention, and expired state; joins the segments
/// of handled sets.
pub async fn prune(
    store: SharedStore,
    fleet: Arc<RunningGroups>,
    retention: Duration,
    causes: Causes,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let removed = async {
            let mut more = store.prune(retention).await?;
            while !stop.is_cancelled() && store.compact_sets().await? {}
            for (group, max_age) in fleet.state_ttls() {
                more |= store.forget_state(&group, max_age).await?;
            }
            Ok::<_, StoreError>(more)
        };
        let removed = removed.await;
        if removed.is_ok() {
            causes.clear_code(&Subject::Store, NOT_PRUNED);
        }
        match removed {
            Ok(true) => tokio::task::yield_now().await,
            Ok(false) => tokio::time::sleep(PRUNE).await,
            Err(error) => {
                let why = format!("what is older than the retention of the store stays in it: {error}");
                // The next try comes later than causes expire.
                causes.report(Subject::Store, Cause::new(NOT_PRUNED, why).until_cleared());
                tokio::time::sleep(PRUNE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kafka_that_says_nothing_is_away_before_its_answer_is_given_up() {
        let heard = KafkaStatus::default();
        assert!(heard.kafka_away().is_some_and(|why| why.contains("not answered yet")));
        heard.kafka_answered();
        assert!(heard.kafka_away().is_some(), "one answer of several is not enough at the start");
        heard.lock().kafka = Some((Instant::now() - SILENCE * 2, Ok(())));
        assert!(heard.kafka_away().is_some_and(|why| why.contains("nothing for 8s")));
        heard.kafka_answered();
        assert_eq!(heard.kafka_away(), None);
        heard.lock().ends.insert(("order".to_owned(), 0), Offset(7));
        heard.kafka_failed("timed out".to_owned());
        heard.kafka_answered();
        assert_eq!(heard.kafka_away().as_deref(), Some("timed out"));
        assert!(heard.ends().is_empty());
    }
}
