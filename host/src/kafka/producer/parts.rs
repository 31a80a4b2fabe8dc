//! The parts of a producer: they hand records to the client by way of the windows,
//! and replace a client that failed.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Weak};
use std::time::Duration;

use courier_core::message::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::BaseRecord;
use tokio::sync::oneshot;

use super::client::{ProducerClient, connect};
use super::health::ClusterHealth;
use super::order::OrderedSends;
use super::windows::{ProduceResult, Ticket, Windows};
use crate::clock::now;
use crate::kafka::header_name;
use crate::kafka::record::Record;
use crate::kafka::topic_id::TopicIds;
use crate::kafka::topics::TopicCache;
use crate::said;

/// Pause before the client's full queue is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// The client of a producer, and what is known of it; clones of the producer share it.
pub(super) struct ProducerParts {
    pub(super) config: ClientConfig,
    // Replaced when the client reports a fatal error, after which it never
    // sends again.
    pub(super) client: Mutex<Arc<ProducerClient>>,
    pub(super) health: Arc<ClusterHealth>,
    pub(super) windows: Arc<Windows>,
    pub(super) topics: TopicCache,
    pub(super) ids: TopicIds,
}

impl ProducerParts {
    pub(super) fn client(&self) -> Arc<ProducerClient> {
        Arc::clone(&self.locked())
    }

    fn locked(&self) -> MutexGuard<'_, Arc<ProducerClient>> {
        self.client.lock()
    }

    pub(super) fn enqueue(
        &self,
        order: &OrderedSends,
        topic: &str,
        partition: i32,
        record: &Record,
    ) -> Result<oneshot::Receiver<ProduceResult>, KafkaError> {
        if self.health.fatal.load(Ordering::Relaxed) {
            self.replace();
        }
        self.windows.send(order, topic, partition, record, |ticket| self.produce(topic, partition, record, ticket))
    }

    /// Hands a record to the client.
    fn produce(
        &self,
        topic: &str,
        partition: i32,
        record: &Record,
        ticket: Box<Ticket>,
    ) -> Result<(), (KafkaError, Box<Ticket>)> {
        let mut out = BaseRecord::with_opaque_to(topic, ticket).partition(partition);
        out.key = record.key.as_deref();
        out.payload = record.value.as_deref();
        out.timestamp = Some(sent_at_millis(record, now()));
        if !record.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(record.headers.len());
            out.headers = Some(
                record
                    .headers
                    .iter()
                    .fold(headers, |headers, header| header_name::add(headers, &header.name, header.value.as_deref())),
            );
        }
        self.client().send::<[u8], [u8]>(out).map_err(|(error, out)| {
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
                self.health.fatal.store(true, Ordering::Relaxed);
            }
            (error, out.delivery_opaque)
        })
    }

    /// Puts a new client in the place of one that hit a fatal error. What the
    /// old one still holds is given back as [`ProduceError::Later`].
    pub(super) fn replace(&self) {
        // No broker has state for the new client. Windows are locked before the
        // client elsewhere, so not while it is locked here.
        self.windows.close();
        let mut client = self.locked();
        if !self.health.fatal.swap(false, Ordering::Relaxed) {
            return;
        }
        match connect(&self.config, &self.health, &self.windows) {
            Ok(new) => {
                let old = std::mem::replace(&mut *client, new);
                // Dropping a client blocks until its threads have ended.
                std::thread::spawn(move || drop(old));
            }
            Err(error) => {
                if let Some(unsaid) = said::again("no producer") {
                    tracing::error!(%error, unsaid, "cannot replace the failed producer");
                }
                self.health.fatal.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Hands over what windows release, until the producer is gone.
    pub(super) fn keep_releasing(producer: &Weak<Self>, rings: &Receiver<()>) {
        while rings.recv().is_ok() {
            while let Some(inner) = producer.upgrade() {
                let send =
                    |topic: &str, partition, record: &Record, ticket| inner.produce(topic, partition, record, ticket);
                if inner.windows.release(send) {
                    break;
                }
                drop(inner);
                std::thread::sleep(FULL_PAUSE);
            }
        }
    }
}

/// The time of a record for Kafka. The client would take this machine's clock,
/// and brokers refuse for good what comes from more than an hour ahead: `now` is
/// the store's.
fn sent_at_millis(record: &Record, now: Timestamp) -> i64 {
    let time = if record.timestamp.0 > 0 { record.timestamp } else { now };
    time.0 / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host two hours ahead had every message refused as of an invalid time,
    /// although its store told it the right one.
    #[test]
    fn a_record_of_a_host_whose_clock_is_ahead_has_the_time_of_the_store() {
        let store = Timestamp(7_000_999);
        let of =
            |time| Record { timestamp: Timestamp(time), key: None, value: None, headers: Vec::new(), left_out: None };
        assert_eq!(sent_at_millis(&of(0), store), 7_000);
        assert_eq!(sent_at_millis(&of(5_000), store), 5);
    }
}
