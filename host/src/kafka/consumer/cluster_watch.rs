//! Checks that the consumer of a group still finds its cluster and its coordinator.
//!
//! It has a thread of its own, since librdkafka's questions block and the
//! polling thread must not. It asks after an error that may mean that the
//! cluster is away, until it is answered, and periodically, because a consumer
//! may lose its cluster without an error. A consumer that does not find an
//! existing cluster is reported to its group, which replaces it.
//!
//! A broker that hung may be found again and the group's coordinator not,
//! although it is the same one: librdkafka keeps a connection of its own for
//! it. Such a consumer waits for ever to join, so both are asked.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

use super::message::ConsumerEvent;
use super::rebalances::Rebalances;
use crate::kafka::stale_client::{PING_TIMEOUT, StaleClient, found};

/// How often it is looked whether something is suspected.
const LOOK: Duration = Duration::from_millis(500);
/// How long an answer is taken for granted when nothing is suspected.
const ROUTINE: Duration = Duration::from_secs(10);

/// Watches over a consumer; ends with it. `subscribed` is a topic of the
/// group, if it is one that others can join.
pub(super) fn keep_watch(consumer: &Weak<BaseConsumer<Rebalances>>, config: &ClientConfig, subscribed: Option<&str>) {
    let mut rescue = StaleClient::default();
    let mut asked = Instant::now();
    loop {
        std::thread::sleep(LOOK);
        let Some(consumer) = consumer.upgrade() else { return };
        let context = consumer.context();
        // Before the question: an error that comes meanwhile asks once more.
        if !context.suspected.swap(false, Ordering::Relaxed) && asked.elapsed() < ROUTINE {
            continue;
        }
        asked = Instant::now();
        let answered = finds_all(&*consumer, subscribed).is_ok();
        if rescue.is_needed(answered, || ask_afresh(config, subscribed)) {
            return context.tell(ConsumerEvent::Fatal("it no longer finds kafka, which is there".to_owned()));
        }
        if !answered {
            context.suspected.store(true, Ordering::Relaxed);
        }
    }
}

/// Asks the same with a consumer made for the question, which never joins.
fn ask_afresh(config: &ClientConfig, subscribed: Option<&str>) -> Result<(), String> {
    let fresh: BaseConsumer = config.create().map_err(|error| error.to_string())?;
    finds_all(&fresh, subscribed)
}

fn finds_all<C: ConsumerContext>(consumer: &BaseConsumer<C>, subscribed: Option<&str>) -> Result<(), String> {
    found(consumer.fetch_metadata(None, PING_TIMEOUT))?;
    let Some(topic) = subscribed else { return Ok(()) };
    // What a group has committed only its coordinator knows.
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    consumer.committed_offsets(list, PING_TIMEOUT).map(drop).map_err(|error| error.to_string())
}
