//! What every request passes through: a span with an id, a bound on its time,
//! panics turned into answers, and a refusal of what a foreign web page sends.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tracing::Instrument;

use super::App;
use super::problem::Problem;
use crate::said;

/// How long a request may take; server-sent events go on after their answer
/// has begun.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an upload may take: 40 MiB over a thin line and its compiling, which
/// the engine ends after five minutes. On a machine that is busy with other things
/// a Python runtime took more than three.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(320);
/// The id that joins an answer to the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What every answer tells a browser: take nothing for what it is not said to
/// be, show it in no frame, tell no other site where a person was, and keep
/// the machine's devices to yourself.
const ALWAYS: [(&str, &str); 6] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];
/// What is no page loads nothing, should a browser show it as one after all.
const POLICY_OF_DATA: &str = "default-src 'none'; frame-ancestors 'none'";

/// Runs a request inside its bounds.
pub async fn watch(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = uuid::Uuid::now_v7();
    let span = tracing::info_span!("request", %id, method = %request.method(), path = request.uri().path());
    let limit = if request.method() == Method::PUT { UPLOAD_TIMEOUT } else { REQUEST_TIMEOUT };
    let work = async move {
        match refuse_foreign(&app, &request) {
            Some(problem) => problem.into_response(),
            None => next.run(request).await,
        }
    };
    let outcome = tokio::time::timeout(limit, AssertUnwindSafe(work).catch_unwind().instrument(span.clone())).await;
    let mut response = span.in_scope(|| match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => Problem::internal(format!("panic: {}", words(&*panic))).into_response(),
        Err(_) => {
            if let Some(unsaid) = said::again("a request took too long") {
                tracing::warn!(limit_s = limit.as_secs(), unsaid, "a request took too long");
            }
            let detail =
                format!("the answer was not ready within {} s; look whether a change was made", limit.as_secs());
            Problem::new(StatusCode::GATEWAY_TIMEOUT, "took too long", detail).into_response()
        }
    });
    span.in_scope(|| tracing::debug!(status = response.status().as_u16(), "answered"));
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY_OF_DATA));
    response
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}

/// Refuses what a web page from elsewhere makes a browser on this machine
/// send. Where tokens are needed the page has none. Where they are not, a
/// browser reaches a loopback address for any page: it says so by
/// `Sec-Fetch-Site`, or, when the page's own name was made to resolve to this
/// machine, by a Host that no program on this machine would use.
fn refuse_foreign(app: &App, request: &Request) -> Option<Problem> {
    let headers = request.headers();
    let changes = !request.method().is_safe();
    if changes && headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Some(Problem::forbidden("a web page of another site may change nothing here"));
    }
    let watched = request.uri().path().starts_with("/v1/");
    if watched && app.auth.is_open() && !names_this_machine(headers) {
        return Some(Problem::forbidden(
            "without [auth] only requests addressed to localhost or a loopback address are answered; \
             address it so, or configure tokens",
        ));
    }
    None
}

/// Whether the Host header is missing or names a loopback address.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let loopback = name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let local = name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost");
    loopback || local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_pass() {
        let named = |host: &'static str| {
            names_this_machine(&HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]))
        };
        for good in
            ["localhost", "localhost:7070", "LOCALHOST", "127.0.0.1:7070", "127.9.9.9", "[::1]:7070", "a.localhost"]
        {
            assert!(named(good), "{good}");
        }
        for bad in
            ["example.com", "localhost.example.com", "10.0.0.1", "127.0.0.1.example.com", "[::2]", "", "notlocalhost"]
        {
            assert!(!named(bad), "{bad}");
        }
        assert!(names_this_machine(&HeaderMap::new()));
    }
}
