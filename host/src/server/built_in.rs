//! What `courier dev` puts in the place of a cluster and a database.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use courier_core::message::Kind;

use crate::config::Config;
use crate::kafka::embedded::Embedded;

/// The built-in parts.
pub(super) struct BuiltIn {
    /// The broker runs until this is dropped.
    pub(super) broker: Embedded,
    pub(super) servers: Vec<String>,
    pub(super) store: String,
    pub(super) listen: Option<SocketAddr>,
}

impl BuiltIn {
    /// Puts the built-in parts into a configuration, and creates the topics of
    /// its bindings.
    pub fn replace(&self, config: &mut Config) {
        if let Some(listen) = self.listen {
            config.server.listen = listen;
        }
        config.kafka.bootstrap_servers.clone_from(&self.servers);
        config.kafka.properties.clear();
        config.store.url = self.store.as_str().into();
        for topic in topics(config) {
            self.broker.create_topic(&topic);
        }
    }
}

/// What the bindings read and what they may publish on, with the companions
/// that their broadcasts lie in: the embedded broker's clients make no topics.
fn topics(config: &Config) -> BTreeSet<String> {
    let named = config.bindings.iter().flat_map(|binding| binding.topics.iter().chain(&binding.grant.publish));
    named.flat_map(|topic| [topic.clone(), Kind::Broadcast.log_topic(topic).into_owned()]).collect()
}
