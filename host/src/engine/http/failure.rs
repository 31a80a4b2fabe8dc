//! Maps the failure of a request to the error that the guest gets: whether
//! anything was sent, since the server may have acted then, and what happened.

use std::error::Error as StdError;

use wasmtime_wasi_http::Error;

use super::connect::{Prohibited, TooLate};

/// The error for a request that got no answer.
pub(super) fn of(error: &reqwest::Error) -> Error {
    let mut source = error.source();
    let mut innermost = error.to_string();
    while let Some(cause) = source {
        match known(cause) {
            Some(Error::ConnectionTerminated) if error.is_connect() => return Error::DestinationUnavailable,
            Some(known) => return known,
            None => {}
        }
        innermost = cause.to_string();
        source = cause.source();
    }
    if error.is_timeout() {
        return if error.is_connect() { Error::ConnectionTimeout } else { Error::ConnectionReadTimeout };
    }
    if !error.is_connect() {
        // It broke after the request was sent: the server may have acted.
        return Error::ConnectionTerminated;
    }
    let lower = innermost.to_lowercase();
    if lower.contains("certificate") {
        Error::TlsAlertReceived { alert_id: None, alert_message: Some(innermost) }
    } else if lower.contains("dns") || lower.contains("lookup") || lower.contains("name or service") {
        Error::DnsError { rcode: Some(innermost), info_code: None }
    } else if lower.contains("tls") || lower.contains("handshake") || lower.contains("corrupt message") {
        Error::TlsAlertReceived { alert_id: None, alert_message: Some(format!("no handshake: {innermost}")) }
    } else {
        Error::DestinationUnavailable
    }
}

/// The error that a cause's type stands for.
fn known(cause: &(dyn StdError + 'static)) -> Option<Error> {
    if let Some(prohibited) = cause.downcast_ref::<Prohibited>() {
        return Some(Error::InternalError(Some(prohibited.to_string())));
    }
    if cause.is::<TooLate>() {
        return Some(Error::ConnectionTimeout);
    }
    if let Some(Error::HttpRequestBodySize(size)) = cause.downcast_ref::<Error>() {
        return Some(Error::HttpRequestBodySize(*size));
    }
    if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
        if hyper.is_parse_too_large() {
            return Some(Error::HttpResponseHeaderSectionSize(None));
        }
        if hyper.is_parse() {
            return Some(Error::HttpProtocolError);
        }
    }
    let io = cause.downcast_ref::<std::io::Error>()?;
    match io.kind() {
        std::io::ErrorKind::ConnectionRefused => Some(Error::ConnectionRefused),
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => Some(Error::ConnectionTerminated),
        std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable => {
            Some(Error::DestinationIpUnroutable)
        }
        _ => None,
    }
}

/// The error for an answer whose body did not come to its end.
pub(super) fn of_answer(error: &reqwest::Error) -> Error {
    if error.is_timeout() { Error::HttpResponseTimeout } else { Error::HttpResponseIncomplete }
}
