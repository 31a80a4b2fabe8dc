//! Keeps the leases of this host on its share of the relay shards.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::causes::{Cause, Causes, Subject};
use crate::store::{SHARDS, SharedStore, StoreError, WriterId};

/// How long a lease lasts without a renewal: a crash delays its shards by at most this.
const LEASE: Duration = Duration::from_secs(10);
/// Renewal interval; also how soon the shares follow a change of nodes.
const RENEW: Duration = Duration::from_secs(2);
/// Pause before a failed renewal is tried again.
const RENEW_AGAIN: Duration = Duration::from_millis(500);
/// The code of the cause that the store refuses to renew leases.
const NOT_LEASED: &str = "relay_not_leased";
/// How long the release at a stop may take.
const LET_GO: Duration = Duration::from_secs(2);

/// The leases of this host, for other parts that work under them.
#[derive(Clone)]
pub struct Leases(pub(in crate::publish) watch::Receiver<Shards>);

/// The shards this host holds, with their epochs.
#[derive(Clone, Debug)]
pub(in crate::publish) struct Shards {
    pub(in crate::publish) held: Vec<(i32, i64)>,
    /// By this host's clock, counted from before the store was asked, so that
    /// it is never later than the store's.
    pub(in crate::publish) until: Instant,
}

impl Default for Shards {
    fn default() -> Self {
        Self { held: Vec::new(), until: Instant::now() }
    }
}

/// Renews the leases until `stop`, then releases them.
pub(in crate::publish) async fn keep_leases(
    store: SharedStore,
    writer: WriterId,
    leased: watch::Sender<Shards>,
    causes: Causes,
    stop: CancellationToken,
) {
    let subject = Subject::Host("relay".to_owned());
    loop {
        let asked = Instant::now();
        let pause = match renew(&store, writer).await {
            Ok(held) => {
                causes.clear_code(&subject, NOT_LEASED);
                leased.send_replace(Shards { held, until: asked + LEASE });
                RENEW
            }
            Err(error) if error.is_transient() => {
                debug!(%error, "relay leases are not renewed");
                RENEW_AGAIN
            }
            Err(error) => {
                let why =
                    format!("this host sends nothing that waits: the store leases it no part of the relay: {error}");
                causes.report(subject.clone(), Cause::new(NOT_LEASED, why));
                RENEW
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    match tokio::time::timeout(LET_GO, store.lease_shards(writer, 0, LEASE)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => debug!(%error, "relay leases are left to run out"),
        Err(_) => debug!("relay leases are left to run out"),
    }
}

async fn renew(store: &SharedStore, writer: WriterId) -> Result<Vec<(i32, i64)>, StoreError> {
    let live = store.nodes().await?.iter().filter(|node| node.live).count();
    store.lease_shards(writer, share(live), LEASE).await
}

/// The fair share: if each of `live` nodes holds this many, no shard is left over.
fn share(live: usize) -> u32 {
    SHARDS.div_ceil(u32::try_from(live.max(1)).unwrap_or(SHARDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_leave_no_shard_over() {
        for live in 0..200 {
            let total = share(live) * u32::try_from(live.max(1)).unwrap();
            assert!(total >= SHARDS, "{live}");
        }
        assert_eq!((share(0), share(1), share(3), share(64), share(65)), (64, 64, 22, 1, 1));
    }
}
