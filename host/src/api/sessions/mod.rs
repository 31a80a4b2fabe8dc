//! Sessions of browsers: signing in exchanges a token for a session cookie.
//!
//! The cookie holds 256 random bits, which no script can read and no other site can
//! send. The store has their hash, and a second hash that binds the session to the
//! secret of its token, so that the session ends when that token leaves the
//! configuration or gets another secret. A change by cookie must carry
//! `X-Courier-CSRF`, a value derived from the cookie that `GET /v1/me` returns.
//! Programs send their token and need no session.

mod admission;
pub mod close;
pub mod me;
pub mod open;
mod refusals;

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

pub use self::admission::{admit, holder};
pub use self::refusals::Refusals;
use super::rate_limit::{self, PeerRateLimit};
use crate::random;

/// How long a session lasts.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3_600);
/// The cookie's name.
pub const COOKIE: &str = "courier_session";
/// The cookie's name over TLS. The prefix makes browsers accept the cookie only from
/// this host over TLS, so that no other host of the domain and nobody on the way can
/// set it.
pub const COOKIE_OVER_TLS: &str = "__Host-courier_session";
/// The header that a change by cookie must carry.
pub const CSRF: HeaderName = HeaderName::from_static("x-courier-csrf");
/// Attempts to sign in that one address may make at once, and the time after which it
/// may make one more.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(2);

/// The name and attributes of session cookies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cookies {
    over_tls: bool,
}

impl Cookies {
    /// Cookies for browsers that connect over TLS, or that may connect without.
    #[must_use]
    pub fn new(over_tls: bool) -> Self {
        Self { over_tls }
    }

    fn name(self) -> &'static str {
        if self.over_tls { COOKIE_OVER_TLS } else { COOKIE }
    }

    /// The cookie that holds `value` for `seconds`.
    fn set(self, headers: &HeaderMap, value: &str, seconds: u64) -> String {
        // A proxy that terminates TLS sets this header. A client that forges it only
        // makes its own cookie stricter.
        let https = self.over_tls || headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
        let secure = if https { "; Secure" } else { "" };
        let name = self.name();
        format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
    }
}

/// The secret in a browser's cookie.
#[derive(Clone, Copy)]
pub struct SessionSecret([u8; 32]);

impl SessionSecret {
    /// A new random secret.
    fn new() -> Self {
        Self(random::secret())
    }

    /// The secret in a request's cookie, if the cookie is well formed.
    #[must_use]
    pub fn of(headers: &HeaderMap, cookies: Cookies) -> Option<Self> {
        let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let values = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let value = values.into_iter().find(|(name, _)| *name == cookies.name())?.1;
        URL_SAFE_NO_PAD.decode(value).ok()?.try_into().ok().map(Self)
    }

    fn text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// The hash that the store has.
    fn hash(self) -> [u8; 32] {
        self.digest(b"session", &[])
    }

    /// The hash that binds the session to a token's digest.
    fn bound(self, token: &[u8]) -> [u8; 32] {
        self.digest(b"token", token)
    }

    /// The CSRF value for changes with this cookie.
    #[must_use]
    pub fn csrf(self) -> String {
        URL_SAFE_NO_PAD.encode(self.digest(b"csrf", &[]))
    }

    fn digest(self, use_of_it: &[u8], more: &[u8]) -> [u8; 32] {
        Sha256::new()
            .chain_update(use_of_it)
            .chain_update([0])
            .chain_update(self.0)
            .chain_update(more)
            .finalize()
            .into()
    }
}

/// The rate limit for attempts to sign in from one address, successful or not.
#[must_use]
pub fn attempts() -> PeerRateLimit {
    PeerRateLimit::new(BURST, REFILL)
}

/// The address that a request came from.
pub(super) struct Peer(IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(rate_limit::peer(parts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_and_anything_else_is_none() {
        let secret = SessionSecret([7; 32]);
        let headers = |value: &str| HeaderMap::from_iter([(header::COOKIE, value.parse().unwrap())]);
        let plain = Cookies::default();
        let found = SessionSecret::of(&headers(&format!("a=b; {COOKIE}={}; c=d", secret.text())), plain);
        assert_eq!(found.map(|secret| secret.0), Some([7; 32]));
        for wrong in ["", "a=b", "courier_session=", "courier_session=AAAA", "xcourier_session=AAAA"] {
            assert!(SessionSecret::of(&headers(wrong), plain).is_none(), "{wrong}");
        }
        assert_ne!(secret.hash(), secret.bound(&[]));
        assert_ne!(secret.csrf(), secret.text());
    }
    /// Item 14: over TLS the cookie belongs to this host alone, and a cookie without
    /// the prefix, which another host could have set, is ignored.
    #[test]
    fn over_tls_the_cookie_is_secure_and_of_this_host_alone() {
        let headers = |value: &str| HeaderMap::from_iter([(header::COOKIE, value.parse().unwrap())]);
        let (plain, over_tls) = (Cookies::default(), Cookies::new(true));
        let set = over_tls.set(&HeaderMap::new(), "v", 60);
        assert_eq!(
            set, "__Host-courier_session=v; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure",
            "no Domain, which the prefix forbids"
        );
        assert!(!plain.set(&HeaderMap::new(), "v", 60).contains("Secure"));
        let planted = format!("{COOKIE}={}", SessionSecret([7; 32]).text());
        assert!(SessionSecret::of(&headers(&planted), over_tls).is_none());
        assert!(SessionSecret::of(&headers(&format!("__Host-{planted}")), over_tls).is_some());
        assert!(SessionSecret::of(&headers(&format!("__Host-{planted}")), plain).is_none());
    }
}
