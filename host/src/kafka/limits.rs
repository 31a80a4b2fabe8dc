//! Asks Kafka for the limits of topics, and which topics have a companion.
//!
//! A message that is too large, or is for a companion, is therefore refused
//! when it is published, and not later when its sender is gone. In a cluster
//! that does not let this host describe topics their limits are unknown.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use courier_core::message::base_of_companion;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataTopic;

/// How long a question may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// The setting of a topic that is asked for.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// Asks for the limits of topics.
pub struct TopicLimits {
    admin: Arc<AdminClient<DefaultClientContext>>,
}

impl TopicLimits {
    /// A client for the questions.
    ///
    /// # Errors
    /// When the configuration is refused.
    pub fn new(clients: &ClientConfig) -> Result<Self, KafkaError> {
        Ok(Self { admin: Arc::new(clients.create()?) })
    }

    /// The largest batch that each of these topics takes, for those of which
    /// Kafka tells.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn of(&self, topics: &[String]) -> Result<Vec<(String, usize)>, KafkaError> {
        let wanted: Vec<ResourceSpecifier<'_>> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let options = AdminOptions::new().request_timeout(Some(ASK_TIMEOUT));
        let described = self.admin.describe_configs(&wanted, &options).await?;
        let told = topics.iter().zip(described).filter_map(|(topic, described)| {
            let limit = described.ok()?.get(MAX_MESSAGE_BYTES)?.value.as_deref()?.parse().ok()?;
            Some((topic.clone(), limit))
        });
        Ok(told.collect())
    }

    /// The topics that exist beside their companions. Asking for all topics
    /// creates none, as asking for one by its name would.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn with_companions(&self) -> Result<Vec<String>, KafkaError> {
        let admin = Arc::clone(&self.admin);
        let asked = tokio::task::spawn_blocking(move || admin.inner().fetch_metadata(None, ASK_TIMEOUT));
        let metadata = asked.await.map_err(|_| KafkaError::Canceled)??;
        let names: HashSet<&str> = metadata.topics().iter().map(MetadataTopic::name).collect();
        let bases = names.iter().filter_map(|name| base_of_companion(name));
        Ok(bases.filter(|base| names.contains(base)).map(ToOwned::to_owned).collect())
    }
}
