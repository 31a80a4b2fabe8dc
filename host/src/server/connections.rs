//! Bounds the connections of clients.
//!
//! A connection takes a file descriptor, and Kafka, the store and guests need
//! descriptors too: the bound is the limit of the process less a reserve for
//! them. One address has at most half of the connections, so that it cannot
//! lock all others out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::rate_limit::network;

/// Descriptors that the process asks for. The usual soft limit of 1,024 stands
/// for programs that use `select`; this one does not.
const WANTED_DESCRIPTORS: u64 = 65_536;
/// Descriptors that are kept for Kafka, the store and guests; half of all when
/// there are fewer than twice as many.
const RESERVED_DESCRIPTORS: u64 = 2_048;
/// Upper bound of the connections, whatever the descriptors.
const MAX_CONNECTIONS: u64 = 4_096;
/// Assumed where the system does not report its limit: POSIX's minimum.
const LEAST_DESCRIPTORS: u64 = 20;

/// The bounds of connections.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once; further ones wait in the system's queue.
    pub connections: usize,
    /// How long a new connection may take until the head of its first request
    /// is here, TLS included.
    pub first_head_wait: Duration,
    /// How long a connection may be without the whole head of a request since
    /// its last answer. Longer than proxies keep idle connections, so that it
    /// is they who close them.
    pub head_wait: Duration,
    /// How long a client may read nothing of an answer that is under way.
    pub read_wait: Duration,
}

impl Bounds {
    /// The bounds for a process with this many descriptors.
    #[must_use]
    pub fn within(descriptors: u64) -> Self {
        let left = descriptors.saturating_sub(RESERVED_DESCRIPTORS.min(descriptors / 2));
        Self {
            connections: usize::try_from(left.min(MAX_CONNECTIONS)).unwrap_or(1),
            first_head_wait: Duration::from_secs(10),
            head_wait: Duration::from_secs(75),
            read_wait: Duration::from_secs(30),
        }
    }

    /// The bounds of this process, after it raised its limit of descriptors.
    #[must_use]
    pub fn of_this_process() -> Self {
        let descriptors = raise_descriptors();
        let bounds = Self::within(descriptors);
        tracing::debug!(descriptors, connections = bounds.connections, "connections bounded");
        bounds
    }
}

/// Raises the soft limit of descriptors towards the hard one, and returns the
/// limit in force.
fn raise_descriptors() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call fills the struct that it is handed.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return LEAST_DESCRIPTORS;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max.min(WANTED_DESCRIPTORS), ..limit };
    // SAFETY: the call only reads the struct that it is handed.
    if raised.rlim_cur > limit.rlim_cur && unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
        return raised.rlim_cur;
    }
    limit.rlim_cur
}

/// Counts the open connections; clones share the count.
#[derive(Clone)]
pub struct OpenConnections {
    all: Arc<Semaphore>,
    max_of_one: usize,
    of_addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One counted connection, until it is dropped.
pub struct Connection {
    counted: OpenConnections,
    address: IpAddr,
    _room: OwnedSemaphorePermit,
}

impl OpenConnections {
    /// At most `max` at once, and half of them from one address.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(max)), max_of_one: max.div_ceil(2), of_addresses: Arc::default() }
    }

    /// Waits until one more may be taken.
    pub async fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.all).acquire_owned().await.ok()
    }

    /// Counts a connection of `peer`; `None` when its address has too many.
    #[must_use]
    pub fn count(&self, room: OwnedSemaphorePermit, peer: IpAddr) -> Option<Connection> {
        let address = network(peer);
        let mut all = self.of_addresses.lock();
        let open = all.entry(address).or_default();
        if *open >= self.max_of_one {
            return None;
        }
        *open += 1;
        Some(Connection { counted: self.clone(), address, _room: room })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut all = self.counted.of_addresses.lock();
        if let Some(open) = all.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                all.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Item 12: 1,075 idle connections used up the usual 1,024 descriptors.
    #[test]
    fn connections_leave_descriptors_for_everything_else() {
        let connections = |descriptors| Bounds::within(descriptors).connections;
        assert_eq!([1_024, 4_096, 65_536, 1 << 20].map(connections), [512, 2_048, 4_096, 4_096]);
        for descriptors in [2, 64, 1_024, 3_000, 10_000] {
            let left = descriptors - connections(descriptors) as u64;
            assert!(left >= RESERVED_DESCRIPTORS.min(descriptors / 2), "{descriptors}: {left}");
        }
    }

    #[test]
    fn the_soft_limit_is_raised_as_far_as_the_hard_one_allows() {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let descriptors = raise_descriptors();
        // SAFETY: the call fills the struct that it is handed.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
        assert_eq!(limit.rlim_cur, descriptors);
        assert!(descriptors >= limit.rlim_max.min(WANTED_DESCRIPTORS));
    }

    #[tokio::test]
    async fn one_address_has_half_of_the_connections() {
        let connections = OpenConnections::new(4);
        let take = async |peer: &str| connections.count(connections.room().await.unwrap(), peer.parse().unwrap());
        let first = take("2001:db8::1").await.unwrap();
        let _second = take("2001:db8::2").await.unwrap();
        assert!(take("2001:db8::3").await.is_none(), "the same network");
        let _other = take("10.0.0.1").await.unwrap();
        drop(first);
        assert!(take("2001:db8::3").await.is_some());
    }
}
