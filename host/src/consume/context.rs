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

/// How long attempts may run on when the host stops.
pub(in crate::consume) const STOP_WAIT: Duration = Duration::from_secs(5);

/// Wait before Kafka is asked again.
pub(in crate::consume) const CONFIRM_RETRY: Duration = Duration::from_millis(500);

/// Kafka or the store did not answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::consume) enum LookError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What every group on this node shares.
#[derive(Clone)]
pub struct NodeContext {
    /// What owners work with.
    pub tools: OwnerDeps,
    /// The writer under which outcomes are settled.
    pub writer: WriterId,
    /// Runs the guests.
    pub engine: Engine,
    /// Where handlers read state.
    pub state: Arc<dyn StateSource>,
    /// Whether the store takes outcomes.
    pub store_up: watch::Receiver<bool>,
    /// The configuration of consumers without their group.
    pub consumer: ClientConfig,
    /// Largest record that is kept; of a larger one only the coordinates are.
    pub max_record: usize,
    /// The rules for messages that handlers publish.
    pub rules: Rules,
    /// Makes the name under which a group joins Kafka, once a start.
    pub kafka_group: fn(&str) -> String,
    /// Limits the CPU of groups with a backlog.
    pub restraints: FairnessController,
    /// Notices topics that were recreated.
    pub topics: TopicWatch,
}

/// What every owner shares.
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
    /// Whose broadcasts are handled: this node's, or those of one address of a
    /// pushed service.
    pub listener: Arc<str>,
    /// Where an owner reports why it stands still.
    pub causes: Causes,
}
