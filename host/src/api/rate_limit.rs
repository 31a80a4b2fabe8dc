//! Rate limits for failed attempts, by peer.
//!
//! Peers share a fixed number of slots, so that memory is bounded however many
//! peers there are. Two peers in one slot share its limit; the hash of each
//! process decides which do.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use axum::http::request::Parts;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::problem::Problem;

/// Slots that peers share.
const SLOTS: usize = 4_096;

/// A rate limit for each peer; clones share it.
#[derive(Clone)]
pub struct PeerRateLimit {
    slots: Arc<[DefaultDirectRateLimiter]>,
    places: RandomState,
    clock: DefaultClock,
}

impl PeerRateLimit {
    /// `burst` attempts at once, and one more after each `refill`.
    #[must_use]
    pub fn new(burst: u32, refill: Duration) -> Self {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(refill).unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN));
        let slots = (0..SLOTS).map(|_| RateLimiter::direct(quota.allow_burst(burst))).collect();
        Self { slots, places: RandomState::new(), clock: DefaultClock::default() }
    }

    /// Counts one attempt. `what` names the attempts in the error.
    ///
    /// # Errors
    /// 429 with the time after which the next attempt is possible.
    pub fn count(&self, peer: IpAddr, what: &str) -> Result<(), Problem> {
        let Some(slot) = self.slots.get(self.place(peer)) else { return Ok(()) };
        slot.check().map_err(|refused| {
            // `Retry-After` has whole seconds.
            let wait = refused.wait_time_from(self.clock.now()).as_secs() + 1;
            let detail = format!("too many {what} from this address; the next is answered in {wait} s");
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many attempts", detail).retry_after(wait)
        })
    }

    fn place(&self, peer: IpAddr) -> usize {
        let hash = self.places.hash_one(network(peer));
        usize::try_from(hash % SLOTS as u64).unwrap_or(0)
    }
}

/// The address that limits count by: of IPv6 the /64 network, which one customer
/// has.
pub(crate) fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

/// The address that a request came from.
pub(super) fn peer(parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.0.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_number_of_attempts_and_others_have_theirs() {
        let limit = PeerRateLimit::new(20, Duration::from_secs(2));
        let peer = |text: &str| text.parse::<IpAddr>().unwrap();
        let busy = peer("2001:db8::1");
        for _ in 0..20 {
            limit.count(busy, "attempts").unwrap();
        }
        let refused = limit.count(peer("2001:db8::2"), "attempts").unwrap_err();
        assert_eq!((refused.status, refused.retry_after), (429, Some(2)), "the same network");
        let others = (0..=255).map(|last| IpAddr::from([10, 0, 0, last]));
        let mut apart = others.filter(|other| limit.place(*other) != limit.place(busy));
        assert!(limit.count(apart.next().unwrap(), "attempts").is_ok());
    }
}
