//! Creates topics of Courier's own.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig as _;
use rdkafka::error::RDKafkaErrorCode;

use super::{ProduceError, Producer};

/// How long the creation of a topic may take.
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);

impl Producer {
    /// Creates one of Courier's own topics unless it exists; `replication` 0
    /// or less leaves the factor to the broker. Answers whether it is new.
    ///
    /// # Errors
    /// When the broker refuses, or cannot be reached.
    pub async fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i32,
        settings: &[(&str, &str)],
    ) -> Result<bool, ProduceError> {
        let later =
            |error: &dyn std::fmt::Display| ProduceError::Later(format!("cannot create topic {topic}: {error}"));
        let mut config = self.config().clone();
        for producer_only in ["enable.idempotence", "partitioner", "acks", "message.timeout.ms", "linger.ms"] {
            config.remove(producer_only);
        }
        let admin: AdminClient<DefaultClientContext> =
            AdminClient::from_config(&config).map_err(|error| later(&error))?;
        let factor = if replication > 0 { replication } else { -1 };
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(factor));
        new.config.extend_from_slice(settings);
        let options = AdminOptions::new().operation_timeout(Some(CREATE_TIMEOUT)).request_timeout(Some(CREATE_TIMEOUT));
        let created = admin.create_topics([&new], &options).await.map_err(|error| later(&error))?;
        // The client's destructor waits for its threads: not on this one.
        tokio::task::spawn_blocking(move || drop(admin));
        self.forget(topic);
        match created.into_iter().next() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((
                _,
                code @ (RDKafkaErrorCode::InvalidTopic
                | RDKafkaErrorCode::InvalidPartitions
                | RDKafkaErrorCode::InvalidReplicationFactor
                | RDKafkaErrorCode::InvalidConfig
                | RDKafkaErrorCode::PolicyViolation
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed),
            ))) => Err(ProduceError::Refused(format!("cannot create topic {topic}: {code}"))),
            Some(Err((_, code))) => Err(later(&code)),
            None => Err(later(&"the broker gave no answer")),
        }
    }
}
