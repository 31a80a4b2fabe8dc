//! Readiness: whether the host takes requests, and what it cannot do meanwhile.

use std::sync::Arc;

use tokio::sync::watch;

use super::config_standing::ConfigStanding;
use super::groups::RunningGroups;
use super::kafka_status::KafkaStatus;
use super::readiness_report::ReadinessReport;
use super::store_probe::StoreProbe;
use crate::causes::Causes;
use crate::kafka::producer::Producer;
use crate::publish::send::Acceptor;

/// What the readiness of a host is judged by.
pub struct ReadinessProbe {
    /// Whether the store takes writes.
    pub pulse: StoreProbe,
    /// Whether messages are accepted.
    pub acceptor: Acceptor,
    /// Whether outcomes are taken.
    pub store_up: watch::Receiver<bool>,
    /// Knows whether the brokers are known to be down.
    pub producer: Producer,
    /// What was last heard of Kafka.
    pub heard: Arc<KafkaStatus>,
    /// What runs.
    pub fleet: Arc<RunningGroups>,
    /// What stands still.
    pub causes: Causes,
    /// How the configuration stands.
    pub config: ConfigStanding,
}

impl ReadinessProbe {
    /// The readiness now.
    pub async fn report(&self) -> ReadinessReport {
        let mut ready = ReadinessReport { migrated: true, ..ReadinessReport::default() };
        match self.pulse.feel().await {
            Ok(()) => ready.store = true,
            Err(why) => ready.reasons.push(why),
        }
        ready.accepting = ready.store;
        if let Some(why) = self.acceptor.why_closed().filter(|_| ready.store) {
            ready.accepting = false;
            ready.reasons.push(format!("messages cannot be stored, so that none is accepted: {why}"));
        }
        if ready.store && !*self.store_up.borrow() {
            ready.degrade(
                "store_writes",
                "store writes",
                None,
                "outcomes cannot be written: no handler starts until they can",
            );
        }
        if self.producer.is_down() || self.heard.kafka_away().is_some() {
            let why = self.heard.kafka_away().unwrap_or_else(|| "no broker answers".to_owned());
            ready.degrade("kafka", "kafka", None, why);
        }
        // The first broadcast after this answer must find its listeners.
        if !self.fleet.listens() && !self.producer.is_down() && !self.heard.is_kafka_away() {
            ready.accepting = false;
            ready.reasons.push("this node is not registered for broadcasts yet".to_owned());
        }
        let companions = self.fleet.companions();
        let (companions, missing): (Vec<_>, Vec<_>) =
            self.heard.missing_topics().into_iter().partition(|topic| companions.contains(topic));
        for topic in companions {
            // Nothing is wrong as long as nobody broadcasts.
            ready.reasons.push(format!(
                "topic {topic} does not exist: broadcasts are refused until it does, or [kafka.topics] create = true"
            ));
        }
        for topic in missing {
            let why = format!("a binding needs topic {topic}, which does not exist");
            ready.degrade("topic_missing", format!("topic {topic}"), Some(&topic), why);
        }
        for stalled in self.heard.stalled() {
            let (topic, partition) = &stalled.place;
            let why = format!(
                "partition {topic}:{partition} stands at offset {}: a producer's transaction has been open for {} s and \
                 holds {} offsets back; finish or abort it (kafka-transactions.sh finds it)",
                stalled.at,
                stalled.since.as_secs(),
                stalled.behind
            );
            ready.degrade("partition_stalled", format!("partition {topic}:{partition}"), Some(topic), why);
        }
        for standing in self.causes.shown().iter().filter(|standing| standing.degrades()) {
            ready.degrade_for(standing);
        }
        self.config.tell(&mut ready);
        ready
    }
}
