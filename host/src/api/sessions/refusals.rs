//! Bounds the audit entries about refused attempts to sign in.
//!
//! Everybody who reaches the host can make such attempts, and an entry stays until
//! retention removes it. So each address has one entry a minute, and all addresses
//! together [`MAX_ENTRIES_A_DAY`] a day. Each host counts for itself.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use courier_core::message::Timestamp;
use parking_lot::Mutex;

use crate::api::rate_limit::network;

/// Most entries about refused sign-ins a day, by the calendar in UTC.
const MAX_ENTRIES_A_DAY: usize = 1_000;

const MINUTE_MICROS: i64 = 60_000_000;
const DAY_MICROS: i64 = 24 * 60 * MINUTE_MICROS;

/// Counts refused sign-ins; clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<Counted>>);

#[derive(Debug, Default)]
struct Counted {
    minute: i64,
    /// The addresses that have their entry of this minute.
    addresses: HashSet<IpAddr>,
    day: i64,
    entries_of_day: usize,
}

impl Refusals {
    /// Counts a refusal of `peer` at `now`, and returns whether it gets an entry.
    #[must_use]
    pub fn has_entry(&self, peer: IpAddr, now: Timestamp) -> bool {
        let mut counted = self.0.lock();
        let (minute, day) = (now.0.div_euclid(MINUTE_MICROS), now.0.div_euclid(DAY_MICROS));
        if counted.day != day {
            (counted.day, counted.entries_of_day) = (day, 0);
        }
        if counted.minute != minute {
            counted.minute = minute;
            counted.addresses.clear();
        }
        if counted.entries_of_day >= MAX_ENTRIES_A_DAY || !counted.addresses.insert(network(peer)) {
            return false;
        }
        counted.entries_of_day += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    /// Item 17: one entry an address and minute, at most 1,000 a day.
    #[test]
    fn entries_are_bounded_by_address_and_by_day() {
        let refusals = Refusals::default();
        let at = |minute: i64| Timestamp(1_000 * DAY_MICROS + minute * MINUTE_MICROS);
        assert!(refusals.has_entry(peer(1), at(0)));
        assert!(!refusals.has_entry(peer(1), at(0)) && refusals.has_entry(peer(2), at(0)));
        assert!(refusals.has_entry(peer(1), at(1)));
        let more = (0..5_000).filter(|number| refusals.has_entry(peer(100 + number), at(2 + i64::from(*number) % 60)));
        assert_eq!(more.count(), MAX_ENTRIES_A_DAY - 3);
        assert!(refusals.has_entry(peer(1), at(24 * 60)), "another day");
    }
}
