//! The client that may ask for the settings of topics, and what it was told.

use std::collections::HashMap;
use std::time::Instant;

use courier_core::retention::Retention;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaResult;

/// What Kafka said of topics, and when.
pub(super) type Retentions = HashMap<String, (Instant, Retention)>;

/// A client that may ask for settings. Those of a consumer mean nothing to it.
pub(super) fn connect(config: &ClientConfig) -> KafkaResult<AdminClient<DefaultClientContext>> {
    let mut config = config.clone();
    for consumer_only in [
        "group.id",
        "enable.auto.commit",
        "auto.offset.reset",
        "isolation.level",
        "check.crcs",
        "allow.auto.create.topics",
    ] {
        config.remove(consumer_only);
    }
    config.create()
}
