//! What Kafka answered last, which the health of the host and lags are told from.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use courier_core::message::Offset;
use parking_lot::{Mutex, MutexGuard};

/// How long Kafka may be silent before it counts as away: a question to a
/// frozen broker waits much longer for its answer.
pub(crate) const SILENCE: Duration = Duration::from_secs(8);

/// A topic and a partition of it.
pub type PartitionKey = (String, i32);

/// A partition that is held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
    pub place: PartitionKey,
    /// Where it can be read to.
    pub at: Offset,
    /// How many offsets lie behind that.
    pub behind: i64,
    /// For how long.
    pub since: Duration,
}

/// Kafka's last answers.
#[derive(Debug, Default)]
pub struct KafkaStatus {
    inner: Mutex<KafkaReports>,
}

#[derive(Debug, Default)]
pub(crate) struct KafkaReports {
    pub(crate) ends: HashMap<(String, i32), Offset>,
    pub(crate) kafka: Option<(Instant, Result<(), String>)>,
    pub(crate) missing: Vec<String>,
    pub(crate) stalled: Vec<Stalled>,
}

impl KafkaStatus {
    pub(crate) fn lock(&self) -> MutexGuard<'_, KafkaReports> {
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
    pub(crate) fn kafka_answered(&self) {
        if let Some((at, Ok(()))) = &mut self.lock().kafka {
            *at = Instant::now();
        }
    }

    /// Notes that Kafka did not answer, and forgets the ends, which are unknown
    /// now.
    pub(crate) fn kafka_failed(&self, why: String) {
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
