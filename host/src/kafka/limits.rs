//! How large a batch each topic takes, as far as Kafka tells.
//!
//! A message that is larger is refused where it comes from, by a sender's or a
//! handler's door, and not found out once nobody can mend it. A cluster that
//! does not let us describe its topics leaves their limits unknown.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;

/// How long a question may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// The setting of a topic that is asked for.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// Asks for the limits of topics.
pub struct Limits {
    admin: AdminClient<DefaultClientContext>,
}

impl Limits {
    /// A client for the questions.
    ///
    /// # Errors
    /// When the configuration is refused.
    pub fn new(clients: &ClientConfig) -> Result<Self, KafkaError> {
        Ok(Self { admin: clients.create()? })
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
}
