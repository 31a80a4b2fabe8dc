//! The simplest consumer: it handles each message and then inserts its row.
//!
//! It runs one consumer for each partition, each with its own connection and one
//! transaction for each message, so that as many inserts run at once as order
//! allows.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::sink::{self, Received, Rows, Sink};
use super::work::Handler;
use super::{Contract, tell};
use crate::load::PARTITIONS;
use crate::progress::now;

/// Time limit of one poll.
const POLL: Duration = Duration::from_millis(100);

/// Consumes until it is killed.
///
/// # Errors
/// When Kafka or the database fails.
pub async fn run(contract: Contract) -> Result<()> {
    let store = Arc::new(Sink::open(&contract.database, PARTITIONS.unsigned_abs(), sink::UNNEST_IN_FROM).await?);
    let handler = Arc::new(Handler::new(contract.work, &contract.effects));
    tell(handler.calls());
    let contract = Arc::new(contract);
    let mut consumers = JoinSet::new();
    for _ in 0..PARTITIONS {
        let (contract, store, handler) = (Arc::clone(&contract), Arc::clone(&store), Arc::clone(&handler));
        let runtime = Handle::current();
        consumers.spawn_blocking(move || consume(&contract, &store, &handler, &runtime));
    }
    consumers.join_next().await.context("nothing was started")??
}

fn consume(contract: &Contract, store: &Sink, handler: &Handler, runtime: &Handle) -> Result<()> {
    // An offset is stored after its insert; stored offsets are committed every second.
    let consumer: BaseConsumer = contract
        .consumer()
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("enable.auto.offset.store", "false")
        .create()?;
    consumer.subscribe(&[&contract.topic])?;
    loop {
        let Some(message) = consumer.poll(POLL) else { continue };
        let message = message?;
        let key = message.key().unwrap_or_default();
        let record = Received {
            topic: &contract.topic,
            partition: message.partition(),
            offset: message.offset(),
            key,
            record_time: message.timestamp().to_millis().unwrap_or_default() * 1_000,
            received_at: now(),
        };
        runtime.block_on(async {
            let outcome = handler.settle(key, message.payload().unwrap_or_default()).await;
            let mut rows = Rows::default();
            rows.push(&record, outcome);
            store.write(rows).await
        })?;
        consumer.store_offset_from_message(&message)?;
    }
}
