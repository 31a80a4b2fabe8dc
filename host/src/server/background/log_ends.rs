//! Asks for the ends of the logs of all bound topics: what lag is measured
//! against, which topics are missing, and which partitions an open transaction
//! holds back.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use courier_core::message::Offset;

use super::lag::Lags;
use super::seen_log_ends::SeenLogEnds;
use super::stalled_partitions::Stalls;
use crate::app::groups::RunningGroups;
use crate::app::kafka_status::{KafkaStatus, SILENCE, Stalled};
use crate::kafka::log_reader::{LogError, LogReader, TopicInfo};
use crate::kafka::topic_watch::TopicWatch;
use crate::store::{PositionRow, SeenLogEnd, SharedStore};

/// How often the ends are asked for.
const LOOK: Duration = Duration::from_secs(2);
/// How long the partitions of a topic are taken for known.
const TOPIC_KNOWN_FOR: Duration = Duration::from_secs(30);
/// How often the logs are asked for that nobody reads here: their lag changes
/// nothing that is done.
const UNREAD_LOOK: Duration = Duration::from_secs(30);
/// Partitions of such logs: each costs a question.
const MAX_UNREAD: usize = 1_000;

/// Asks for the ends of the logs of all bound topics, and sets the lag gauges.
pub struct LogEnds {
    log: LogReader,
    topics: TopicWatch,
    heard: Arc<KafkaStatus>,
    /// The ids and partitions of topics, and when they were asked for.
    known: HashMap<String, (Instant, TopicInfo)>,
    stalls: Stalls,
    unread: UnreadEnds,
}

/// Where logs end in which groups stand that this host does not read for them.
#[derive(Default)]
struct UnreadEnds {
    asked_at: Option<Instant>,
    ends: HashMap<(String, i32), Offset>,
}

impl UnreadEnds {
    /// Asks again if that is due. What is not answered is left out.
    async fn ask(&mut self, log: &LogReader, positions: &[PositionRow], read: &HashSet<String>) {
        if self.asked_at.is_some_and(|at| at.elapsed() < UNREAD_LOOK) {
            return;
        }
        let places: BTreeSet<(String, i32)> = positions
            .iter()
            .filter(|row| row.listener.is_none() && row.epoch > 0 && !read.contains(&row.topic))
            .map(|row| (row.topic.clone(), row.partition))
            .collect();
        self.ends.clear();
        let begun = Instant::now();
        for (topic, partition) in places.into_iter().take(MAX_UNREAD) {
            match log.range(&topic, partition).await {
                Ok((_, end)) => {
                    self.ends.insert((topic, partition), end);
                }
                Err(error) => tracing::debug!(topic, partition, %error, "cannot ask where a log ends"),
            }
            // The logs that are read come first.
            if begun.elapsed() > SILENCE / 2 {
                break;
            }
        }
        self.asked_at = Some(Instant::now());
    }
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
        Self { log, topics, heard, known: HashMap::new(), stalls: Stalls::default(), unread: UnreadEnds::default() }
    }

    /// Asks round after round.
    pub async fn watch(mut self, store: SharedStore, fleet: Arc<RunningGroups>) {
        let (mut lags, mut seen) = (Lags::default(), SeenLogEnds::default());
        loop {
            let mut topics: HashSet<String> =
                fleet.bound().iter().flat_map(|bound| bound.binding.topics.clone()).collect();
            topics.extend(fleet.own_topics());
            topics.extend(fleet.companions());
            // Also a host without bindings should know whether Kafka answers.
            if let Err(error) = self.log.ping().await {
                // Each further question would wait as long for no answer.
                self.heard.kafka_failed(error.to_string());
                lags.tell_none();
                tokio::time::sleep(LOOK).await;
                continue;
            }
            self.heard.kafka_answered();
            let round = self.ask(topics.clone()).await;
            let positions = store.positions().await;
            if positions.is_err() {
                lags.tell_none();
            }
            if let Ok(positions) = positions {
                if !round.is_over {
                    self.unread.ask(&self.log, &positions, &topics).await;
                }
                let bound = fleet.bound();
                let bound = bound.iter().flat_map(|bound| {
                    let topics = bound.binding.topics.iter();
                    topics.map(|topic| (bound.binding.group.as_str(), topic.as_str()))
                });
                lags.tell(&bound.collect(), positions, &round.ends);
            }
            seen.take(self.with_ids(&round.ends), &self.topics.last(), &store).await;
            self.report(round);
            tokio::time::sleep(LOOK).await;
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
        let known = self.known.get(topic);
        if let Some((_, found)) =
            known.filter(|(at, found)| at.elapsed() < TOPIC_KNOWN_FOR && !found.partitions.is_empty())
        {
            return Some(found.partitions.clone());
        }
        let asked = Instant::now();
        match self.log.topic(topic).await {
            Ok(info) => {
                let none = || TopicInfo { id: String::new(), partitions: Vec::new() };
                let found = info.unwrap_or_else(none);
                let partitions = found.partitions.clone();
                self.known.insert(topic.to_owned(), (Instant::now(), found));
                Some(partitions)
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
                self.known.remove(topic);
                self.topics.look_now();
            }
            Err(error) => round.failed(&error, asked),
        }
    }

    /// Ends with the ids that their topics had before they were asked for.
    fn with_ids(&self, ends: &HashMap<(String, i32), Offset>) -> Vec<SeenLogEnd> {
        let with_id = |((topic, partition), end): (&(String, i32), &Offset)| {
            let (_, info) = self.known.get(topic)?;
            let topic_id = info.id.clone();
            Some(SeenLogEnd { log_topic: topic.clone(), partition: *partition, topic_id, end: *end })
        };
        ends.iter().filter_map(with_id).collect()
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
                for (place, end) in &self.unread.ends {
                    reports.ends.entry(place.clone()).or_insert(*end);
                }
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
