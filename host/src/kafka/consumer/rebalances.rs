//! What librdkafka reports to a consumer outside of its polls: rebalances and
//! errors.

use std::sync::atomic::{AtomicBool, Ordering};

use courier_core::message::Kind;
use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::mpsc::UnboundedSender;

use super::message::ConsumerEvent;
use crate::kafka::buffered::TopicPartition;
use crate::kafka::client_log;
use crate::kafka::stale_client::is_suspicious;

/// Sends rebalances as events. The default of the trait would unassign at once,
/// and leave no time to drain.
pub(super) struct Rebalances {
    notices: Mutex<UnboundedSender<ConsumerEvent>>,
    /// The cluster may be away, or this consumer may have lost it.
    pub(super) suspected: AtomicBool,
}

impl Rebalances {
    pub(super) fn new(notices: UnboundedSender<ConsumerEvent>) -> Self {
        Self { notices: Mutex::new(notices), suspected: AtomicBool::new(false) }
    }

    pub(super) fn tell(&self, notice: ConsumerEvent) {
        // Unwrap safety: nothing panics while the lock is held.
        let _ = self.notices.lock().send(notice);
    }
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        client_log::line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if is_suspicious(&error) {
            self.suspected.store(true, Ordering::Relaxed);
        }
        client_log::client_error(&error, reason);
    }
}

impl ConsumerContext for Rebalances {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = places(list);
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.tell(ConsumerEvent::Assigned(partitions)),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                let lost = consumer.assignment_lost();
                if lost {
                    self.suspected.store(true, Ordering::Relaxed);
                }
                self.tell(ConsumerEvent::Revoked { partitions, lost });
            }
            other => {
                let error: RDKafkaErrorCode = other.into();
                self.tell(ConsumerEvent::Trouble(format!("rebalance failed: {error}")));
            }
        }
    }
}

/// What a rebalance speaks of: a subscription is to topics of events only.
fn places(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let event = |topic: &str, partition| TopicPartition { topic: topic.into(), partition, kind: Kind::Event };
    list.elements().iter().map(|element| event(element.topic(), element.partition())).collect()
}
