//! Taking in request bodies: bounded, and read to their end.
//!
//! A server that answers and closes while its client still writes makes the
//! client's system throw the answer away. So what an operation leaves unread
//! is read and dropped, up to a bound, before the answer goes out. A client
//! that asked first (`Expect: 100-continue`) is answered without that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::Problem;
use super::shape;

/// A request's messages, all together.
pub const MAX_PUBLISH_BYTES: usize = 16 * 1024 * 1024;
/// An uploaded component.
pub const MAX_UPLOAD_BYTES: usize = 20 * 1024 * 1024;
/// The body of any other request.
pub const MAX_COMMAND_BYTES: usize = 64 * 1024;
/// What the bodies of all requests may take together, in KiB. A request waits
/// for its share before it is read, within the time that it has in all: were
/// shares taken while reading, many half-read bodies could wait for each other.
const MAX_INTAKE_KIB: u32 = 256 * 1024;
/// How long a body may stand still before its client is taken to be gone.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// What is read of a body that nobody wants, before the connection is closed.
const MAX_DRAIN_BYTES: usize = 64 * 1024 * 1024;
/// How long that may take.
const MAX_DRAIN_TIME: Duration = Duration::from_secs(10);

/// Shares of [`MAX_INTAKE_KIB`], for the whole process.
static SHARES: Semaphore = Semaphore::const_new(MAX_INTAKE_KIB as usize);

/// A body, with the share of memory that it takes until it is dropped.
#[derive(Debug)]
pub struct Taken {
    /// The bytes.
    pub bytes: Bytes,
    _share: SemaphorePermit<'static>,
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// 413 that says the limit; 415 for a body that is packed; 400 when the client
/// stopped in the middle, 408 when it went on too slowly.
pub async fn read(headers: &HeaderMap, body: Body, limit: usize, what: &str) -> Result<Taken, Problem> {
    if let Some(coding) = packing(headers) {
        return Err(Problem::unsupported_media(format!(
            "{what} is taken as it is, and this comes with content-encoding {coding:?}; send it without"
        )));
    }
    let too_large = || Problem::too_large(format!("{what} may have {} at most, and this has more", size(limit)));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|announced: usize| announced > limit) {
        return Err(too_large());
    }
    // Without an announced length it may become as large as is allowed.
    let share = u32::try_from(announced.unwrap_or(limit).div_ceil(1024)).unwrap_or(MAX_INTAKE_KIB);
    let share = SHARES.acquire_many(share.min(MAX_INTAKE_KIB)).await.map_err(Problem::internal)?;
    let mut taken = BytesMut::with_capacity(announced.unwrap_or(0));
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = next_within(MAX_PAUSE, &mut chunks, taken.len()).await? {
        let chunk = chunk.map_err(|error| {
            Problem::bad_request("broken request", format!("the body ended before its end: {error}"))
        })?;
        if taken.len() + chunk.len() > limit {
            return Err(too_large());
        }
        taken.extend_from_slice(&chunk);
    }
    Ok(Taken { bytes: taken.freeze(), _share: share })
}

/// The next of a body of which `taken` bytes are here.
async fn next_within<S: Stream + Unpin>(
    pause: Duration,
    chunks: &mut S,
    taken: usize,
) -> Result<Option<S::Item>, Problem> {
    tokio::time::timeout(pause, chunks.next()).await.map_err(|_| {
        let detail = format!("nothing came for {pause:?} after {taken} bytes of the body; send all of it");
        Problem::new(StatusCode::REQUEST_TIMEOUT, "took too long", detail)
    })
}

fn size(bytes: usize) -> String {
    const MIB: usize = 1024 * 1024;
    if bytes >= MIB { format!("{} MiB", bytes / MIB) } else { format!("{} KiB", bytes / 1024) }
}

/// Reads the JSON body of a command. An empty body counts as `{}`.
///
/// # Errors
/// 415 for another content type; 400 that says where the JSON is wrong.
pub async fn command<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let Taken { bytes, .. } = read(headers, body, MAX_COMMAND_BYTES, "the body of this request").await?;
    let text: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes };
    if !bytes.is_empty() && essence(headers) != "application/json" {
        return Err(Problem::unsupported_media(
            "the body of this request is JSON; send it with content-type: application/json",
        ));
    }
    shape::object_in(text).map_err(|why| Problem::bad_request("bad body", format!("the body is wrong: {why}")))
}

/// How the body is packed, if it is. What is packed would be measured, kept
/// and handed on as bytes that nobody could unpack: the header goes no further.
fn packing(headers: &HeaderMap) -> Option<String> {
    let codings = headers.get_all(header::CONTENT_ENCODING).into_iter();
    let mut codings = codings.map(|coding| String::from_utf8_lossy(coding.as_bytes()).trim().to_ascii_lowercase());
    codings.find(|coding| !coding.is_empty() && coding != "identity")
}

/// The media type without its parameters, in lower case.
#[must_use]
pub fn essence(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Lends the body to the operation and reads what it left.
pub async fn drain(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let asked_first = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let lent = Lent::new(body);
    let mut response = next.run(Request::from_parts(parts, Body::from_stream(lent.stream()))).await;
    let waits_for_leave = asked_first && !lent.look().begun;
    // Of a client that stood still for long nothing more is awaited.
    let gone = response.status() == StatusCode::REQUEST_TIMEOUT;
    if gone || !waits_for_leave && tokio::time::timeout(MAX_DRAIN_TIME, lent.drop_rest()).await != Ok(true) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A body that an operation reads from and that can be read on afterwards.
#[derive(Clone)]
struct Lent(Arc<Mutex<Loan>>);

struct Loan {
    chunks: BodyDataStream,
    begun: bool,
    ended: bool,
}

impl Lent {
    fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Loan { chunks: body.into_data_stream(), begun: false, ended: false })))
    }

    /// The lock is held while a chunk is polled for and never over an await.
    fn look(&self) -> MutexGuard<'_, Loan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stream(&self) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send + 'static {
        let lent = self.clone();
        stream::poll_fn(move |context| {
            let mut loan = lent.look();
            if loan.ended {
                return Poll::Ready(None);
            }
            loan.begun = true;
            let chunk = loan.chunks.poll_next_unpin(context);
            loan.ended |= matches!(chunk, Poll::Ready(None | Some(Err(_))));
            chunk
        })
    }

    /// Reads the rest and drops it; whether it came to the end.
    async fn drop_rest(&self) -> bool {
        let mut rest = self.stream();
        let mut dropped = 0;
        while let Some(Ok(chunk)) = rest.next().await {
            dropped += chunk.len();
            if dropped > MAX_DRAIN_BYTES {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))])
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Why {
        why: Option<String>,
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_with_the_limit() {
        let sent = |bytes: usize| Body::from(vec![0; bytes]);
        assert_eq!(read(&HeaderMap::new(), sent(1024), 1024, "it").await.unwrap().bytes.len(), 1024);
        let problem = read(&HeaderMap::new(), sent(MAX_UPLOAD_BYTES + 1), MAX_UPLOAD_BYTES, "a component").await;
        assert_eq!(problem.as_ref().unwrap_err().status, 413);
        assert_eq!(problem.unwrap_err().detail, "a component may have 20 MiB at most, and this has more");
    }

    #[tokio::test]
    async fn a_body_that_stands_still_is_given_up() {
        let mut halted = Box::pin(stream::iter([1]).chain(stream::pending()));
        assert_eq!(next_within(MAX_PAUSE, &mut halted, 0).await.unwrap(), Some(1));
        let problem = next_within(Duration::from_millis(10), &mut halted, 1).await.unwrap_err();
        assert_eq!(problem.status, 408);
        assert!(problem.detail.contains("after 1 bytes"), "{}", problem.detail);
    }

    #[tokio::test]
    async fn a_packed_body_is_refused_before_it_is_taken_for_something_else() {
        let packed = |coding| HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(coding))]);
        let problem = read(&packed("GZIP"), Body::from("x"), 1024, "a component").await.unwrap_err();
        assert_eq!(problem.status, 415);
        assert!(problem.detail.contains("content-encoding \"gzip\""), "{}", problem.detail);
        assert_eq!(read(&packed("identity"), Body::from("x"), 1024, "it").await.unwrap().bytes, "x");
    }

    #[tokio::test]
    async fn a_command_says_what_is_wrong_with_it() {
        let json = typed("application/json; charset=utf-8");
        assert_eq!(command::<Why>(&json, Body::from(r#"{"why":"x"}"#)).await.unwrap().why.as_deref(), Some("x"));
        assert_eq!(command::<Why>(&HeaderMap::new(), Body::empty()).await.unwrap().why, None);
        let problem = command::<Why>(&json, Body::from(r#"{"wy":1}"#)).await.unwrap_err();
        assert!(problem.detail.contains("`wy` is unknown") && problem.detail.contains("`why`"), "{}", problem.detail);
        let problem = command::<Why>(&json, Body::from(r#"["x"]"#)).await.unwrap_err();
        assert!(problem.detail.contains("it is an array; write an object"), "{}", problem.detail);
        assert_eq!(command::<Why>(&typed("text/plain"), Body::from("{}")).await.unwrap_err().status, 415);
    }

    #[tokio::test]
    async fn what_an_operation_left_is_read_to_its_end() {
        let lent =
            Lent::new(Body::from_stream(stream::iter((0..3).map(|_| Ok::<_, std::io::Error>(Bytes::from("x"))))));
        assert!(!lent.look().begun);
        lent.stream().next().await.unwrap().unwrap();
        assert!(lent.look().begun && !lent.look().ended);
        assert!(lent.drop_rest().await && lent.look().ended);
        assert!(lent.drop_rest().await, "a body may be asked again after its end");
    }
}
