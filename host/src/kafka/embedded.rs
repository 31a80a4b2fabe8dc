//! A broker inside the process, for `courier dev` and quick tests.
//!
//! It is librdkafka's mock cluster: it takes records, runs groups and keeps
//! offsets, all in memory. It refuses to be more than that: nothing survives
//! the process, old records are dropped silently past 5 MiB a partition, and
//! topics cannot be created or deleted by clients.

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// Partitions of the topics that are named when the broker starts.
const PARTITIONS: i32 = 4;

/// A broker that lives as long as this.
pub struct Embedded {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Embedded {
    /// Starts a broker with these topics.
    ///
    /// # Errors
    /// When librdkafka cannot start it.
    pub fn start(topics: &[String]) -> Result<Self, KafkaError> {
        let cluster = MockCluster::new(1)?;
        for topic in topics {
            cluster.create_topic(topic, PARTITIONS, 1)?;
        }
        Ok(Self { cluster })
    }

    /// Makes a topic, unless it is there.
    pub fn create_topic(&self, topic: &str) {
        if let Err(error) = self.cluster.create_topic(topic, PARTITIONS, 1) {
            tracing::debug!(topic, %error, "the embedded broker has this topic");
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }
}
