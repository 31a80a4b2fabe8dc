//! Starts the tasks that run as long as the host does, one a file.
//!
//! Each is a [`Task`] of `supervise`, which ends the process by its name when the task
//! ends by itself.

mod broadcasts;
mod gauges;
mod group_causes;
mod lag;
pub(super) mod lease;
mod log_ends;
mod node_bindings;
mod own_topics;
mod retention;
mod seen_log_ends;
mod stalled_partitions;
mod statistics;
pub(super) mod store_watch;
#[cfg(test)]
mod testing;
mod topic_ids;
mod topic_limits;
mod unowned;

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::JoinSet;

use self::log_ends::LogEnds;
use super::wiring::{HostParts, Watches};
use crate::config::Config;
use crate::consume::redrive::Runner;
use crate::kafka::limits::TopicLimits;
use crate::supervise::{self, Task};

impl HostParts {
    /// Starts what runs for as long as the host does.
    pub(super) fn start_background(&self, config: &Config, watches: Watches) -> anyhow::Result<JoinSet<()>> {
        let (store, fleet) = (|| Arc::clone(&self.base.store), || Arc::clone(&self.fleet));
        let (causes, stop) = (|| self.base.causes.clone(), || self.base.stop.clone());
        let mut tasks = JoinSet::new();
        let mut start = |task, work: BoxFuture<'static, ()>| {
            tasks.spawn(supervise::until(task, self.base.stop.clone(), work));
        };
        start(Task::Fleet, fleet().follow().boxed());
        start(Task::Fairness, watches.restraints.keep().boxed());
        let stop_sources = {
            let (fleet, board) = (fleet(), causes());
            move |full: &HashSet<String>| fleet.hold_for_undelivered(full, &board)
        };
        start(Task::UndeliveredWatch, watches.undelivered.run(store(), causes(), stop_sources).boxed());
        start(Task::TopicWatch, self.topics.clone().run(self.base.log.clone(), stop()).boxed());
        if !self.base.dev {
            start(Task::TopicIds, topic_ids::watch(self.topics.clone(), causes()).boxed());
        }
        let ends = LogEnds::new(self.base.log.clone(), self.topics.clone(), Arc::clone(&self.heard));
        start(Task::LogEnds, ends.watch(store(), fleet()).boxed());
        start(Task::BroadcastWatch, broadcasts::watch(store(), fleet()).boxed());
        start(Task::Gauges, gauges::set(store()).boxed());
        start(Task::Minutes, statistics::keep(store(), self.base.writer).boxed());
        let kept = config.store.retention;
        start(Task::Retention, retention::prune(store(), fleet(), kept, causes(), stop()).boxed());
        start(Task::StoreWatch, store_watch::keep(store(), self.acceptor.clone(), causes()).boxed());
        start(Task::GroupCauses, group_causes::watch(store(), fleet(), Arc::clone(&self.heard), causes()).boxed());
        start(Task::NodeBindings, node_bindings::keep(store(), fleet(), Arc::clone(&self.base.node)).boxed());
        start(Task::RedriveRunner, self.redrive_runner().run(stop()).boxed());
        if !topic_limits::compresses(&config.kafka.properties) {
            let limits = TopicLimits::new(&self.base.clients).context("cannot set up a client for kafka")?;
            let watch = topic_limits::watch(limits, self.acceptor.rules().clone(), fleet());
            start(Task::TopicLimits, watch.boxed());
        }
        let heard = Arc::clone(&self.heard);
        let create = own_topics::create(watches.wanted_topics, self.base.producer.clone(), fleet(), heard, causes());
        start(Task::OwnTopics, create.boxed());
        Ok(tasks)
    }

    fn redrive_runner(&self) -> Runner {
        Runner {
            store: Arc::clone(&self.base.store),
            log: self.base.log.clone(),
            writer: self.base.writer,
            node: Arc::clone(&self.base.node),
            wake: Box::new({
                let fleet = Arc::clone(&self.fleet);
                move || fleet.wake()
            }),
            poke: Arc::clone(&self.redrives),
            passes_over: Box::new({
                let fleet = Arc::clone(&self.fleet);
                move |group, topic, kind| fleet.passes_over(group, topic, kind)
            }),
            causes: self.base.causes.clone(),
        }
    }
}
