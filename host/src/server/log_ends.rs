//! Asks for the ends of the logs of all bound topics: what lag is measured
//! against, which topics are missing, and which partitions an open transaction
//! holds back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use courier_core::message::Offset;

use super::background::{ENDS, FRESH, KafkaStatus, SILENCE};
use super::groups::RunningGroups;
use super::lag::Lags;
use super::stalled_partitions::{Stalled, Stalls};
use crate::kafka::log_reader::{LogError, LogReader};
use crate::kafka::topic_watch::TopicWatch;
use crate::store::SharedStore;

/// Asks for the ends of the logs of all bound topics, and sets the lag gauges.
pub struct LogEnds {
    log: LogReader,
    topics: TopicWatch,
    heard: Arc<KafkaStatus>,
    /// The partitions of topics, and when they were asked for.
    partitions: HashMap<String, (Instant, Vec<i32>)>,
    stalls: Stalls,
}

/// What one round of questions found.
#[derive(Default)]
struct Round {
    ends: HashMap<(String, i32), Offset>,
    missing: Vec<String>,
    /// The last question that Kafka did not answer.
    trouble: Option<String>,
    /// Whether further questions would wait as long for no answer.
    is_over: bool,
}

impl Round {
    /// Notes a question that was not answered. A partition without a leader says
    /// nothing about the others; a broker that does not answer does.
    fn failed(&mut self, error: &LogError, asked: Instant) {
        self.trouble = Some(error.to_string());
        self.is_over = asked.elapsed() > SILENCE / 2;
    }
}

impl LogEnds {
    #[must_use]
    pub fn new(log: LogReader, topics: TopicWatch, heard: Arc<KafkaStatus>) -> Self {
        Self { log, topics, heard, partitions: HashMap::new(), stalls: Stalls::default() }
    }

    /// Asks round after round.
    pub async fn watch(mut self, store: SharedStore, fleet: Arc<RunningGroups>) {
        let mut lags = Lags::default();
        loop {
            let mut topics: HashSet<String> =
                fleet.bound().iter().flat_map(|bound| bound.binding.topics.clone()).collect();
            topics.extend(fleet.own_topics());
            topics.extend(fleet.companions());
            // Also a host without bindings should know whether Kafka answers.
            if let Err(error) = self.log.ping().await {
                // Each further question would wait as long for no answer.
                self.heard.kafka_failed(error.to_string());
                tokio::time::sleep(ENDS).await;
                continue;
            }
            self.heard.kafka_answered();
            let round = self.ask(topics).await;
            if let Ok(positions) = store.positions().await {
                let bound = fleet.bound();
                let bound = bound.iter().flat_map(|bound| {
                    let topics = bound.binding.topics.iter();
                    topics.map(|topic| (bound.binding.group.as_str(), topic.as_str()))
                });
                lags.tell(&bound.collect(), positions, &round.ends);
            }
            self.report(round);
            tokio::time::sleep(ENDS).await;
        }
    }

    async fn ask(&mut self, topics: HashSet<String>) -> Round {
        let mut round = Round::default();
        for topic in topics {
            let Some(partitions) = self.partitions_of(&topic, &mut round).await else {
                if round.is_over {
                    break;
                }
                continue;
            };
            if partitions.is_empty() {
                round.missing.push(topic.clone());
            }
            for partition in partitions {
                self.ask_partition(&topic, partition, &mut round).await;
                if round.is_over {
                    return round;
                }
            }
        }
        round
    }

    /// The partitions of a topic; none at all when Kafka did not say.
    async fn partitions_of(&mut self, topic: &str, round: &mut Round) -> Option<Vec<i32>> {
        let known = self.partitions.get(topic);
        if let Some((_, found)) = known.filter(|(at, found)| at.elapsed() < FRESH * 6 && !found.is_empty()) {
            return Some(found.clone());
        }
        let asked = Instant::now();
        match self.log.topic(topic).await {
            Ok(info) => {
                let found = info.map(|info| info.partitions).unwrap_or_default();
                self.partitions.insert(topic.to_owned(), (Instant::now(), found.clone()));
                Some(found)
            }
            // What this host may not see is as if it were missing, and says
            // nothing about the others.
            Err(LogError::Refused { .. }) => Some(Vec::new()),
            Err(error) => {
                round.failed(&error, asked);
                None
            }
        }
    }

    async fn ask_partition(&mut self, topic: &str, partition: i32, round: &mut Round) {
        let asked = Instant::now();
        match self.log.range(topic, partition).await {
            Ok((_, high)) => {
                let place = (topic.to_owned(), partition);
                if self.stalls.readable(Instant::now(), &place, high)
                    && let Ok(end) = self.log.end_of_all(topic, partition).await
                {
                    self.stalls.whole(Instant::now(), &place, end);
                }
                if self.heard.lock().ends.get(&place).is_some_and(|before| high < *before) {
                    // No log becomes shorter by itself.
                    self.topics.look_now();
                }
                round.ends.insert(place, high);
                self.heard.kafka_answered();
            }
            // The topic was created anew with fewer partitions.
            Err(LogError::NoTopic(_)) => {
                self.partitions.remove(topic);
                self.topics.look_now();
            }
            Err(error) => round.failed(&error, asked),
        }
    }

    fn report(&mut self, round: Round) {
        if round.trouble.is_none() {
            self.stalls.keep(&round.ends);
        }
        let stalled = self.stalls.stalled(Instant::now());
        tell_stalls(&self.heard.stalled(), &stalled);
        self.heard.lock().stalled = stalled;
        match round.trouble {
            Some(why) => self.heard.kafka_failed(why),
            None => {
                let mut missing = round.missing;
                missing.sort_unstable();
                let mut reports = self.heard.lock();
                reports.kafka = Some((Instant::now(), Ok(())));
                reports.missing = missing;
                reports.ends = round.ends;
            }
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
