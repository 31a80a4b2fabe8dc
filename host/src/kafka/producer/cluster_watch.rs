//! Whether the cluster is there, and whether the client still finds it.
//!
//! Whenever something failed that may mean that the cluster is away, it is
//! asked, and from then on until it answers. librdkafka's own word that all
//! brokers are down is not enough: it counts the bootstrap addresses as
//! brokers that are not down, and a broker that hangs is connected.
//!
//! A client that no longer finds a cluster which is there is replaced; see
//! [`health`](crate::kafka::stale_client) for how that is told.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::producer::Producer as _;

use super::parts::ProducerParts;
use crate::kafka::stale_client::{PING_TIMEOUT, StaleClient, ask_afresh, found};
use crate::said;

/// How often a cluster that is or may be away is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_millis(100);

/// Watches over a producer's cluster and client; ends with the producer.
pub(super) fn keep_watch(inner: &Weak<ProducerParts>) {
    let mut rescue = StaleClient::default();
    loop {
        std::thread::sleep(PING_INTERVAL);
        let Some(inner) = inner.upgrade() else { return };
        let health = &inner.health;
        let was_down = health.is_down();
        if !health.suspected.swap(false, Ordering::Relaxed) && !was_down {
            rescue = StaleClient::default();
            continue;
        }
        match found(inner.client().client().fetch_metadata(None, PING_TIMEOUT)) {
            Ok(()) => {
                if was_down && let Some(unsaid) = said::again("kafka is back") {
                    tracing::info!(unsaid, "kafka is back");
                }
                health.set(false);
                rescue = StaleClient::default();
            }
            Err(error) => {
                if !was_down && let Some(unsaid) = said::again("kafka cannot be reached") {
                    tracing::warn!(error, unsaid, "kafka cannot be reached");
                }
                health.set(true);
                if rescue.is_needed(false, || ask_afresh(&inner.config)) {
                    if let Some(unsaid) = said::again("lost producer") {
                        tracing::warn!(unsaid, "the producer no longer finds kafka, which is there: replacing it");
                    }
                    health.fatal.store(true, Ordering::Relaxed);
                    inner.replace();
                }
            }
        }
    }
}
