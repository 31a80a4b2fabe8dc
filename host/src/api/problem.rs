//! Errors of the API: RFC 9457 problem details.
//!
//! A detail says what was wrong, where, and what would be right. Internal details of
//! a fault go to the log, never into a response.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::said;
use crate::store::StoreError;

/// Seconds after which a client may retry while the store is unavailable.
const RETRY_AFTER_SECONDS: u64 = 1;

/// A problem detail.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Problem {
    /// The kind of problem: `urn:courier:problem:` and the title's words.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words; the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong here, and what would be right.
    pub detail: String,
    /// Further members, such as the `id` of a refused message or the `items` of a
    /// refused array.
    #[serde(flatten)]
    #[schema(ignore)]
    pub more: Map<String, Value>,
    /// Seconds for the header `Retry-After`.
    #[serde(skip)]
    pub retry_after: Option<u64>,
}

impl Problem {
    /// A problem of the kind that `title` names.
    #[must_use]
    pub fn new(status: StatusCode, title: &str, detail: impl Into<String>) -> Self {
        let words: Vec<String> = title
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
        Self {
            kind: format!("urn:courier:problem:{}", words.join("-")),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            more: Map::new(),
            retry_after: None,
        }
    }

    /// 400: the request itself is wrong.
    #[must_use]
    pub fn bad_request(title: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, title, detail)
    }

    /// 403: the caller may not do this.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not allowed", detail)
    }

    /// 404: the resource does not exist, or the caller may not see it.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found", detail)
    }

    /// 409: the resource is not in a state that allows this.
    #[must_use]
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 413: the body or the list is too large.
    #[must_use]
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too large", detail)
    }

    /// 415: the operation does not read this content type.
    #[must_use]
    pub fn unsupported_media(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported media type", detail)
    }

    /// 422: the request is well formed, but cannot be carried out.
    #[must_use]
    pub fn unprocessable(title: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, title, detail)
    }

    /// 503: the request cannot be served now.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not available", detail)
    }

    /// 500: a fault of this program. `inside` goes to the log only.
    #[must_use]
    pub fn internal(inside: impl std::fmt::Display) -> Self {
        // A client that retries meets the fault each time.
        let inside = inside.to_string();
        if let Some(unsaid) = said::again(&format!("fault {inside}")) {
            tracing::error!(fault = inside, unsaid, "a request met a fault of this program");
        }
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal fault",
            "this is a fault of Courier, not of the request; its log says more under this answer's x-request-id",
        )
    }

    /// The same problem with another member.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.more.insert(name.to_owned(), value);
        self
    }

    /// The same problem, with the seconds after which to retry.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The same problem, its detail preceded by its place in the request.
    #[must_use]
    pub fn at(mut self, place: &str) -> Self {
        self.detail = format!("{place}: {}", self.detail);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after.unwrap_or(RETRY_AFTER_SECONDS);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"courier\""));
        }
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(why) | StoreError::StaleSession(why) => {
                if let Some(unsaid) = said::again("the store did not answer a request") {
                    tracing::warn!(%why, unsaid, "the store did not answer a request");
                }
                Self::unavailable("the store does not answer at the moment; the same request may succeed soon")
            }
            StoreError::Refused(why) => {
                if let Some(unsaid) = said::again("the store refused a request") {
                    tracing::warn!(%why, unsaid, "the store refused a request for a cause that lasts");
                }
                Self::unavailable("the store refuses to write until somebody mends it: /readyz and the log say why")
            }
            StoreError::CommitUnknown(why) => {
                if let Some(unsaid) = said::again("the answer to a commit was lost") {
                    tracing::warn!(%why, unsaid, "the answer to a commit was lost");
                }
                Self::unavailable("the store's answer was lost: look whether the change was made before repeating it")
            }
            StoreError::Data(why) => Self::bad_request("refused by the store", why),
            StoreError::Fenced(why) | StoreError::Conflict(why) => Self::conflict(why),
            StoreError::NotFound(why) => Self::not_found(why),
            StoreError::Bug(why) => Self::internal(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_written_as_the_rfc_says() {
        let problem = Problem::bad_request("unknown parameter", "`x` is unknown").with("id", Value::from("a"));
        assert_eq!(
            serde_json::to_value(&problem).unwrap(),
            serde_json::json!({
                "type": "urn:courier:problem:unknown-parameter",
                "title": "unknown parameter",
                "status": 400,
                "detail": "`x` is unknown",
                "id": "a",
            })
        );
        let response = problem.into_response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }

    #[test]
    fn what_the_store_says_becomes_the_status_a_client_can_act_on() {
        let status = |error: StoreError| Problem::from(error).status;
        assert_eq!(status(StoreError::Unavailable("x".into())), 503);
        assert_eq!(status(StoreError::StaleSession("x".into())), 503);
        assert_eq!(status(StoreError::Refused("x".into())), 503);
        assert_eq!(status(StoreError::CommitUnknown("x".into())), 503);
        assert_eq!(status(StoreError::Data("x".into())), 400);
        assert_eq!(status(StoreError::Conflict("x".into())), 409);
        assert_eq!(status(StoreError::NotFound("x".into())), 404);
        assert_eq!(status(StoreError::Bug("select".into())), 500);
        assert!(!Problem::from(StoreError::Bug("select".into())).detail.contains("select"));
    }
}
