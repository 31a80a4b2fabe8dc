//! What a host does at its own pace: its lease, the ends of logs, retention,
//! gauges.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use courier_core::message::Offset;
use courier_core::status::State;
use tokio_util::sync::CancellationToken;

use super::groups::RunningGroups;
use super::lag::Lags;
use super::stalled_partitions::{Stalled, Stalls};
use crate::causes::{Cause, Causes, Subject};
use crate::kafka::log_reader::{LogError, LogReader};
use crate::kafka::topic_watch::TopicWatch;
use crate::said;
use crate::stats;
use crate::store::{SharedStore, StoreError, WriterId};

/// How long a node's name is held without a renewal.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(3);
/// How often the ends of logs are asked for.
const ENDS: Duration = Duration::from_secs(2);
/// How often what is older than the retention is removed.
const PRUNE: Duration = Duration::from_secs(60);
/// A store from which nothing old can be removed is known by this word.
const NOT_PRUNED: &str = "not_pruned";
/// How often it is looked who hears broadcasts, and how many new ones are
/// judged at a time.
const BROADCASTS: Duration = Duration::from_secs(1);
const MAX_JUDGED: u32 = 1_000;
/// How often the store is asked which groups the API paused.
pub const PAUSE_POLL: Duration = Duration::from_millis(500);
/// How often what was counted is written.
const MINUTES: Duration = Duration::from_secs(2);
/// How long Kafka may say nothing before it is taken to be away: a question
/// to one that is frozen waits much longer for its answer.
const SILENCE: Duration = Duration::from_secs(8);
/// How long an answer of a dependency is believed.
pub const FRESH: Duration = Duration::from_secs(5);

/// What was last heard of the things the host depends on.
#[derive(Debug, Default)]
pub struct KafkaStatus {
    inner: Mutex<KafkaReports>,
}

#[derive(Debug, Default)]
struct KafkaReports {
    ends: HashMap<(String, i32), Offset>,
    kafka: Option<(Instant, Result<(), String>)>,
    missing: Vec<String>,
    stalled: Vec<Stalled>,
}

impl KafkaStatus {
    fn lock(&self) -> std::sync::MutexGuard<'_, KafkaReports> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Last offset + 1 of the partitions that are bound here.
    #[must_use]
    pub fn ends(&self) -> HashMap<(String, i32), Offset> {
        self.lock().ends.clone()
    }

    /// Why Kafka is taken to be away, if it is.
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

    /// Kafka answered a question among several. Whether it is there again is
    /// for all of them to say.
    fn kafka_answered(&self) {
        if let Some((at, Ok(()))) = &mut self.lock().kafka {
            *at = Instant::now();
        }
    }

    /// Kafka did not answer. Ends that nobody could ask for are unknown, not
    /// what they were.
    fn kafka_failed(&self, why: String) {
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

/// Renews the lease on the node's name. Ends with why the host must stop, when
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

/// Asks for the ends of the logs of all bound topics, and sets the lag gauges.
pub async fn watch_ends(
    log: LogReader,
    topics_now: TopicWatch,
    store: SharedStore,
    fleet: Arc<RunningGroups>,
    heard: Arc<KafkaStatus>,
) {
    let mut partitions: HashMap<String, (Instant, Vec<i32>)> = HashMap::new();
    let (mut stalls, mut lags) = (Stalls::default(), Lags::default());
    loop {
        let mut topics: HashSet<String> = fleet.bound().iter().flat_map(|bound| bound.binding.topics.clone()).collect();
        topics.extend(fleet.own_topics());
        topics.extend(fleet.companions());
        let mut ends = HashMap::new();
        let mut missing = Vec::new();
        // Also a host without bindings should know whether Kafka answers.
        if let Err(error) = log.ping().await {
            // Each further question would wait as long for no answer.
            heard.kafka_failed(error.to_string());
            tokio::time::sleep(ENDS).await;
            continue;
        }
        heard.kafka_answered();
        let mut trouble = None;
        'asking: for topic in topics {
            let asked = Instant::now();
            let known = partitions.get(&topic).filter(|(at, found)| at.elapsed() < FRESH * 6 && !found.is_empty());
            let found = match known {
                Some((_, found)) => found.clone(),
                None => match log.topic(&topic).await {
                    Ok(info) => {
                        let found = info.map(|info| info.partitions).unwrap_or_default();
                        partitions.insert(topic.clone(), (Instant::now(), found.clone()));
                        found
                    }
                    // What this host may not see is as if it were missing, and
                    // says nothing about the others.
                    Err(LogError::Refused { .. }) => Vec::new(),
                    Err(error) => {
                        trouble = Some(error.to_string());
                        if asked.elapsed() > SILENCE / 2 {
                            break 'asking;
                        }
                        continue;
                    }
                },
            };
            if found.is_empty() {
                missing.push(topic.clone());
            }
            for partition in found {
                let asked = Instant::now();
                match log.range(&topic, partition).await {
                    Ok((_, high)) => {
                        let place = (topic.clone(), partition);
                        if stalls.readable(Instant::now(), &place, high)
                            && let Ok(end) = log.end_of_all(&topic, partition).await
                        {
                            stalls.whole(Instant::now(), &place, end);
                        }
                        if heard.lock().ends.get(&place).is_some_and(|before| high < *before) {
                            // No log becomes shorter by itself.
                            topics_now.look_now();
                        }
                        ends.insert(place, high);
                        heard.kafka_answered();
                    }
                    // The topic was created anew with fewer partitions.
                    Err(LogError::NoTopic(_)) => {
                        partitions.remove(&topic);
                        topics_now.look_now();
                    }
                    Err(error) => {
                        trouble = Some(error.to_string());
                        // A partition without a leader says nothing about the
                        // others; a broker that does not answer does.
                        if asked.elapsed() > SILENCE / 2 {
                            break 'asking;
                        }
                    }
                }
            }
        }
        if let Ok(positions) = store.positions().await {
            let bound = fleet.bound();
            let bound = bound.iter().flat_map(|bound| {
                let topics = bound.binding.topics.iter();
                topics.map(|topic| (bound.binding.group.as_str(), topic.as_str()))
            });
            lags.tell(&bound.collect(), positions, &ends);
        }
        if trouble.is_none() {
            stalls.keep(&ends);
        }
        let stalled = stalls.stalled(Instant::now());
        tell_stalls(&heard.stalled(), &stalled);
        heard.lock().stalled = stalled;
        match trouble {
            Some(why) => heard.kafka_failed(why),
            None => {
                missing.sort_unstable();
                let mut inner = heard.lock();
                inner.kafka = Some((Instant::now(), Ok(())));
                inner.missing = missing;
                inner.ends = ends;
            }
        }
        tokio::time::sleep(ENDS).await;
    }
}

/// Says so where the broker tells no ids of topics, for as long as it does not.
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

/// Ends listeners that are no longer expected, and says of new broadcasts
/// whether anybody was there for them.
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
                        "a node was away longer than broadcast_forget and is no longer expected to hear broadcasts"
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

/// Logs which partitions are held back now and were not, and the other way
/// round; and sets the gauge.
fn tell_stalls(before: &[Stalled], now: &[Stalled]) {
    let is_in = |stalls: &[Stalled], one: &Stalled| stalls.iter().any(|other| other.place == one.place);
    for Stalled { place: (topic, partition), at, behind, since } in now.iter().filter(|one| !is_in(before, one)) {
        tracing::warn!(
            topic, partition, at = %at, behind, open_for = ?since,
            "a producer's transaction is open and holds the partition back: finish or abort it"
        );
    }
    for Stalled { place: (topic, partition), .. } in before.iter().filter(|one| !is_in(now, one)) {
        tracing::info!(topic, partition, "no transaction holds the partition back any more");
    }
    metrics::gauge!("courier_stalled_partitions").set(now.len() as f64);
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

/// Writes what this process counted lately. What the store does not take is
/// written with what comes next.
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

/// Removes what is older than the retention, and state that its group forgets.
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
                // Longer than the board remembers, and it is tried again late.
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
