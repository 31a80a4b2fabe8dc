//! The lease of an address that broadcasts are pushed to, as its holder sees it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

/// An address that this host pushes to.
#[derive(Debug)]
pub(in crate::consume) struct HeldAddress {
    good_until: Mutex<Instant>,
    /// Whether the name led there when it was last resolved.
    is_seen: AtomicBool,
}

impl HeldAddress {
    pub(super) fn new(good_until: Instant) -> Self {
        Self { good_until: Mutex::new(good_until), is_seen: AtomicBool::new(true) }
    }

    pub(super) fn renew(&self, good_until: Instant, is_seen: bool) {
        *self.good_until.lock() = good_until;
        self.is_seen.store(is_seen, Ordering::Relaxed);
    }

    /// Whether no other host may have it yet.
    pub(super) fn is_good(&self) -> bool {
        Instant::now() < *self.good_until.lock()
    }

    /// Whether it is this host's, and the name leads there.
    pub(super) fn is_there(&self) -> bool {
        self.is_seen.load(Ordering::Relaxed) && self.is_good()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    #[test]
    fn a_lease_that_is_over_lets_nothing_begin() {
        let lease = HeldAddress::new(Instant::now() + LEASE);
        assert!(lease.is_good() && lease.is_there());
        lease.renew(Instant::now() + LEASE, false);
        assert!(lease.is_good() && !lease.is_there(), "it is still pushed to, and not said to be there");
        lease.renew(Instant::now(), true);
        assert!(!lease.is_good() && !lease.is_there());
    }
}
