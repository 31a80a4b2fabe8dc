//! Lets the HTTP requests of a handler through or refuses them. A request that the
//! binding does not allow is refused with the setting to change; the same text goes
//! to the attempt's log, since most HTTP clients of guests show their users less
//! than that.

use std::sync::Arc;
use std::time::Duration;

use courier_core::message::Timestamp;
use hyper::header::HeaderValue;
use hyper::{Request, Response};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::HttpOut;
use crate::clock::now;
use crate::engine::Policy;
use crate::engine::handler_log::SharedLog;
use crate::engine::limits::{
    HTTP_PIECE_BYTES, MAX_HTTP_BODIES_BYTES, MAX_HTTP_IN_FLIGHT, MAX_HTTP_REQUESTS_PER_CALL, MAX_HTTP_WHOLE_BYTES,
};
use crate::random;

/// The header of the W3C Trace Context, by which spans form one trace.
const TRACE_HEADER: &str = "traceparent";

/// The result of a request: the answer's head, and the future that drives its
/// connection.
type SentRequest = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

/// What the requests of an instance go through.
pub(in crate::engine) struct HttpGate {
    policy: Arc<Policy>,
    log: SharedLog,
    /// Requests of the current call.
    requests: u32,
    /// The `traceparent` of the message that the current call is about, or one
    /// of its own once that was needed.
    trace: Option<String>,
    /// When the time of the current call ends.
    deadline: Timestamp,
}

impl HttpGate {
    pub(in crate::engine) fn new(policy: Arc<Policy>, log: SharedLog) -> Self {
        Self { policy, log, requests: 0, trace: None, deadline: Timestamp(0) }
    }

    /// Gets ready for a call about a message with this `traceparent`, which ends at
    /// `deadline`.
    pub(in crate::engine) fn begin(&mut self, trace: Option<String>, deadline: Timestamp) {
        self.requests = 0;
        self.trace = trace;
        self.deadline = deadline;
    }

    /// Refuses a request, with the reason in the error and in the attempt's log.
    fn refuse(&self, why: String) -> Error {
        self.log.refused(&why);
        Error::InternalError(Some(why))
    }
}

impl WasiHttpHooks for HttpGate {
    /// A body has two such pieces on its way to [`HttpOut::send`].
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        HTTP_PIECE_BYTES
    }

    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = SentRequest> + Send> {
        let admitted = self.admit(&request.uri().to_string());
        if let Some(span) = self.span() {
            request.headers_mut().entry(TRACE_HEADER).or_insert(span);
        }
        let options = connect_in_time(options, self.deadline.since(now()));
        let log = self.log.clone();
        Box::new(async move {
            let (out, url) = admitted?;
            let answered = out.send(url, request, Some(options)).await;
            match &answered {
                Ok(_) => {}
                Err(Error::ConnectionLimitReached) => log.refused(&too_much()),
                Err(error) => log.refused(&error.to_string()),
            }
            let done: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
            Ok((answered?, done))
        })
    }
}

impl HttpGate {
    /// A span of the message's trace. Without one, a span of a new trace that all
    /// requests of the call share.
    fn span(&mut self) -> Option<HeaderValue> {
        if let Some(span) = self.trace.as_deref().and_then(child_of) {
            return Some(span);
        }
        let trace = random::trace_id();
        self.trace = Some(format!("00-{trace:032x}-{:016x}-01", random::span_id()));
        self.trace.as_deref().and_then(child_of)
    }

    fn admit(&mut self, url: &str) -> Result<(Arc<HttpOut>, reqwest::Url), Error> {
        self.requests += 1;
        if self.requests > MAX_HTTP_REQUESTS_PER_CALL {
            return Err(self.refuse(format!("one call may make {MAX_HTTP_REQUESTS_PER_CALL} HTTP requests")));
        }
        let out = self.policy.http.clone();
        match (HttpOut::admit(out.as_deref(), &self.policy.group, url), out) {
            (Ok(url), Some(out)) => Ok((out, url)),
            (Err(why), _) => Err(self.refuse(why)),
            // Without rules nothing is admitted.
            (Ok(_), None) => Err(Error::HttpRequestDenied),
        }
    }
}

/// What is said of a request for which the binding has no room now.
fn too_much() -> String {
    format!(
        "the binding has too many HTTP requests under way: at most {MAX_HTTP_IN_FLIGHT}, or one for each attempt of its \
         concurrency, with bodies of {} MiB, or {} MiB for each attempt",
        MAX_HTTP_BODIES_BYTES >> 20,
        MAX_HTTP_WHOLE_BYTES >> 20
    )
}

/// The options of a request, whose connection may take at most half of the time that is
/// `left` to the attempt. A host that is off answers nothing at all: the guest must be told
/// while it can still say `unavailable`, or the attempt ends as one that took too long.
fn connect_in_time(options: Option<RequestOptions>, left: Duration) -> RequestOptions {
    let options = options.unwrap_or_default();
    let connect = options.connect_timeout.map_or(left / 2, |asked| asked.min(left / 2));
    RequestOptions { connect_timeout: Some(connect), ..options }
}

/// A `traceparent` of the same trace with a new span; `None` when `parent` is not
/// well formed.
fn child_of(parent: &str) -> Option<HeaderValue> {
    let parts: Vec<&str> = parent.split('-').collect();
    let [version, trace, _, flags] = parts[..] else { return None };
    let is_hex = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_trace = is_hex(trace, 32) && trace.bytes().any(|byte| byte != b'0');
    (is_hex(version, 2) && is_trace && is_hex(flags, 2)).then_some(())?;
    let span = random::span_id();
    HeaderValue::from_str(&format!("{version}-{trace}-{span:016x}-{flags}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_leaves_half_of_the_time_of_its_attempt() {
        let connect = |asked: Option<u64>| {
            let options = asked.map(|asked| RequestOptions {
                connect_timeout: Some(Duration::from_secs(asked)),
                ..RequestOptions::default()
            });
            connect_in_time(options, Duration::from_secs(4)).connect_timeout.unwrap().as_secs()
        };
        assert_eq!([connect(None), connect(Some(1)), connect(Some(3))], [2, 1, 2]);
    }

    #[test]
    fn a_request_is_a_span_of_the_messages_trace() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let child = child_of(&format!("00-{trace}-00f067aa0ba902b7-01")).unwrap();
        let child = child.to_str().unwrap();
        assert!(child.starts_with(&format!("00-{trace}-")) && child.ends_with("-01") && !child.contains("00f067aa"));
        for odd in [
            "",
            "00",
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            "00-x-y-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\r\n",
        ] {
            assert_eq!(child_of(odd), None, "{odd:?}");
        }
    }
}
