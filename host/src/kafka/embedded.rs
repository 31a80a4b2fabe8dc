//! A broker inside the process, for `courier dev` and quick tests.
//!
//! It is librdkafka's mock cluster: it takes records, runs groups and keeps
//! offsets, all in memory. It refuses to be more than that: nothing survives
//! the process, old records are dropped silently past 5 MiB a partition, and
//! topics cannot be created or deleted by clients.
//!
//! Its groups wait longer than they need: a new one for three seconds, and one
//! that a member left for most of a session, until it lets the next one in. The
//! first is set here; for the second, each start of a group joins under a name
//! of its own ([`fresh_group`]), since the name of a group matters to nobody
//! else here and its positions are in the store.

use rdkafka::ClientConfig;
use rdkafka::bindings as rdsys;
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer as _};

/// Partitions of the topics that are named when the broker starts.
const PARTITIONS: i32 = 4;
/// How long a new group waits for more members. There is one host; librdkafka
/// takes 0 for a timer that never rings.
const JOIN_WAIT_MS: i32 = 10;

/// A broker that lives as long as this.
pub struct Embedded {
    /// The client that the broker belongs to; it sends nothing.
    owner: BaseProducer,
}

impl Embedded {
    /// Starts a broker with these topics.
    ///
    /// # Errors
    /// When librdkafka cannot start it.
    pub fn start(topics: &[String]) -> Result<Self, KafkaError> {
        let owner: BaseProducer = ClientConfig::new().set("test.mock.num.brokers", "1").create()?;
        let embedded = Self { owner };
        // SAFETY: the client lives, and the cluster as long as it does; the
        // call only sets a number of the cluster.
        unsafe {
            let cluster = rdsys::rd_kafka_handle_mock_cluster(embedded.owner.client().native_ptr());
            rdsys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, JOIN_WAIT_MS);
        }
        for topic in topics {
            embedded.cluster()?.create_topic(topic, PARTITIONS, 1)?;
        }
        Ok(embedded)
    }

    fn cluster(&self) -> Result<MockCluster<'_, DefaultProducerContext>, KafkaError> {
        let cluster = self.owner.client().mock_cluster();
        cluster.ok_or_else(|| KafkaError::ClientCreation("the embedded broker did not start".to_owned()))
    }

    /// Makes a topic, unless it is there.
    pub fn create_topic(&self, topic: &str) {
        if let Err(error) = self.cluster().and_then(|cluster| cluster.create_topic(topic, PARTITIONS, 1)) {
            tracing::debug!(topic, %error, "the embedded broker has this topic");
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When it did not start.
    pub fn servers(&self) -> Result<String, KafkaError> {
        self.cluster().map(|cluster| cluster.bootstrap_servers())
    }
}

/// The name under which a start of `consume` joins.
#[must_use]
pub fn fresh_group(group: &str) -> String {
    format!("{group}.{}", uuid::Uuid::now_v7().simple())
}
