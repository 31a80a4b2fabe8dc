//! What all forms of publishing read alike: values of the request that stand in for
//! those of a message, and the fields that need more than their text.

use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use courier_core::message::{Header, Timestamp};

use crate::api::ports::{Draft, SendProblem, reserved_header, valid_topic};
use crate::api::problem::Problem;
use crate::rfc3339;

/// Values of the request for messages that do not have them.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// The topic, from `?topic=`.
    pub topic: Option<String>,
    /// The source: the caller's name.
    pub source: String,
    /// The trace the request belongs to: `traceparent` and `tracestate`.
    pub trace: Vec<Header>,
}

impl Defaults {
    /// Takes the trace headers of a request.
    #[must_use]
    pub fn new(topic: Option<String>, source: &str, headers: &HeaderMap) -> Self {
        let trace = ["traceparent", "tracestate"].into_iter().filter_map(|name| {
            let value = Bytes::copy_from_slice(headers.get(name)?.as_bytes());
            Some(Header { name: name.into(), value: Some(value) })
        });
        let trace: Vec<Header> = trace.collect();
        // A state without its parent belongs to no trace.
        let complete = trace.first().is_some_and(|header| header.name == "traceparent");
        Self { topic, source: source.to_owned(), trace: if complete { trace } else { Vec::new() } }
    }

    /// Fills in the missing values of a draft.
    pub(super) fn complete(&self, mut draft: Draft) -> Draft {
        if !draft.headers.iter().any(|header| header.name.eq_ignore_ascii_case("traceparent")) {
            draft.headers.extend(self.trace.iter().cloned());
        }
        if draft.source.is_empty() {
            draft.source.clone_from(&self.source);
        }
        draft
    }

    /// A draft of a message that cannot be sent, if it has a valid topic, by which
    /// people find it.
    pub(super) fn salvage(
        &self,
        topic: Option<String>,
        type_name: Option<String>,
        id: Option<String>,
        body: Bytes,
        problem: &Problem,
    ) -> Option<Box<Draft>> {
        let topic = self.topic(topic);
        let fault = SendProblem::invalid(problem.detail.clone());
        valid_topic(&topic).then(|| {
            Box::new(Draft {
                topic,
                type_name: type_name.unwrap_or_default(),
                id,
                source: self.source.clone(),
                body,
                fault: Some(fault),
                ..Draft::default()
            })
        })
    }

    /// The topic of a message: its own, or that of the request. The send side refuses
    /// an empty topic and keeps a row that says so.
    pub(super) fn topic(&self, own: Option<String>) -> String {
        own.filter(|topic| !topic.is_empty()).or_else(|| self.topic.clone()).unwrap_or_default()
    }
}

/// Reads the delay of a message.
pub(super) fn read_delay(text: &str) -> Result<Duration, Problem> {
    crate::config::parse_duration(text).map_err(|why| bad(format!("`delay` is {text:?}: {why}")))
}

/// Reads the time of delivery; `name` is the field's name in the form.
pub(super) fn read_deliver_at(name: &str, text: &str) -> Result<Timestamp, Problem> {
    rfc3339::parse(text).map_err(|why| bad(format!("`{name}` is wrong: {why}")))
}

/// The 400 for an invalid message.
pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::bad_request("invalid message", detail)
}

/// Refuses a header that is reserved for a field of the message.
pub(super) fn check_header(name: &str) -> Result<(), Problem> {
    if name.is_empty() {
        return Err(bad("a header has no name"));
    }
    reserved_header(name).map_or(Ok(()), |why| Err(bad(why)))
}
