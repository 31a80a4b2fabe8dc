//! Refuses requests from elsewhere while no token is needed.
//!
//! Without `[auth]` everybody who reaches the listening address is admin. It is a
//! loopback address, but a browser on this machine can send requests for any web
//! page, and a proxy on this machine for any client. `Origin` shows a page of
//! another site, `Host` shows a page whose name was made to resolve to this machine
//! (DNS rebinding), and a proxy shows itself by the headers that it adds. Neither a
//! page nor a client behind a proxy can suppress these headers.
//!
//! With `[auth]` these checks are off: a page or a client behind a proxy has no
//! token, and a host may be addressed by any address or name.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};

use super::problem::Problem;

/// Paths without information and effect.
const FREE: [&str; 1] = ["/healthz"];
/// Headers in which proxies name their client, beside those that begin with
/// [`FORWARDED_PREFIX`].
const OF_PROXIES: [&str; 16] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "true-client-ip",
    "cf-connecting-ip",
    "cdn-loop",
    "fastly-client-ip",
    "fly-client-ip",
    "proxy-client-ip",
    "x-amzn-trace-id",
    "x-azure-clientip",
    "x-original-forwarded-for",
    "x-proxyuser-ip",
];
const FORWARDED_PREFIX: &str = "x-forwarded";

/// Refuses a request from elsewhere; `None` for a request of this machine.
pub(super) fn refuse(request: &Request, is_asset: bool) -> Option<Problem> {
    let headers = request.headers();
    if is_asset || FREE.contains(&request.uri().path()) {
        return None;
    }
    if let Some(name) = proxied(headers) {
        return Some(Problem::forbidden(format!(
            "without [auth] nothing is answered that came through a proxy, which `{name}` says of this request: everybody \
             behind it would be admin; configure tokens, or ask 127.0.0.1 without it"
        )));
    }
    if !names_this_machine(headers, request.uri()) {
        return Some(Problem::forbidden(
            "without [auth] only requests addressed to localhost or a loopback address are answered; \
             address it so, or configure tokens",
        ));
    }
    if !is_own_page(headers) || fetched_elsewhere(headers) {
        return Some(Problem::forbidden(
            "without [auth] a web page of another origin is not answered; use the console of this host, or configure tokens",
        ));
    }
    None
}

/// The header that shows a proxy.
fn proxied(headers: &HeaderMap) -> Option<&str> {
    let mut names = headers.keys().map(header::HeaderName::as_str);
    names.find(|name| OF_PROXIES.contains(name) || name.starts_with(FORWARDED_PREFIX))
}

/// Whether the request is addressed to this machine, by the authority of the URI, if
/// any, and by `Host`. A request without both does not come from a browser.
fn names_this_machine(headers: &HeaderMap, uri: &Uri) -> bool {
    let named = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let mut all = named.chain(uri.authority().map(Authority::as_str));
    all.all(|authority| Address::of(authority).is_some_and(|address| is_this_machine(&address.host)))
}

/// Whether a page of this host sent the request, or no page.
fn is_own_page(headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    let split = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    // A page that hides its origin sends `null`.
    let Some((scheme, authority)) = split.filter(|_| origins.next().is_none()) else { return false };
    let default = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let host = headers.get(header::HOST).and_then(|host| Address::of(host.to_str().ok()?));
    match (Address::of(authority), host) {
        (Some(page), Some(host)) => {
            page.host == host.host && page.port.unwrap_or(default) == host.port.unwrap_or(default)
        }
        _ => false,
    }
}

/// Whether a browser says that a page of another site or origin sent the request.
/// Images, scripts and frames are requested without `Origin`: the page cannot read
/// the response, but 100 images could occupy all event streams.
fn fetched_elsewhere(headers: &HeaderMap) -> bool {
    let own = |site: &[u8]| matches!(site, b"none" | b"same-origin");
    headers.get_all("sec-fetch-site").iter().any(|site| !own(site.as_bytes()))
}

/// A host and a port, as `Host` and `Origin` have them.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    /// In lower case; an IPv6 address without its brackets.
    host: String,
    port: Option<u16>,
}

impl Address {
    fn of(text: &str) -> Option<Self> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port.parse().ok()?),
            None if rest.is_empty() => None,
            None => return None,
        };
        (!host.is_empty()).then(|| Self { host: host.to_ascii_lowercase(), port })
    }
}

fn is_this_machine(host: &str) -> bool {
    let loopback = host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    loopback || host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn refused(path: &str, headers: &[(&str, &str)]) -> Option<String> {
        let request =
            headers.iter().fold(Request::builder().uri(path), |request, (name, value)| request.header(*name, *value));
        refuse(&request.body(Body::empty()).unwrap(), false).map(|problem| problem.detail)
    }

    #[test]
    fn only_names_of_this_machine_pass() {
        for good in [
            "localhost",
            "localhost:7070",
            "LOCALHOST",
            "127.0.0.1:7070",
            "127.9.9.9",
            "[::1]:7070",
            "[::ffff:127.0.0.1]",
            "a.localhost",
        ] {
            assert_eq!(refused("/v1/groups", &[("host", good)]), None, "{good}");
        }
        for bad in [
            "example.com",
            "localhost.example.com",
            "10.0.0.1",
            "127.0.0.1.example.com",
            "[::2]",
            "",
            "notlocalhost",
            "127.0.0.1@evil.example",
            "[::1].evil.example",
            "localhost:evil",
        ] {
            assert!(refused("/v1/groups", &[("host", bad)]).is_some(), "{bad}");
        }
        assert_eq!(refused("/v1/groups", &[]), None);
        assert!(refused("/v1/groups", &[("host", "localhost"), ("host", "evil.example")]).is_some());
        assert!(refused("http://evil.example/v1/groups", &[("host", "localhost")]).is_some(), "the URI counts too");
    }

    /// Item 13: DNS rebinding read `/metrics` and `/readyz`.
    #[test]
    fn every_path_but_the_probe_and_assets_is_held_to_the_host() {
        for path in ["/metrics", "/readyz", "/openapi.json", "/v1/groups", "/v1/events", "/v2"] {
            assert!(refused(path, &[("host", "evil.example")]).is_some(), "{path}");
        }
        assert_eq!(refused("/healthz", &[("host", "evil.example")]), None);
        let asset = Request::builder().uri("/assets/a.js").header("host", "evil.example").body(Body::empty()).unwrap();
        assert!(refuse(&asset, true).is_none());
    }

    /// Item 13: a page of another origin, or of another port of this machine,
    /// could pause a group.
    #[test]
    fn a_page_is_answered_only_if_this_host_served_it() {
        let from = |origin: &str, host: &str| refused("/v1/groups", &[("host", host), ("origin", origin)]);
        for (origin, host) in [
            ("http://localhost:7070", "localhost:7070"),
            ("http://LOCALHOST:7070", "localhost:7070"),
            ("http://[::1]:7070", "[::1]:7070"),
            ("http://localhost", "localhost:80"),
            ("https://localhost:443", "localhost"),
        ] {
            assert_eq!(from(origin, host), None, "{origin} at {host}");
        }
        for (origin, host) in [
            ("null", "localhost:7070"),
            ("http://evil.example", "localhost:7070"),
            ("http://localhost:3000", "localhost:7070"),
            ("http://127.0.0.1:7070", "localhost:7070"),
            ("http://localhost", "localhost:7070"),
            ("file://", "localhost:7070"),
            ("chrome-extension://localhost:7070", "localhost:7070"),
            ("", "localhost:7070"),
        ] {
            assert!(from(origin, host).is_some_and(|why| why.contains("another origin")), "{origin} at {host}");
        }
        let twice = [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://evil.example")];
        assert!(refused("/v1/groups", &twice).is_some());
    }

    /// `<img src="http://localhost:7070/v1/events">` has no `Origin`.
    #[test]
    fn what_a_foreign_page_has_fetched_is_refused_without_an_origin_too() {
        let fetched = |site: &str| refused("/v1/events", &[("host", "localhost:7070"), ("sec-fetch-site", site)]);
        for site in ["cross-site", "same-site", "", "cross-site, none"] {
            assert!(fetched(site).is_some_and(|why| why.contains("another origin")), "{site}");
        }
        // The console, and somebody who typed the address.
        for site in ["same-origin", "none"] {
            assert_eq!(fetched(site), None, "{site}");
        }
    }

    /// Item 13: a proxy in front made everyone admin.
    #[test]
    fn what_came_through_a_proxy_is_refused() {
        for name in [
            "forwarded",
            "via",
            "x-forwarded-for",
            "X-Forwarded-Proto",
            "x-forwarded-host",
            "x-forwarded-x",
            "x-forwarded",
            "Cdn-Loop",
            "X-Real-IP",
        ] {
            let why = refused("/v1/groups", &[("host", "localhost"), (name, "10.0.0.1")]).unwrap();
            assert!(why.contains(&format!("`{}`", name.to_lowercase())), "{why}");
        }
        assert_eq!(refused("/v1/groups", &[("host", "localhost"), ("x-forward", "a")]), None);
    }
}
