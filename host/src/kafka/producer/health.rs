//! Whether the cluster is there, and whether the client still finds it.
//!
//! Whenever something failed that may mean that the cluster is away, it is
//! asked, and from then on until it answers. librdkafka's own word that all
//! brokers are down is not enough: it counts the bootstrap addresses as
//! brokers that are not down, and a broker that hangs is connected.
//!
//! While the client gets no answer, a fresh one is asked too. A broker that
//! comes back may, for a moment, answer with an empty list of brokers; the
//! client then forgets the last one it knew and never asks another
//! (librdkafka#5301). When fresh clients find a cluster that the client does
//! not, the client is replaced.

use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::metadata::Metadata;
use rdkafka::producer::Producer as _;
use rdkafka::types::RDKafkaType;
use tokio::sync::watch;

use super::Inner;

/// How often a cluster that is or may be away is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_millis(100);
/// How long one such question may take.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long fresh clients must find the cluster before the client is replaced:
/// longer than its pauses between attempts to connect.
const RESCUE_AFTER: Duration = Duration::from_secs(3);

/// What is known of the cluster, shared with the client's callbacks.
pub(super) struct Health {
    down: watch::Sender<bool>,
    // The same, for the path that every acknowledgement takes.
    is_down: AtomicBool,
    suspected: AtomicBool,
    /// The client will never send again.
    pub(super) fatal: AtomicBool,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            down: watch::Sender::new(false),
            is_down: AtomicBool::new(false),
            // Whether the cluster is there is asked once at the start.
            suspected: AtomicBool::new(true),
            fatal: AtomicBool::new(false),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.down.subscribe()
    }

    pub(super) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// Has the cluster asked whether it is there.
    pub(super) fn suspect(&self) {
        self.suspected.store(true, Ordering::Relaxed);
    }

    pub(super) fn set(&self, down: bool) {
        self.is_down.store(down, Ordering::Relaxed);
        self.down.send_if_modified(|was| std::mem::replace(was, down) != down);
    }
}

/// Watches over a producer's cluster and client; ends with the producer.
pub(super) fn keep_watch(inner: &Weak<Inner>) {
    // Since when fresh clients find what the client does not.
    let mut lost: Option<Instant> = None;
    loop {
        std::thread::sleep(PING_INTERVAL);
        let Some(inner) = inner.upgrade() else { return };
        let health = &inner.health;
        let was_down = health.is_down();
        if !health.suspected.swap(false, Ordering::Relaxed) && !was_down {
            lost = None;
            continue;
        }
        match found(inner.client().client().fetch_metadata(None, PING_TIMEOUT)) {
            Ok(()) => {
                if was_down {
                    tracing::info!("kafka is back");
                }
                health.set(false);
                lost = None;
            }
            Err(error) => {
                if !was_down {
                    tracing::warn!(error, "kafka cannot be reached");
                }
                health.set(true);
                if ask_afresh(&inner.config).is_err() {
                    lost = None;
                } else if lost.get_or_insert_with(Instant::now).elapsed() > RESCUE_AFTER {
                    tracing::warn!("the producer no longer finds kafka, which is there: replacing it");
                    health.fatal.store(true, Ordering::Relaxed);
                    inner.replace();
                    lost = None;
                }
            }
        }
    }
}

fn ask_afresh(config: &ClientConfig) -> Result<(), String> {
    let native = config.create_native_config().map_err(|error| error.to_string())?;
    let client = Client::new(config, native, RDKafkaType::RD_KAFKA_PRODUCER, DefaultClientContext);
    found(client.and_then(|client| client.fetch_metadata(None, PING_TIMEOUT)))
}

/// Whether an answer names a broker to send to.
fn found(answer: KafkaResult<Metadata>) -> Result<(), String> {
    match answer {
        Ok(metadata) if metadata.brokers().is_empty() => Err("no broker is ready".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
