//! What the parts of the consuming side share: what they work with, how long a
//! stop waits, and what went wrong when Kafka and the store were both asked.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use tokio::sync::watch;

use super::fairness::controller::FairnessController;
use super::settle::writer::Settler;
use crate::causes::Causes;
use crate::engine::{Engine, StateSource};
use crate::kafka::log_reader::{LogError, LogReader};
use crate::kafka::topic_watch::TopicWatch;
use crate::publish::rules::Rules;
use crate::store::{SharedStore, StoreError, WriterId};

/// How long a stop of the host lets attempts finish.
pub(in crate::consume) const STOP_WAIT: Duration = Duration::from_secs(5);

/// How long to wait before Kafka is asked again what it could not answer.
pub(in crate::consume) const CONFIRM_RETRY: Duration = Duration::from_millis(500);

/// Why Kafka and the store, both asked, gave no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::consume) enum LookError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What every group on this node works with.
#[derive(Clone)]
pub struct NodeContext {
    /// What owners work with.
    pub tools: OwnerDeps,
    /// Who settles.
    pub writer: WriterId,
    /// Runs the guests.
    pub engine: Engine,
    /// Where handlers read state.
    pub state: Arc<dyn StateSource>,
    /// Whether the store takes outcomes.
    pub store_up: watch::Receiver<bool>,
    /// How consumers are configured, but for their group.
    pub consumer: ClientConfig,
    /// Bytes of a record that is kept: of a larger one only its coordinates are.
    pub max_record: usize,
    /// What messages that handlers publish are held to.
    pub rules: Rules,
    /// The name under which a group joins Kafka, for each start of it.
    pub kafka_group: fn(&str) -> String,
    /// Holds back the groups that are behind.
    pub restraints: FairnessController,
    /// Tells when a topic was created anew.
    pub topics: TopicWatch,
}

/// What an owner works with.
#[derive(Clone)]
pub struct OwnerDeps {
    /// Where outcomes go.
    pub settler: Settler,
    /// Where records of open deliveries are.
    pub store: SharedStore,
    /// Where they are when only their coordinates are stored.
    pub log: LogReader,
    /// This node's name.
    pub node: Arc<str>,
    /// Where it says why it stands still.
    pub causes: Causes,
}
