//! Addresses of pushed services: which host pushes broadcasts to which of them.
//!
//! With `each = true` every address that the name of a service has is a listener
//! of its own. One host at a time pushes to an address, as long as it holds the
//! lease on it. [`share`] decides which addresses a host has. The store calls it in
//! the transaction that writes the leases and under a lock of the group, so that no
//! two hosts decide at once.
//!
//! The lease keeps hosts from taking an address from one another. What an earlier
//! holder writes late is refused by the epoch, as it is for every position.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;

/// What a host that pushes to a service asks for: its share of the addresses.
#[derive(Clone, Debug)]
pub struct AddressWish {
    /// The group whose handler the service is.
    pub group: String,
    /// The service, as `host:port` of its URL.
    pub service: String,
    /// The host.
    pub node: String,
    /// The addresses that the name resolves to on this host.
    pub addresses: Vec<String>,
    /// How long the leases of its share last unless it asks again.
    pub lease: Duration,
}

/// The addresses of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressShare {
    /// The addresses that it pushes to.
    pub held: Vec<String>,
    /// The addresses that it still holds and has to release once it has stopped
    /// pushing: other hosts have fewer, or the name no longer resolves to them.
    pub surplus: Vec<String>,
}

/// The lease on an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressLeaseRow {
    pub group: String,
    /// The address and its port, as the listener is called.
    pub address: String,
    /// The host that holds it, or held it last.
    pub node: String,
    /// Whether the lease is live.
    pub live: bool,
}

/// Leases addresses of pushed services to hosts: `consume/consumer/` pushes to what
/// its host holds, and the API lists the leases.
#[async_trait]
pub trait AddressLeaseStore {
    /// Records that a host pushes to a service, and leases it its share of the
    /// addresses. The leases of the whole share begin anew.
    async fn hold_addresses(&self, wish: &AddressWish) -> Result<AddressShare, StoreError>;

    /// Releases addresses that a host holds. With an empty list the host leaves the
    /// service, and the next host that asks takes what it had.
    async fn release_addresses(
        &self,
        group: &str,
        service: &str,
        node: &str,
        addresses: &[String],
    ) -> Result<(), StoreError>;

    /// Lists every lease, also those that have ended.
    async fn address_leases(&self) -> Result<Vec<AddressLeaseRow>, StoreError>;
}

/// Whether a listener is an address of a pushed service. Any other is a node,
/// and no name of a node has a colon.
#[must_use]
pub fn is_address(listener: &str) -> bool {
    listener.parse::<SocketAddr>().is_ok()
}

/// Decides which of a service's addresses `node` holds. `hosts` are the hosts that
/// push to the service, `node` among them, and `leases` the live leases: the holder
/// of each address.
///
/// No host has more than an equal part, rounded up. So the others release some
/// addresses for a new host, and those of a host that died are taken at once. A host
/// keeps what it has. The order in which it takes free addresses differs from host to
/// host, so that hosts do not all want the same ones first.
#[must_use]
pub fn share(node: &str, hosts: &[String], addresses: &[String], leases: &BTreeMap<String, String>) -> AddressShare {
    let others = hosts.iter().filter(|host| *host != node).count();
    let equal_part = addresses.len().div_ceil(others + 1);
    let mut by_preference: Vec<&String> = addresses.iter().collect();
    by_preference.sort_by_key(|address| (preference(node, address), *address));
    by_preference.dedup();
    let holder = |address: &String| leases.get(address).map(String::as_str);
    let own = by_preference.iter().copied().filter(|address| holder(address) == Some(node));
    let free = by_preference.iter().copied().filter(|address| holder(address).is_none());
    let mut held: Vec<String> = own.chain(free).take(equal_part).cloned().collect();
    held.sort_unstable();
    let surplus = leases.iter().filter(|(address, holder)| *holder == node && !held.contains(address));
    AddressShare { surplus: surplus.map(|(address, _)| address.clone()).collect(), held }
}

fn preference(node: &str, address: &str) -> u64 {
    // Only this process compares these numbers.
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    (node, address).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn leases(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(address, node)| ((*address).to_owned(), (*node).to_owned())).collect()
    }

    #[test]
    fn a_host_alone_has_every_address() {
        let addresses = texts(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
        for hosts in [vec![], texts(&["a"])] {
            let share = share("a", &hosts, &addresses, &BTreeMap::new());
            assert_eq!(share, AddressShare { held: addresses.clone(), surplus: vec![] });
        }
        assert_eq!(share("a", &texts(&["a"]), &[], &BTreeMap::new()), AddressShare::default());
    }

    #[test]
    fn a_second_host_gets_what_the_first_lets_go_of_and_nothing_moves_after() {
        let (hosts, addresses) = (texts(&["a", "b"]), texts(&["1:1", "2:1", "3:1"]));
        let all_of_a = leases(&[("1:1", "a"), ("2:1", "a"), ("3:1", "a")]);
        let of_b = share("b", &hosts, &addresses, &all_of_a);
        assert_eq!(of_b, AddressShare::default(), "what another holds is not taken from it");
        let of_a = share("a", &hosts, &addresses, &all_of_a);
        assert_eq!((of_a.held.len(), of_a.surplus.len()), (2, 1));
        let mut now = all_of_a.clone();
        now.remove(&of_a.surplus[0]);
        let of_b = share("b", &hosts, &addresses, &now);
        assert_eq!(of_b.held, of_a.surplus);
        now.insert(of_b.held[0].clone(), "b".to_owned());
        for (host, before) in [("a", of_a.held), ("b", of_b.held)] {
            let again = share(host, &hosts, &addresses, &now);
            assert_eq!(again, AddressShare { held: before, surplus: vec![] }, "{host} keeps what it has");
        }
    }

    #[test]
    fn the_addresses_of_a_dead_host_are_taken() {
        let addresses = texts(&["1:1", "2:1"]);
        let left = leases(&[("1:1", "a")]);
        assert_eq!(share("a", &texts(&["a", "b"]), &addresses, &left).held, ["1:1"], "b counts while it may live");
        assert_eq!(share("a", &texts(&["a"]), &addresses, &left).held, addresses);
    }

    #[test]
    fn an_address_that_vanished_is_let_go() {
        let held = leases(&[("1:1", "a"), ("2:1", "a"), ("3:1", "b")]);
        let share = share("a", &texts(&["a", "b"]), &texts(&["2:1"]), &held);
        assert_eq!(share, AddressShare { held: texts(&["2:1"]), surplus: texts(&["1:1"]) });
    }

    /// Whatever the order in which hosts ask, come and go, in the end each
    /// address has one host and no host more than its part.
    #[test]
    fn every_address_ends_up_with_one_host() {
        let addresses: Vec<String> = (1..=7).map(|number| format!("10.0.0.{number}:80")).collect();
        let mut held = BTreeMap::new();
        for hosts in [texts(&["a"]), texts(&["a", "b", "c"]), texts(&["c", "d"]), texts(&["b"])] {
            held.retain(|_, holder| hosts.contains(holder));
            for host in hosts.iter().chain(&hosts).chain(&hosts) {
                let share = share(host, &hosts, &addresses, &held);
                held.extend(share.held.iter().map(|address| (address.clone(), host.clone())));
                share.surplus.iter().for_each(|address| drop(held.remove(address)));
            }
            assert_eq!(held.keys().cloned().collect::<Vec<_>>(), addresses, "{hosts:?}");
            for host in &hosts {
                let count = held.values().filter(|holder| *holder == host).count();
                assert!((1..=addresses.len().div_ceil(hosts.len())).contains(&count), "{host} has {count} of {held:?}");
            }
        }
    }

    #[test]
    fn a_node_is_never_taken_for_an_address() {
        for address in ["10.0.0.1:80", "[fd00::1]:8080", "127.0.0.2:443"] {
            assert!(is_address(address), "{address}");
        }
        for node in ["host-1", "10.0.0.1", "courier-0.courier", "127.0.0.1-80"] {
            assert!(!is_address(node), "{node}");
        }
    }
}
