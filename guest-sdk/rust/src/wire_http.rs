//! `wasi:http` in a component: sends one request, and reads its whole answer.

use std::time::Duration;

use crate::{BodyBounds, HttpError, HttpRequest, HttpResponse, http::split};

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "courier:sdk/http-client", generate_all });
}

use bindings::wasi::{
    clocks::monotonic_clock,
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
            Scheme,
        },
    },
    io::{
        poll::poll,
        streams::{InputStream, StreamError},
    },
};

/// The most bytes that are written to or read from the host at once.
const WRITE_BYTES: usize = 4096;
const READ_BYTES: u64 = 64 * 1024;

/// Sends a request and reads the whole answer.
pub(crate) fn send(request: &HttpRequest) -> Result<HttpResponse, HttpError> {
    let wrong = |what: &str| HttpError::Refused(format!("request: {what}"));
    let (scheme, authority, path) = split(&request.url)?;
    let headers = Fields::new();
    for (name, value) in &request.headers {
        headers.append(name, value).map_err(|error| wrong(&format!("header {name:?}: {error}")))?;
    }
    let outgoing = OutgoingRequest::new(headers);
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    outgoing.set_method(&method(&request.method)).map_err(|()| wrong("the method is none"))?;
    outgoing.set_scheme(Some(&scheme)).map_err(|()| wrong("the scheme is none"))?;
    outgoing.set_authority(Some(authority)).map_err(|()| wrong("the host is none"))?;
    outgoing.set_path_with_query(Some(&path)).map_err(|()| wrong("the path is none"))?;
    let options = RequestOptions::new();
    let untimed = |()| wrong("the host takes no time-out");
    options.set_connect_timeout(request.connect_within.map(nanos)).map_err(untimed)?;
    options.set_first_byte_timeout(request.first_byte_within.map(nanos)).map_err(untimed)?;
    let body = outgoing.body().map_err(|()| wrong("it takes no body"))?;
    let answer = outgoing_handler::handle(outgoing, Some(options)).map_err(|code| told(&code))?;
    // When writing fails, the request was refused or broke, and the answer says so.
    if write(&body, &request.body).is_ok() {
        let _ = OutgoingBody::finish(body, None);
    } else {
        drop(body);
    }
    answer.subscribe().block();
    match answer.get() {
        Some(Ok(Ok(response))) => read(&response, request.body_bounds),
        Some(Ok(Err(code))) => Err(told(&code)),
        Some(Err(())) | None => Err(HttpError::Broken("answer: it was lost".into())),
    }
}

fn write(body: &OutgoingBody, bytes: &[u8]) -> Result<(), ()> {
    let stream = body.write()?;
    for chunk in bytes.chunks(WRITE_BYTES) {
        stream.blocking_write_and_flush(chunk).map_err(drop)?;
    }
    Ok(())
}

fn read(response: &IncomingResponse, bounds: Option<BodyBounds>) -> Result<HttpResponse, HttpError> {
    let broken = |what: String| HttpError::Broken(format!("answer: {what}"));
    let (status, headers) = (response.status(), response.headers().entries());
    let incoming: IncomingBody = response.consume().map_err(|()| broken("it has no body".into()))?;
    let stream = incoming.stream().map_err(|()| broken("its body cannot be read".into()))?;
    let (mut body, mut is_cut) = (Vec::new(), false);
    match bounds {
        None => loop {
            match stream.blocking_read(READ_BYTES) {
                Ok(bytes) => body.extend(bytes),
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(error)) => return Err(broken(error.to_debug_string())),
            }
        },
        Some(bounds) => is_cut = read_within(&stream, bounds, &mut body),
    }
    Ok(HttpResponse { status, headers, body, is_cut })
}

/// Reads as much of a body as comes within the bounds; returns whether it is cut.
fn read_within(stream: &InputStream, bounds: BodyBounds, body: &mut Vec<u8>) -> bool {
    let over = monotonic_clock::subscribe_duration(nanos(bounds.within));
    let readable = stream.subscribe();
    loop {
        if !poll(&[&readable, &over]).contains(&0) {
            return true;
        }
        match stream.read(READ_BYTES) {
            Ok(bytes) => body.extend(bytes),
            Err(StreamError::Closed) => return false,
            Err(StreamError::LastOperationFailed(_)) => return true,
        }
        if body.len() > bounds.at_most {
            body.truncate(bounds.at_most);
            return true;
        }
        // A body of a few bytes now and then would outlast any bound.
        if over.ready() {
            return true;
        }
    }
}

fn nanos(wait: Duration) -> u64 {
    wait.as_nanos().try_into().unwrap_or(u64::MAX)
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn told(code: &ErrorCode) -> HttpError {
    match code {
        ErrorCode::InternalError(Some(why)) => HttpError::Refused(format!("refused: {why}")),
        ErrorCode::ConnectionRefused => HttpError::Unreachable("connection refused".into()),
        ErrorCode::ConnectionTimeout => HttpError::Unreachable("no connection in time".into()),
        ErrorCode::DnsError(_) | ErrorCode::DnsTimeout => HttpError::Unreachable("no such name".into()),
        ErrorCode::DestinationIpUnroutable | ErrorCode::DestinationUnavailable => {
            HttpError::Unreachable("no way to the host".into())
        }
        ErrorCode::ConnectionLimitReached => HttpError::Unreachable("too many requests under way".into()),
        ErrorCode::ConnectionReadTimeout | ErrorCode::HttpResponseTimeout => {
            HttpError::Broken("no answer in time".into())
        }
        ErrorCode::TlsAlertReceived(alert) => {
            HttpError::Unreachable(format!("tls: {}", alert.alert_message.as_deref().unwrap_or("refused")))
        }
        ErrorCode::TlsCertificateError => HttpError::Unreachable("certificate is not trusted".into()),
        ErrorCode::TlsProtocolError => HttpError::Unreachable("tls: no handshake".into()),
        ErrorCode::HttpProtocolError => HttpError::Broken("answer is no HTTP/1.1".into()),
        ErrorCode::HttpResponseHeaderSectionSize(_) => HttpError::Broken("answer has too many headers".into()),
        ErrorCode::ConnectionTerminated => HttpError::Broken("connection broke off".into()),
        ErrorCode::HttpResponseIncomplete => HttpError::Broken("answer broke off".into()),
        other => HttpError::Refused(format!("refused: {other}")),
    }
}
