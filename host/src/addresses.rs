//! Classifies IP addresses, for requests to URLs that came from outside.
//!
//! The owner of a DNS name decides which address it resolves to. So the address
//! is checked and not the name, and the connection goes to the checked address:
//! a second lookup could return another one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

/// The network that an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AddressKind {
    /// The internet.
    Public,
    /// The network that this machine stands in.
    Private,
    /// This machine.
    Loopback,
    /// Addresses without a service, and the metadata services of clouds, which
    /// return a machine's credentials: no request is sent there.
    Nowhere,
}

/// The metadata services of clouds outside of the link-local range: of Alibaba and
/// Oracle, and Azure's WireServer, which is in a public range.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];
/// The first 32 bits of those of AWS (the instance, time, and pod identities) and of
/// Google.
const METADATA_V6: [(u16, u16); 2] = [(0xfd00, 0xec2), (0xfd20, 0xce)];

impl AddressKind {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [a, b, c, _] = address.octets();
        let nowhere = a == 0
            || a >= 224 // multicast, reserved, broadcast
            || address.is_link_local()
            || METADATA_V4.contains(&address);
        let private = address.is_private()
            || (a == 100 && (64..128).contains(&b)) // shared by a provider's customers
            || (a, b, c) == (192, 0, 0)
            || (a, b, c) == (192, 88, 99) // relays of 6to4
            || (a == 198 && (b == 18 || b == 19)) // benchmarks
            || address.is_documentation();
        match (nowhere, address.is_loopback(), private) {
            (true, ..) => Self::Nowhere,
            (_, true, _) => Self::Loopback,
            (.., true) => Self::Private,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if address == Ipv6Addr::LOCALHOST {
            return Self::Loopback;
        }
        // An embedded IPv4 address is reached through a translator in the local
        // network, so it never counts as public.
        if let Some(inner) = embedded(address) {
            return Self::of_v4(inner).max(Self::Private);
        }
        let [a, b, ..] = address.segments();
        if METADATA_V6.contains(&(a, b)) || address.is_unspecified() || address.is_multicast() {
            return Self::Nowhere;
        }
        if address.is_unique_local() {
            return Self::Private;
        }
        // 2000::/3 is the internet, except for its reserved ranges: 2001::/23
        // (Teredo among them) and the addresses of documentation.
        let internet = (0x2000..0x4000).contains(&a);
        let set_aside = (a == 0x2001 && (b < 0x200 || b == 0xdb8)) || a == 0x3fff;
        if internet && !set_aside { Self::Public } else { Self::Nowhere }
    }
}

/// Whether a connection may be made to `address` for a URL that the operator of
/// this host wrote: to public and private addresses, to this machine only if the
/// URL names it, and never to [`AddressKind::Nowhere`].
pub(crate) fn operator_may_reach(address: IpAddr, names_this_machine: bool) -> bool {
    match AddressKind::of(address) {
        AddressKind::Public | AddressKind::Private => true,
        AddressKind::Loopback => names_this_machine,
        AddressKind::Nowhere => false,
    }
}

/// The IP address that a URL has in place of a host name.
pub(crate) fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Whether a name resolves to this machine everywhere.
pub(crate) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// The IPv4 address inside of a mapped, compatible, NAT64 or 6to4 address.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let pair = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] if address != Ipv6Addr::UNSPECIFIED => Some(pair(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(pair(high, low)),
        [0x2002, high, low, ..] => Some(pair(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(address: &str) -> AddressKind {
        AddressKind::of(address.parse().unwrap())
    }

    #[test]
    fn every_range_is_what_it_is() {
        for public in ["93.184.216.34", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"] {
            assert_eq!(place(public), AddressKind::Public, "{public}");
        }
        for private in [
            "10.0.0.1",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "fc00::1",
            "fd00:ec1::254",
            "fd12:3456::1",
            "fd20:cf::254",
            "::ffff:10.0.0.1",
            "::ffff:93.184.216.34",
            "::10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::5db8:d822",
            "2002:a00:1::1",
            "2002:5db8:d822::",
        ] {
            assert_eq!(place(private), AddressKind::Private, "{private}");
        }
        for loopback in ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "2002:7f00:1::"] {
            assert_eq!(place(loopback), AddressKind::Loopback, "{loopback}");
        }
        for nowhere in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "169.254.170.23",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::ffff:168.63.129.16",
            "64:ff9b::168.63.129.16",
            "::ffff:100.100.100.200",
            "64:ff9b::192.0.0.192",
            "fd00:ec2::23",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "5f00::1",
        ] {
            assert_eq!(place(nowhere), AddressKind::Nowhere, "{nowhere}");
        }
    }
}
