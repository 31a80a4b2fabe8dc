//! Keeps the leases of this host on its share of the relay shards.

use std::collections::BTreeSet;
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
/// Pause before a failed renewal is tried again, and while shards are to be released.
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
    /// Those that are released once no row of them is under way: others are to
    /// have them. Released at once, the next holder would send again what Kafka
    /// has taken and this host has not stored yet.
    pub(in crate::publish) surplus: BTreeSet<i32>,
    /// By this host's clock, counted from before the store was asked, so that
    /// it is never later than the store's.
    pub(in crate::publish) until: Instant,
}

impl Default for Shards {
    fn default() -> Self {
        Self { held: Vec::new(), surplus: BTreeSet::new(), until: Instant::now() }
    }
}

impl Shards {
    /// The shards of which rows may be taken.
    pub(super) fn kept(&self) -> impl Iterator<Item = (i32, i64)> {
        self.held.iter().copied().filter(|(shard, _)| !self.surplus.contains(shard))
    }

    /// The shards that are not released by the next renewal: all but those that are
    /// surplus and not busy.
    fn not_released(&self, busy: &BTreeSet<i32>) -> Vec<i32> {
        let shards = self.held.iter().map(|(shard, _)| *shard);
        shards.filter(|shard| busy.contains(shard) || !self.surplus.contains(shard)).collect()
    }
}

/// Renews the leases until `stop`, then releases them. `busy` are the shards with
/// rows under way.
pub(in crate::publish) async fn keep_leases(
    store: SharedStore,
    writer: WriterId,
    (leased, busy): (watch::Sender<Shards>, watch::Receiver<BTreeSet<i32>>),
    causes: Causes,
    stop: CancellationToken,
) {
    let subject = Subject::Host("relay".to_owned());
    loop {
        let asked = Instant::now();
        let kept = leased.borrow().not_released(&busy.borrow());
        let pause = match renew(&store, writer, &kept).await {
            Ok(renewed) => {
                causes.clear_code(&subject, NOT_LEASED);
                let pause = if renewed.surplus.is_empty() { RENEW } else { RENEW_AGAIN };
                leased.send_replace(Shards { until: asked + LEASE, ..renewed });
                pause
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
    match tokio::time::timeout(LET_GO, store.lease_shards(writer, 0, &[], LEASE)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => debug!(%error, "relay leases are left to run out"),
        Err(_) => debug!("relay leases are left to run out"),
    }
}

async fn renew(store: &SharedStore, writer: WriterId, kept: &[i32]) -> Result<Shards, StoreError> {
    let live = store.nodes().await?.iter().filter(|node| node.live).count();
    let want = share(live);
    let held = store.lease_shards(writer, want, kept, LEASE).await?;
    // The store keeps the first of them.
    let surplus = held.iter().skip(want as usize).map(|(shard, _)| *shard).collect();
    Ok(Shards { held, surplus, ..Shards::default() })
}

/// The fair share: if each of `live` nodes holds this many, no shard is left over.
fn share(live: usize) -> u32 {
    SHARDS.div_ceil(u32::try_from(live.max(1)).unwrap_or(SHARDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that joined got the shards at once, and sent again what was under way.
    #[test]
    fn a_shard_that_others_are_to_have_is_kept_until_nothing_of_it_is_under_way() {
        let held = (0..4).map(|shard| (shard, 7)).collect();
        let all = Shards { held, ..Shards::default() };
        assert_eq!(all.not_released(&BTreeSet::new()), [0, 1, 2, 3], "they are marked first");
        let marked = Shards { surplus: BTreeSet::from([2, 3]), ..all };
        assert_eq!(marked.kept().map(|(shard, _)| shard).collect::<Vec<_>>(), [0, 1], "no more rows are taken");
        assert_eq!(marked.not_released(&BTreeSet::from([1, 3])), [0, 1, 3]);
        assert_eq!(marked.not_released(&BTreeSet::new()), [0, 1]);
    }

    #[test]
    fn shares_leave_no_shard_over() {
        for live in 0..200 {
            let total = share(live) * u32::try_from(live.max(1)).unwrap();
            assert!(total >= SHARDS, "{live}");
        }
        assert_eq!((share(0), share(1), share(3), share(64), share(65)), (64, 64, 22, 1, 1));
    }
}
