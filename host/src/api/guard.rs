//! The middleware of every request: a span with an id, a timeout, panics turned
//! into responses, and the refusal of requests from other sites' pages.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tracing::Instrument;

use super::problem::Problem;
use super::{App, console, open_mode};
use crate::said;

/// How long a request may take until its response begins; server-sent events go
/// on after that.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an upload may take. Compilation may take five minutes on a busy host
/// (`engine::limits::COMPILE_WALL`); the rest is for sending 40 MiB over a slow
/// connection.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(420);
/// The header with the request's id, which is also in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers of every response: browsers must not guess content types, show it in a
/// frame, send a referrer to other sites, or give it access to devices.
const ALWAYS: [(&str, &str); 6] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];
/// The content security policy of data, in case a browser shows it as a page.
const POLICY_OF_DATA: &str = "default-src 'none'; frame-ancestors 'none'";

/// Runs a request within its span and timeout.
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

/// Refuses requests that a web page of another site makes a browser send and, while
/// no token is needed, all requests from elsewhere ([`open_mode`]).
fn refuse_foreign(app: &App, request: &Request) -> Option<Problem> {
    let changes = !request.method().is_safe();
    if changes && request.headers().get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Some(Problem::forbidden("a web page of another site may change nothing here"));
    }
    let is_asset = !changes && console::is_of_console(request.uri().path());
    app.auth.is_open().then(|| open_mode::refuse(request, is_asset)).flatten()
}
