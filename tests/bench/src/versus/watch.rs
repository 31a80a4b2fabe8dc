//! Watches a contender from outside while it works: its progress, and the
//! processor time of it and its servers.

use std::time::Duration;

use anyhow::{Context as _, Result};
use courier_tests::{Store, kafka};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::load::PARTITIONS;
use crate::progress::{Used, now};
use crate::stored::Stored;

/// Time limit for an answer from Kafka.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Reads the progress of a group.
pub struct Watch {
    group: String,
    topic: String,
    client: BaseConsumer,
}

impl Watch {
    /// A watch over a group and its topic.
    ///
    /// # Errors
    /// When librdkafka makes no client.
    pub fn new(group: &str, topic: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        // The client never subscribes, so it is no member and changes nothing.
        config.set("bootstrap.servers", kafka().bootstrap()).set("group.id", group);
        Ok(Self { group: group.to_owned(), topic: topic.to_owned(), client: config.create()? })
    }

    /// The offsets that the group has committed. Each promises that everything
    /// below it is durable.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn committed(&self) -> Result<Vec<i64>> {
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition(&self.topic, partition);
        }
        let committed = self.client.committed_offsets(list, ANSWER_LIMIT).context("cannot read committed offsets")?;
        let offset = |offset| if let Offset::Offset(offset) = offset { offset } else { 0 };
        Ok(committed.elements().iter().map(|element| offset(element.offset())).collect())
    }

    /// A host's positions, from its store.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn positions(&self, stored: &Stored) -> Result<Vec<i64>> {
        let known = stored.positions(&self.group, &self.topic).await?;
        Ok((0..PARTITIONS).map(|partition| known.get(&partition).copied().unwrap_or(0)).collect())
    }

    /// Whether the group has members and a stable assignment.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn is_joined(&self) -> Result<bool> {
        let groups = self.client.fetch_group_list(Some(&self.group), ANSWER_LIMIT).context("cannot ask for a group")?;
        Ok(groups.groups().iter().any(|group| group.state() == "Stable" && !group.members().is_empty()))
    }
}

/// Processor time over time.
#[derive(Debug, Default)]
pub struct Usage {
    looks: Vec<(i64, Used)>,
}

impl Usage {
    /// Records the present usage of a process and its servers.
    pub fn look(&mut self, process: u32) {
        self.looks.push((now(), Used::now(process, Store::Postgres)));
    }

    /// Processor time used between two times; none when it was not watched then.
    #[must_use]
    pub fn between(&self, from: i64, to: i64) -> Option<Used> {
        let last = self.looks.iter().rev().find(|(at, _)| *at <= from)?;
        let first = self.looks.iter().find(|(at, _)| *at >= to).or(self.looks.last())?;
        let (span, part) = ((first.0 - last.0) as f64, (to - from) as f64);
        if span <= 0.0 {
            return None;
        }
        // Samples are not exactly at these times: usage is interpolated linearly
        // between them.
        let used = first.1 - last.1;
        let scale = (part / span).min(1.0);
        Some(Used {
            contender: used.contender.mul_f64(scale),
            broker: used.broker.mul_f64(scale),
            database: used.database.mul_f64(scale),
        })
    }
}
