//! HTTP requests of handlers: which requests a binding allows, and the client
//! that makes them.
//!
//! A request is made when `[binding.http] allow` lists its host and port, or
//! when they are those of the URL that `http-push` calls. The host resolves the
//! name, judges its addresses ([`addresses`](crate::addresses)), and connects
//! ([`connect`]) to an address that it judged. It follows no redirect: a handler
//! that wants to sends another request, which is judged too. [`gate`] is what the
//! requests of an instance go through, [`rules`] what a binding allows; [`bodies`]
//! keeps the bodies within their bounds in [`limits`](super::limits), and
//! [`failure`] maps failures.

mod bodies;
mod connect;
mod failure;
mod gate;
mod rules;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_targets;

use std::sync::{Arc, OnceLock};

use hyper::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use hyper::{HeaderMap, Method, Request, Response};
use reqwest::redirect::Policy as Redirects;
use reqwest::{Certificate, Client, Url};
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use self::bodies::{HttpBodyMemory, RequestBody, TakenBody, answer, take};
use self::connect::{ConnectWithin, Resolver, within};
pub(super) use self::gate::HttpGate;
pub use self::rules::{Destination, HttpRules};
use super::limits::{
    HTTP_CONNECT_WITHIN, HTTP_FIRST_BYTE_WITHIN, HTTP_IDLE_WITHIN, HTTP_READ_WITHIN, MAX_HTTP_HEADER_BYTES,
    MAX_HTTP_HEADERS, MAX_HTTP_IN_FLIGHT,
};
use crate::addresses;
use crate::http_client;

/// The part of the time for the head of an answer that the connection may take.
const CONNECT_PART: f64 = 0.75;

/// The HTTP client of one binding: its rules and its connections.
#[derive(Debug)]
pub struct HttpOut {
    rules: HttpRules,
    /// Made at the first request, since it reads the system's certificates.
    client: OnceLock<Result<Client, String>>,
    in_flight: Arc<Semaphore>,
    bodies: HttpBodyMemory,
    /// A resolver for tests, in place of the system's.
    #[cfg(test)]
    names: Option<tests_of_targets::Names>,
}

impl HttpOut {
    /// A client with these rules.
    #[must_use]
    pub fn new(rules: HttpRules) -> Self {
        let in_flight = MAX_HTTP_IN_FLIGHT.max(rules.concurrency).min(Semaphore::MAX_PERMITS);
        Self {
            bodies: HttpBodyMemory::new(rules.concurrency),
            rules,
            client: OnceLock::new(),
            in_flight: Arc::new(Semaphore::new(in_flight)),
            #[cfg(test)]
            names: None,
        }
    }

    /// The URL, if the binding of `group` allows it. It is parsed once and the
    /// request is made to the result, so that no second reading of the text can find
    /// another host.
    ///
    /// # Errors
    /// A sentence with the setting to change.
    pub(super) fn admit(out: Option<&Self>, group: &str, text: &str) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|error| format!("{text:?} is no URL: {error}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URL has a user or a password: send an authorization header instead".into());
        }
        let port = url.port_or_known_default().unwrap_or_default();
        let allow = out.map_or(&[][..], |out| &out.rules.allow);
        if allow.iter().any(|destination| destination.port == port && destination.is_host(&url)) {
            return Ok(url);
        }
        let place = format!("{}:{port}", url.host_str().unwrap_or_default());
        if out.and_then(|out| out.rules.own_url.as_ref()).is_some_and(|own| is_same_place(own, &url)) {
            let never = addresses::literal(&url).filter(|address| !addresses::operator_may_reach(*address, true));
            return match never {
                None => Ok(url),
                Some(_) => Err(format!("url leads to {place}, where no service lives: write another url")),
            };
        }
        Err(format!(
            "binding of group {group} does not allow HTTP to {place}: add \"{place}\" to allow in [binding.http]"
        ))
    }

    /// Makes an admitted request. Returns at the head of the answer.
    pub(super) async fn send(
        &self,
        url: Url,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Response<WasiBody>, Error> {
        let permit = Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| Error::ConnectionLimitReached)?;
        let (mut parts, body) = request.into_parts();
        if matches!(parts.method, Method::CONNECT | Method::TRACE) {
            return Err(Error::HttpRequestMethodInvalid);
        }
        if header_bytes(&parts.headers) > MAX_HTTP_HEADER_BYTES {
            return Err(Error::HttpRequestHeaderSectionSize(Some(MAX_HTTP_HEADER_BYTES as u32)));
        }
        // The client sets these headers: from the URL that was judged, and from the
        // body that is sent.
        parts.headers.remove(HOST);
        let asked = options.unwrap_or_default();
        let first_byte = asked.first_byte_timeout.unwrap_or(HTTP_FIRST_BYTE_WITHIN).min(HTTP_FIRST_BYTE_WITHIN);
        // Less than the time for the answer: that nothing was sent is told apart from a
        // server that is slow.
        let connect = asked.connect_timeout.unwrap_or(HTTP_CONNECT_WITHIN).min(HTTP_CONNECT_WITHIN);
        let connect = connect.min(first_byte.mul_f64(CONNECT_PART));
        let length = parts.headers.remove(CONTENT_LENGTH);
        let announced = length.as_ref().and_then(|length| length.to_str().ok()?.parse().ok());
        // The room for its body is kept until the answer begins.
        let TakenBody { body, reserved: _reserved } = take(body, announced, &self.bodies, connect).await?;
        let mut request = self.client()?.request(parts.method, url).headers(parts.headers);
        match body {
            RequestBody::Whole(bytes) if bytes.is_empty() => {}
            RequestBody::Whole(bytes) => request = request.body(bytes),
            RequestBody::Passed(body) => {
                // The client would drop the body of a GET unless a header announces it.
                request = match length {
                    Some(length) => request.header(CONTENT_LENGTH, length),
                    None => request.header(TRANSFER_ENCODING, "chunked"),
                };
                request = request.body(body);
            }
        }
        let sent = tokio::time::timeout(first_byte, within(connect, request.send())).await;
        let response: Response<reqwest::Body> = match sent {
            Err(_) => return Err(Error::ConnectionReadTimeout),
            Ok(Err(error)) => return Err(failure::of(&error)),
            Ok(Ok(response)) => response.into(),
        };
        if header_bytes(response.headers()) > MAX_HTTP_HEADER_BYTES {
            return Err(Error::HttpResponseHeaderSectionSize(Some(MAX_HTTP_HEADER_BYTES as u32)));
        }
        Ok(response.map(|body| answer(body, permit)))
    }

    fn client(&self) -> Result<&Client, Error> {
        let made = self.client.get_or_init(|| self.new_client().map_err(|error| error.to_string()));
        made.as_ref().map_err(|error| Error::InternalError(Some(format!("no HTTP client can be made: {error}"))))
    }

    fn resolver(&self) -> Resolver {
        Resolver {
            #[cfg(test)]
            names: self.names.clone(),
            ..Resolver::of(&self.rules)
        }
    }

    fn new_client(&self) -> reqwest::Result<Client> {
        let mut builder = http_client::builder()
            .redirect(Redirects::none())
            .no_proxy()
            .referer(false)
            .http1_only()
            .http1_max_headers(MAX_HTTP_HEADERS)
            .read_timeout(HTTP_READ_WITHIN)
            .pool_idle_timeout(HTTP_IDLE_WITHIN)
            .dns_resolver(Arc::new(self.resolver()))
            .connector_layer(ConnectWithin);
        if let Some(ca) = &self.rules.ca {
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(ca.as_bytes())?);
        }
        builder.build()
    }
}

/// Whether two URLs have the same scheme, host and port.
fn is_same_place(one: &Url, other: &Url) -> bool {
    let place = |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default());
    place(one) == place(other)
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}
