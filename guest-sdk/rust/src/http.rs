//! HTTP requests of a handler, to the hosts in `[binding.http] allow`.

use std::{fmt, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Context, Failure, Refusal, message::JSON};

/// Builds requests; made by [`Context::http`].
pub struct Http<'a> {
    ctx: &'a Context,
}

/// A request that is being built. Sending it reports what is wrong with it.
pub struct RequestBuilder<'a> {
    ctx: &'a Context,
    request: HttpRequest,
}

/// An HTTP request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// The whole URL, with scheme, host and path.
    pub url: String,
    /// Headers in their order. The host sets `host` and `content-length`.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body; empty for a request without one.
    pub body: Vec<u8>,
    /// The time to connect, including TLS; `None` leaves it to the host (5 s).
    pub connect_within: Option<Duration>,
    /// The time to wait for the head of the answer; `None` leaves it to the host
    /// (60 s). The binding's `timeout` applies in any case.
    pub first_byte_within: Option<Duration>,
    /// The bounds of the answer's body. `None` reads all of it, and then a body that
    /// breaks off is an error.
    pub body_bounds: Option<BodyBounds>,
}

/// How much of an answer's body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyBounds {
    /// The most bytes that are read.
    pub at_most: usize,
    /// The time for reading the body, from the head on.
    pub within: Duration,
}

/// An answer, of any status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status, for example 200.
    pub status: u16,
    /// Headers in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the body is longer than the bounds of the request, or broke off
    /// within them.
    pub is_cut: bool,
}

/// Why there is no answer. As a [`Failure`] it decides what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// The request was not made: the binding does not allow it, or it is wrong.
    Refused(String),
    /// The host was not reached: the connection was refused or timed out, the name
    /// does not exist, or the certificate is not trusted.
    Unreachable(String),
    /// The request was sent and no whole answer came: the server may have acted.
    Broken(String),
}

impl Context {
    /// Builds HTTP requests. The binding must allow the host and the port:
    ///
    /// ```toml
    /// [binding.http]
    /// allow = ["api.example.com:443"]
    /// ```
    pub fn http(&self) -> Http<'_> {
        Http { ctx: self }
    }
}

impl<'a> Http<'a> {
    /// A request with any method.
    pub fn request(&self, method: impl Into<String>, url: impl Into<String>) -> RequestBuilder<'a> {
        let request = HttpRequest { method: method.into(), url: url.into(), ..HttpRequest::default() };
        RequestBuilder { ctx: self.ctx, request }
    }

    /// A `GET` request.
    pub fn get(&self, url: impl Into<String>) -> RequestBuilder<'a> {
        self.request("GET", url)
    }

    /// A `POST` request.
    pub fn post(&self, url: impl Into<String>) -> RequestBuilder<'a> {
        self.request("POST", url)
    }

    /// A `PUT` request.
    pub fn put(&self, url: impl Into<String>) -> RequestBuilder<'a> {
        self.request("PUT", url)
    }

    /// A `DELETE` request.
    pub fn delete(&self, url: impl Into<String>) -> RequestBuilder<'a> {
        self.request("DELETE", url)
    }
}

impl RequestBuilder<'_> {
    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.request.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// Adds `idempotency-key` with the id of the delivery, which all its attempts
    /// share, so that the server can recognise a repeated request.
    pub fn idempotent(self) -> Self {
        let delivery = self.ctx.attempt().delivery.clone();
        self.header("idempotency-key", delivery)
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.request.body = body.into();
        self
    }

    /// Sets the body to a value as JSON, with its content type.
    pub fn json(self, value: &impl Serialize) -> Result<Self, Refusal> {
        let body = serde_json::to_vec(value)
            .map_err(|problem| Refusal::Invalid(format!("the body cannot be written as JSON: {problem}")))?;
        Ok(self.header("content-type", JSON).body(body))
    }

    /// Sets the time to wait for the head of the answer.
    pub fn first_byte_within(mut self, wait: Duration) -> Self {
        self.request.first_byte_within = Some(wait);
        self
    }

    /// Sets the time to connect, including TLS.
    pub fn connect_within(mut self, wait: Duration) -> Self {
        self.request.connect_within = Some(wait);
        self
    }

    /// Reads only as much of the answer's body as comes within these bounds, and
    /// sets [`HttpResponse::is_cut`] when there was more.
    pub fn body_bounds(mut self, at_most: usize, within: Duration) -> Self {
        self.request.body_bounds = Some(BodyBounds { at_most, within });
        self
    }

    /// Sends the request and reads the answer, of any status.
    pub fn send(self) -> Result<HttpResponse, HttpError> {
        self.ctx.send(self.request)
    }
}

impl HttpResponse {
    /// The value of the first header of this name, ignoring case; `None` when it is
    /// not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// The body as text; invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads the body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|problem| Failure::error(format!("the answer is not the JSON that was expected: {problem}")))
    }

    /// The answer, if its status is 2xx. Otherwise a failure: 429 and 503 are
    /// `unavailable` (for as long as `Retry-After` says), another 5xx is a `retry`,
    /// and any other status a `reject`, since it will be the same at the next
    /// attempt.
    pub fn error_for_status(self) -> Result<Self, Failure> {
        let why = format!("http {}", self.status);
        match self.status {
            200..=299 => Ok(self),
            429 | 503 => match self.header("retry-after").and_then(|seconds| seconds.trim().parse().ok()) {
                Some(seconds) => Err(Failure::unavailable_for(why, Duration::from_secs(seconds))),
                None => Err(Failure::unavailable(why)),
            },
            500..=599 => Err(Failure::retry(why)),
            _ => Err(Failure::reject(why)),
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::Refused(why) | HttpError::Unreachable(why) | HttpError::Broken(why) => write!(f, "http {why}"),
        }
    }
}

impl std::error::Error for HttpError {}

/// An unreachable host pauses the binding, a broken answer is tried again, and a
/// refusal needs a person.
impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        match &error {
            HttpError::Refused(_) => Failure::error(error),
            HttpError::Unreachable(_) => Failure::unavailable(error),
            HttpError::Broken(_) => Failure::retry(error),
        }
    }
}

/// Splits a URL into scheme, authority, and path with query.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
pub(crate) fn split(url: &str) -> Result<(&str, &str, String), HttpError> {
    let wrong = || HttpError::Refused(format!("request: {url:?} is no URL with a scheme and a host"));
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() {
        return Err(wrong());
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((scheme, authority, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let parts = |url| split(url).unwrap();
        assert_eq!(parts("https://a.example:8443/x?y=1#z"), ("https", "a.example:8443", "/x?y=1".into()));
        assert_eq!(parts("http://a?y"), ("http", "a", "/?y".into()));
        assert_eq!(parts("http://[::1]:80"), ("http", "[::1]:80", "/".into()));
        assert!(split("a.example/x").is_err() && split("https:///x").is_err());
    }
}
