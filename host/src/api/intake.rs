//! Reads request bodies: bounded, and to their end.
//!
//! If a server responds and closes while its client still writes, the client's
//! system discards the response. So the part of a body that an operation leaves
//! unread is read and dropped, up to a bound, before the response is sent. A client
//! that asked first (`Expect: 100-continue`) needs no such reading.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use parking_lot::{Mutex, MutexGuard};
use serde::de::DeserializeOwned;

use super::per_token::{Held, NoMore, PerToken};
use super::problem::Problem;
use super::{rate_limit, shape};

/// Largest request to publish, and largest command that contains a message.
pub const MAX_PUBLISH_BYTES: usize = 16 * 1024 * 1024;
/// Largest uploaded component.
pub const MAX_UPLOAD_BYTES: usize = 40 * 1024 * 1024;
/// Largest body of any other request.
pub const MAX_COMMAND_BYTES: usize = 64 * 1024;
/// Largest body of a request to sign in.
const MAX_SIGN_IN_BYTES: usize = 16 * 1024;
/// Memory of the bodies that publish or upload, of all tokens and of one. Memory is
/// taken as bytes arrive, so that a body that only announces its length holds little.
const MAX_INTAKE_BYTES: u64 = 256 * 1024 * 1024;
const MAX_INTAKE_BYTES_EACH: u64 = MAX_INTAKE_BYTES / 2;
/// Memory of the bodies of commands, of all tokens and of one. It is apart from that
/// of large bodies, so that a group can be paused while publishers fill theirs.
const MAX_COMMANDS_BYTES: u64 = 64 * 1024 * 1024;
const MAX_COMMANDS_BYTES_EACH: u64 = MAX_COMMANDS_BYTES / 8;
/// Memory of the bodies that sign in, of all addresses and of one.
const MAX_SIGN_INS_BYTES: u64 = 16 * 1024 * 1024;
const MAX_SIGN_INS_BYTES_EACH: u64 = MAX_SIGN_INS_BYTES / 64;
/// Memory is taken in multiples of this.
const INTAKE_STEP_BYTES: u64 = 4 * 1024;
/// How long a body waits for memory before it is refused. Its memory is freed then,
/// so that half-read bodies do not wait for each other for ever.
const MAX_MEMORY_WAIT: Duration = Duration::from_secs(5);
/// Poll interval while a body waits for memory.
const MEMORY_LOOK: Duration = Duration::from_millis(20);
/// Lowest average rate of a body, after the time that any body may take.
const LEAST_BYTES_A_SECOND: u64 = 16 * 1024;
const ANY_BODY_MAY_TAKE: Duration = Duration::from_secs(10);
/// Longest pause within a body, after which its client counts as gone.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Bytes that are read and dropped of an unread body before the connection is closed.
const MAX_DRAIN_BYTES: usize = 64 * 1024 * 1024;
/// How long that reading may take.
const MAX_DRAIN_TIME: Duration = Duration::from_secs(10);

/// The memory of bodies in the process. Each kind of caller has its own, so that no
/// token can have the name under which another kind is counted.
static LARGE_BODIES: LazyLock<BodyMemory> = LazyLock::new(|| BodyMemory {
    used: PerToken::new(MAX_INTAKE_BYTES, MAX_INTAKE_BYTES_EACH),
    most: MAX_INTAKE_BYTES,
    most_each: MAX_INTAKE_BYTES_EACH,
    holder: "token",
});
static COMMANDS: LazyLock<BodyMemory> = LazyLock::new(|| BodyMemory {
    used: PerToken::new(MAX_COMMANDS_BYTES, MAX_COMMANDS_BYTES_EACH),
    most: MAX_COMMANDS_BYTES,
    most_each: MAX_COMMANDS_BYTES_EACH,
    holder: "token",
});
static SIGN_INS: LazyLock<BodyMemory> = LazyLock::new(|| BodyMemory {
    used: PerToken::new(MAX_SIGN_INS_BYTES, MAX_SIGN_INS_BYTES_EACH),
    most: MAX_SIGN_INS_BYTES,
    most_each: MAX_SIGN_INS_BYTES_EACH,
    holder: "address",
});

/// Memory that the bodies of one kind of request share.
struct BodyMemory {
    used: PerToken,
    /// Bytes of all holders, and of one.
    most: u64,
    most_each: u64,
    /// What a holder is, for its error.
    holder: &'static str,
}

/// A body, with the memory that it holds until it is dropped.
#[derive(Debug)]
pub struct HeldBody {
    /// The bytes.
    pub bytes: Bytes,
    _memory: Held,
}

/// Reads a body of at most `limit` bytes that the holder of `token` sends.
///
/// # Errors
/// 413 with the limit; 415 for a compressed body; 400 when the client stopped in the
/// middle, 408 when it sent too slowly; 503 when other requests hold all the memory
/// of bodies, or of this token's bodies.
pub async fn read(
    token: &Arc<str>,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    what: &str,
) -> Result<HeldBody, Problem> {
    read_into(&LARGE_BODIES, token, headers, body, limit, what).await
}

async fn read_into(
    memory: &BodyMemory,
    holder: &Arc<str>,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    what: &str,
) -> Result<HeldBody, Problem> {
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
    let begun = Instant::now();
    let mut held = memory.used.take(holder, 0).map_err(|no_more| memory.refusal(no_more, holder))?;
    let mut room = 0;
    let mut taken = BytesMut::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = next_within(pause_now(begun.elapsed(), taken.len()), &mut chunks, taken.len()).await? {
        let chunk = chunk.map_err(|error| {
            Problem::bad_request("broken request", format!("the body ended before its end: {error}"))
        })?;
        if taken.len() + chunk.len() > limit {
            return Err(too_large());
        }
        let needed = (taken.len() + chunk.len()) as u64;
        if needed > room {
            let step = (needed - room).next_multiple_of(INTAKE_STEP_BYTES);
            memory.grow(&mut held, step, holder).await?;
            room += step;
        }
        taken.extend_from_slice(&chunk);
    }
    Ok(HeldBody { bytes: taken.freeze(), _memory: held })
}

impl BodyMemory {
    /// Takes memory for more of a body, and waits up to [`MAX_MEMORY_WAIT`] for it.
    async fn grow(&self, held: &mut Held, step: u64, holder: &str) -> Result<(), Problem> {
        let begun = Instant::now();
        loop {
            match held.grow(step) {
                Ok(()) => return Ok(()),
                Err(no_more) if begun.elapsed() >= MAX_MEMORY_WAIT => return Err(self.refusal(no_more, holder)),
                Err(_) => tokio::time::sleep(MEMORY_LOOK).await,
            }
        }
    }

    fn refusal(&self, no_more: NoMore, holder: &str) -> Problem {
        let kind = self.holder;
        Problem::unavailable(match no_more {
            NoMore::Own => format!(
                "other requests of the {kind} `{holder}` hold all the memory that such bodies of one {kind} may take ({}); \
                 try again when they have ended",
                size(self.most_each as usize)
            ),
            NoMore::All => format!(
                "other requests hold all the memory that such bodies may take ({}); try again later",
                size(self.most as usize)
            ),
        })
    }
}

/// How long the next chunk of a body may take: a pause is bounded, and so is the
/// whole body by the lowest rate.
fn pause_now(elapsed: Duration, taken: usize) -> Duration {
    let earned = Duration::from_millis(taken as u64 * 1_000 / LEAST_BYTES_A_SECOND);
    (ANY_BODY_MAY_TAKE + earned).saturating_sub(elapsed).min(MAX_PAUSE)
}

/// The next chunk of a body of which `taken` bytes have arrived.
async fn next_within<S: Stream + Unpin>(
    pause: Duration,
    chunks: &mut S,
    taken: usize,
) -> Result<Option<S::Item>, Problem> {
    tokio::time::timeout(pause, chunks.next()).await.map_err(|_| {
        let detail = format!(
            "nothing came for {pause:?} after {taken} bytes of the body; send all of it, at {LEAST_BYTES_A_SECOND} bytes a \
             second or faster"
        );
        Problem::new(StatusCode::REQUEST_TIMEOUT, "took too long", detail)
    })
}

fn size(bytes: usize) -> String {
    const MIB: usize = 1024 * 1024;
    if bytes >= MIB { format!("{} MiB", bytes / MIB) } else { format!("{} KiB", bytes / 1024) }
}

/// Reads the JSON body of a command that the holder of `token` sends. An empty body
/// counts as `{}`.
///
/// # Errors
/// As [`read`]; 415 for another content type; 400 that says where the JSON is wrong.
pub async fn command<T: DeserializeOwned>(token: &Arc<str>, headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    json_in(&read_into(&COMMANDS, token, headers, body, MAX_COMMAND_BYTES, "the body of this request").await?, headers)
}

/// Reads the JSON body of a command that contains a message, and so may be as large as a
/// request to publish.
///
/// # Errors
/// As [`command`].
pub async fn command_with_message<T: DeserializeOwned>(
    token: &Arc<str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Problem> {
    json_in(&read(token, headers, body, MAX_PUBLISH_BYTES, "the body of this request").await?, headers)
}

/// Reads the JSON body of a request to sign in, whose caller is known by the address
/// only.
///
/// # Errors
/// As [`command`].
pub async fn sign_in<T: DeserializeOwned>(peer: IpAddr, headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let address = Arc::from(rate_limit::network(peer).to_string());
    json_in(
        &read_into(&SIGN_INS, &address, headers, body, MAX_SIGN_IN_BYTES, "the body of this request").await?,
        headers,
    )
}

fn json_in<T: DeserializeOwned>(body: &HeldBody, headers: &HeaderMap) -> Result<T, Problem> {
    let bytes = &body.bytes;
    let text: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    if !bytes.is_empty() && essence(headers) != "application/json" {
        return Err(Problem::unsupported_media(
            "the body of this request is JSON; send it with content-type: application/json",
        ));
    }
    shape::object_in(text).map_err(|why| Problem::bad_request("bad body", format!("the body is wrong: {why}")))
}

/// The compression of the body, if any. A compressed body would be stored and
/// passed on without the header that says how to decompress it.
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

/// Lends the body to the operation, and then reads the rest of it.
pub async fn drain(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let asked_first = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let lent = Lent::new(body);
    let mut response = next.run(Request::from_parts(parts, Body::from_stream(lent.stream()))).await;
    let waits_for_leave = asked_first && !lent.look().begun;
    // A client that paused for too long is not waited for again.
    let gone = response.status() == StatusCode::REQUEST_TIMEOUT;
    if gone || !waits_for_leave && tokio::time::timeout(MAX_DRAIN_TIME, lent.drop_rest()).await != Ok(true) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A body that can be read further after the operation has read from it.
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

    /// The lock is held while a chunk is polled, and never across an await.
    fn look(&self) -> MutexGuard<'_, Loan> {
        self.0.lock()
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

    /// Reads and drops the rest. Returns whether it reached the end.
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
        assert_eq!(read(&token(), &HeaderMap::new(), sent(1024), 1024, "it").await.unwrap().bytes.len(), 1024);
        let problem =
            read(&token(), &HeaderMap::new(), sent(MAX_UPLOAD_BYTES + 1), MAX_UPLOAD_BYTES, "a component").await;
        assert_eq!(problem.as_ref().unwrap_err().status, 413);
        assert_eq!(problem.unwrap_err().detail, "a component may have 40 MiB at most, and this has more");
    }

    fn token() -> Arc<str> {
        "shop".into()
    }

    /// 20 connections that announced 16 MiB and sent a byte held another
    /// publisher for 9.5 s.
    #[tokio::test]
    async fn a_body_that_is_announced_and_not_sent_holds_no_memory() {
        let (most, most_each) = (4 * INTAKE_STEP_BYTES, 2 * INTAKE_STEP_BYTES);
        let memory = BodyMemory { used: PerToken::new(most, most_each), most, most_each, holder: "token" };
        let announced = HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from(MAX_PUBLISH_BYTES))]);
        let one_byte = || {
            let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from("x"))]);
            Body::from_stream(first.chain(stream::pending()))
        };
        let slow: Vec<Arc<str>> = vec![token(), token()];
        let reads = slow.iter().map(|token| read_into(&memory, token, &announced, one_byte(), MAX_PUBLISH_BYTES, "it"));
        let other: Arc<str> = "other".into();
        let (unannounced, whole) = (HeaderMap::new(), Body::from(vec![b'x'; 1024]));
        tokio::select! {
            biased;
            _ = futures::future::join_all(reads) => panic!("they send no more"),
            taken = read_into(&memory, &other, &unannounced, whole, MAX_PUBLISH_BYTES, "it") => {
                assert_eq!(taken.unwrap().bytes.len(), 1024);
            }
        }
    }

    /// 2,048 connections of one token that announced 60,000 bytes and sent 28 kept
    /// everybody else from pausing a group and from signing in.
    #[tokio::test]
    async fn half_sent_commands_of_one_token_refuse_nobody_elses() {
        let mut announced = typed("application/json");
        announced.insert(header::CONTENT_LENGTH, HeaderValue::from(60_000));
        let half_sent = || {
            let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 28]))]);
            Body::from_stream(first.chain(stream::pending()))
        };
        // The name under which the bodies of all commands were once counted.
        let busy: Arc<str> = "commands".into();
        let reads = (0..2_048).map(|_| command::<Why>(&busy, &announced, half_sent()));
        let (json, other) = (typed("application/json"), token());
        let others = async {
            command::<Why>(&other, &json, Body::from(r#"{"why":"x"}"#)).await.unwrap();
            let whole = vec![b' '; MAX_COMMAND_BYTES];
            command::<Why>(&other, &json, Body::from(whole)).await.unwrap();
            sign_in::<Why>(IpAddr::from([10, 0, 0, 1]), &json, Body::from(r#"{"why":"x"}"#)).await.unwrap();
        };
        tokio::select! {
            biased;
            ended = futures::future::join_all(reads) => panic!("they send no more: {:?}", ended.first()),
            () = others => {}
        }
    }

    #[test]
    fn whoever_is_refused_memory_is_told_whose_requests_hold_it() {
        let own = SIGN_INS.refusal(NoMore::Own, "10.0.0.1");
        assert_eq!(own.status, 503);
        assert!(own.detail.contains("of the address `10.0.0.1`") && own.detail.contains("256 KiB"), "{}", own.detail);
        let all = COMMANDS.refusal(NoMore::All, "shop");
        assert!(all.detail.contains("64 MiB") && !all.detail.contains("shop"), "{}", all.detail);
    }

    #[test]
    fn a_body_has_to_come_at_a_least_rate() {
        let second = Duration::from_secs(1);
        assert_eq!(pause_now(Duration::ZERO, 0), MAX_PAUSE);
        assert_eq!(pause_now(9 * second, 1), second, "a byte each pause would last for ever");
        let mib = 1024 * 1024;
        assert_eq!(pause_now(60 * second, mib), MAX_PAUSE.min(14 * second), "16 KiB a second earn 64 s");
        assert_eq!(pause_now(80 * second, mib), Duration::ZERO);
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
        let problem = read(&token(), &packed("GZIP"), Body::from("x"), 1024, "a component").await.unwrap_err();
        assert_eq!(problem.status, 415);
        assert!(problem.detail.contains("content-encoding \"gzip\""), "{}", problem.detail);
        assert_eq!(read(&token(), &packed("identity"), Body::from("x"), 1024, "it").await.unwrap().bytes, "x");
    }

    #[tokio::test]
    async fn a_command_says_what_is_wrong_with_it() {
        let json = typed("application/json; charset=utf-8");
        assert_eq!(
            command::<Why>(&token(), &json, Body::from(r#"{"why":"x"}"#)).await.unwrap().why.as_deref(),
            Some("x")
        );
        assert_eq!(command::<Why>(&token(), &HeaderMap::new(), Body::empty()).await.unwrap().why, None);
        let problem = command::<Why>(&token(), &json, Body::from(r#"{"wy":1}"#)).await.unwrap_err();
        assert!(problem.detail.contains("`wy` is unknown") && problem.detail.contains("`why`"), "{}", problem.detail);
        let problem = command::<Why>(&token(), &json, Body::from(r#"["x"]"#)).await.unwrap_err();
        assert!(problem.detail.contains("it is an array; write an object"), "{}", problem.detail);
        assert_eq!(command::<Why>(&token(), &typed("text/plain"), Body::from("{}")).await.unwrap_err().status, 415);
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
