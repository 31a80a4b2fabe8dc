//! Which HTTP requests a binding allows its handler.

use std::net::IpAddr;
use std::sync::Arc;

use reqwest::Url;

use crate::addresses;

/// A host and a port that a binding lets its handler call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// A DNS name in lower case, `*.` before one for all names below it, or an
    /// IP address without brackets.
    pub host: String,
    pub port: u16,
}

/// The rules of a binding for the HTTP requests of its handler.
#[derive(Clone, Debug, Default)]
pub struct HttpRules {
    /// The hosts and ports that it may call.
    pub allow: Vec<Destination>,
    /// Whether names of `allow` may resolve to private and loopback addresses.
    pub private: bool,
    /// The URL that the operator wrote for `http-push`.
    pub own_url: Option<Url>,
    /// The one address to which the name in that URL resolves here.
    pub own_address: Option<IpAddr>,
    /// The certificates, as PEM, that TLS trusts in place of the system's roots.
    pub ca: Option<Arc<str>>,
    /// The number of attempts that the binding makes at the same time.
    pub concurrency: usize,
}

impl Destination {
    pub(super) fn is_host(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        if let Some(address) = addresses::literal(url) {
            return self.host.parse::<IpAddr>() == Ok(address);
        }
        match self.host.strip_prefix('*') {
            // The dot stays, so that only names below it match.
            Some(below) => host.len() > below.len() && host.ends_with(below),
            None => host == self.host,
        }
    }
}
