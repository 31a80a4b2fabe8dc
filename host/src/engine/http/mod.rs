//! HTTP out of a handler: which requests a binding lets out, and the client
//! that makes them.
//!
//! A request goes out when `[binding.http] allow` lists its host and port. The
//! name is resolved here, its addresses are judged ([`walls`]), and the
//! connection is made to one that was judged. The host follows no redirect: a
//! handler that wants to sends another request, which is judged too. Requests
//! and answers have bounds in [`limits`](super::limits).

#[cfg(test)]
mod tests;
pub mod walls;

use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::{Method, Request, Response};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy as Redirects;
use reqwest::{Client, Url};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use self::walls::Place;
use super::limits::{
    HTTP_CONNECT_WITHIN, HTTP_FIRST_BYTE_WITHIN, HTTP_READ_WITHIN, MAX_HTTP_IN_FLIGHT, MAX_HTTP_REQUEST_BYTES,
    MAX_HTTP_RESPONSE_BYTES,
};

/// A host and a port that a binding lets its handler call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// A DNS name in lower case, `*.` before one for all names below it, or an
    /// IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The HTTP of one binding: what it allows, and its connections.
#[derive(Debug)]
pub struct HttpOut {
    allow: Vec<Destination>,
    walls: Walls,
    /// Made by the first request, since it reads the system's certificates.
    client: OnceLock<Result<Client, String>>,
    in_flight: Arc<Semaphore>,
}

/// The addresses of names that are let through. What the allow-list names as an
/// address is reached by that address only: a name that leads to it says
/// nothing about the port that was listed.
#[derive(Clone, Copy, Debug)]
struct Walls {
    /// Whether this machine and its network are open too.
    private: bool,
}

/// A name has addresses, and none may be connected to.
#[derive(Debug, thiserror::Error)]
#[error(
    "{name} has no address that may be connected to, only {found}: set private = true in [binding.http] if it is one of \
     this network"
)]
struct Prohibited {
    name: String,
    found: String,
}

impl HttpOut {
    /// Lets a handler call these destinations. `private` lets their names lead
    /// into the network of this machine.
    #[must_use]
    pub fn new(allow: Vec<Destination>, private: bool) -> Self {
        Self {
            allow,
            walls: Walls { private },
            client: OnceLock::new(),
            in_flight: Arc::new(Semaphore::new(MAX_HTTP_IN_FLIGHT)),
        }
    }

    /// The URL, if the binding of `group` allows it. It is parsed once and the
    /// request is made to what came of it, so that no second reading of the
    /// text can find another host.
    ///
    /// # Errors
    /// A sentence with the line to add.
    pub(super) fn admit(out: Option<&Self>, group: &str, text: &str) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|error| format!("{text:?} is no URL: {error}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URL has a user or a password: send an authorization header instead".into());
        }
        let port = url.port_or_known_default().unwrap_or_default();
        let allow = out.map_or(&[][..], |out| &out.allow);
        if allow.iter().any(|destination| destination.port == port && destination.is_host(&url)) {
            return Ok(url);
        }
        let place = format!("{}:{port}", url.host_str().unwrap_or_default());
        Err(format!(
            "binding of group {group} does not allow HTTP to {place}: add \"{place}\" to allow in [binding.http]"
        ))
    }

    /// Makes a request that was admitted. Ends with the head of the answer.
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
        // Written by the client anew: from the URL that was judged, and from
        // the body that is sent.
        parts.headers.remove(HOST);
        parts.headers.remove(CONTENT_LENGTH);
        let body = whole(body).await?;
        let mut request = self.client()?.request(parts.method, url).headers(parts.headers);
        if !body.is_empty() {
            request = request.body(body);
        }
        let within = options.and_then(|options| options.first_byte_timeout).unwrap_or(HTTP_FIRST_BYTE_WITHIN);
        let sent = tokio::time::timeout(within.min(HTTP_FIRST_BYTE_WITHIN), request.send()).await;
        let response: Response<reqwest::Body> = match sent {
            Err(_) => return Err(Error::ConnectionReadTimeout),
            Ok(Err(error)) => return Err(failure(&error)),
            Ok(Ok(response)) => response.into(),
        };
        Ok(response.map(|body| Answer { body, left: MAX_HTTP_RESPONSE_BYTES, _permit: permit }.boxed_unsync()))
    }

    fn client(&self) -> Result<&Client, Error> {
        let made = self.client.get_or_init(|| {
            Client::builder()
                .redirect(Redirects::none())
                .no_proxy()
                .referer(false)
                .connect_timeout(HTTP_CONNECT_WITHIN)
                .read_timeout(HTTP_READ_WITHIN)
                .dns_resolver(Arc::new(self.walls))
                .build()
                .map_err(|error| error.to_string())
        });
        made.as_ref().map_err(|error| Error::InternalError(Some(format!("no HTTP client can be made: {error}"))))
    }
}

impl Destination {
    fn is_host(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return self.host.parse() == Ok(address);
        }
        match self.host.strip_prefix('*') {
            // The dot stays, so that only names below it match.
            Some(below) => bare.len() > below.len() && bare.ends_with(below),
            None => bare == self.host,
        }
    }
}

impl Walls {
    fn let_through(self, address: IpAddr) -> bool {
        match Place::of(address) {
            Place::Public => true,
            Place::Private => self.private,
            Place::Nowhere => false,
        }
    }
}

/// Resolves names to the addresses that are let through. A URL that has an
/// address for its host does not come here: the allow-list names it.
impl Resolve for Walls {
    fn resolve(&self, name: Name) -> Resolving {
        let walls = *self;
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let good: Vec<SocketAddr> =
                found.iter().copied().filter(|address| walls.let_through(address.ip())).collect();
            if good.is_empty() {
                let found = found.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
                return Err(Prohibited { name, found }.into());
            }
            Ok(Box::new(good.into_iter()) as Addrs)
        })
    }
}

/// The whole body of a request, which the guest may still be writing.
async fn whole(mut body: WasiBody) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers are not passed on.
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > MAX_HTTP_REQUEST_BYTES {
            return Err(Error::HttpRequestBodySize(Some(MAX_HTTP_REQUEST_BYTES as u64)));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// The body of an answer, up to its bound. It counts as in flight until it is
/// read or dropped.
struct Answer {
    body: reqwest::Body,
    left: usize,
    _permit: OwnedSemaphorePermit,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) if error.is_timeout() => return Poll::Ready(Some(Err(Error::HttpResponseTimeout))),
            Some(Err(_)) => return Poll::Ready(Some(Err(Error::HttpResponseIncomplete))),
            Some(Ok(frame)) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        Poll::Ready(Some(match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(frame)
            }
            None => Err(Error::HttpResponseBodySize(Some(MAX_HTTP_RESPONSE_BYTES as u64))),
        }))
    }
}

/// What the guest is told of a request that came to nothing.
fn failure(error: &reqwest::Error) -> Error {
    let mut source = error.source();
    let mut innermost = error.to_string();
    while let Some(cause) = source {
        if let Some(prohibited) = cause.downcast_ref::<Prohibited>() {
            return Error::InternalError(Some(prohibited.to_string()));
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            match io.kind() {
                std::io::ErrorKind::ConnectionRefused => return Error::ConnectionRefused,
                std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => {
                    return Error::ConnectionTerminated;
                }
                std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable => {
                    return Error::DestinationIpUnroutable;
                }
                _ => {}
            }
        }
        innermost = cause.to_string();
        source = cause.source();
    }
    if error.is_timeout() {
        return if error.is_connect() { Error::ConnectionTimeout } else { Error::ConnectionReadTimeout };
    }
    if !error.is_connect() {
        // It broke after the request was sent: the other side may have acted.
        return Error::ConnectionTerminated;
    }
    let lower = innermost.to_lowercase();
    if lower.contains("certificate") {
        Error::TlsCertificateError
    } else if lower.contains("dns") || lower.contains("lookup") || lower.contains("name or service") {
        Error::DnsError { rcode: Some(innermost), info_code: None }
    } else if lower.contains("tls") || lower.contains("handshake") {
        Error::TlsProtocolError
    } else {
        Error::InternalError(Some(innermost))
    }
}
