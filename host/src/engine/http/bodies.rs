//! The bodies of requests and answers, kept within their bounds.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::{Error, WasiBody};

use super::failure;
use crate::engine::limits::{
    HTTP_PIECE_BYTES, MAX_HTTP_BODIES_BYTES, MAX_HTTP_REQUEST_BYTES, MAX_HTTP_RESPONSE_BYTES, MAX_HTTP_WHOLE_BYTES,
};

/// The body of a request.
pub(super) enum RequestBody {
    /// The whole body.
    Whole(Bytes),
    /// A body too long to be buffered: the rest is sent as the guest writes it.
    Passed(reqwest::Body),
}

/// A body that was taken from its guest.
pub(super) struct TakenBody {
    pub body: RequestBody,
    /// Its part of the memory for bodies, until the request has its answer.
    pub reserved: Option<OwnedSemaphorePermit>,
}

/// The memory for the bodies of a binding's requests, in pieces of [`HTTP_PIECE_BYTES`].
#[derive(Clone, Debug)]
pub(super) struct HttpBodyMemory(Arc<Semaphore>);

impl HttpBodyMemory {
    /// The memory of a binding that makes at most `concurrency` attempts at a time.
    pub fn new(concurrency: usize) -> Self {
        let bytes = concurrency.saturating_mul(MAX_HTTP_WHOLE_BYTES).max(MAX_HTTP_BODIES_BYTES);
        Self(Arc::new(Semaphore::new((bytes / HTTP_PIECE_BYTES).min(Semaphore::MAX_PERMITS))))
    }

    /// Reserves room for the rest of a body at once: requests that each had a part would
    /// wait for one another.
    async fn reserve(&self, bytes: usize, within: Duration) -> Result<OwnedSemaphorePermit, Error> {
        let pieces = u32::try_from(bytes.div_ceil(HTTP_PIECE_BYTES)).unwrap_or(u32::MAX);
        match tokio::time::timeout(within, Arc::clone(&self.0).acquire_many_owned(pieces)).await {
            Ok(Ok(reserved)) => Ok(reserved),
            Ok(Err(_)) | Err(_) => Err(Error::ConnectionLimitReached),
        }
    }
}

/// Reads the body that a guest writes, up to the bound of buffering. A body with more than
/// a piece waits `within` for room in the `memory`. `announced` is its length, if the guest
/// says so.
pub(super) async fn take(
    mut body: WasiBody,
    announced: Option<usize>,
    memory: &HttpBodyMemory,
    within: Duration,
) -> Result<TakenBody, Error> {
    let whole = announced.unwrap_or(MAX_HTTP_WHOLE_BYTES);
    let (mut bytes, mut reserved, mut room) = (BytesMut::new(), None, HTTP_PIECE_BYTES);
    while let Some(frame) = body.frame().await {
        // Trailers are dropped.
        let Ok(data) = frame?.into_data() else { continue };
        bytes.extend_from_slice(&data);
        if bytes.len() > room && reserved.is_none() && whole <= MAX_HTTP_WHOLE_BYTES {
            reserved = Some(memory.reserve(whole, within).await?);
            room = whole;
        }
        if bytes.len() > room {
            return Ok(TakenBody { body: RequestBody::Passed(pass_on(bytes.freeze(), body)), reserved });
        }
    }
    Ok(TakenBody { body: RequestBody::Whole(bytes.freeze()), reserved })
}

fn pass_on(begin: Bytes, rest: WasiBody) -> reqwest::Body {
    let all = stream::once(async { Ok(begin) }).chain(rest.into_data_stream());
    let bounded = all.scan(0, |sent: &mut usize, data: Result<Bytes, Error>| {
        *sent += data.as_ref().map_or(0, Bytes::len);
        let is_over = *sent > MAX_HTTP_REQUEST_BYTES;
        let data = if is_over { Err(Error::HttpRequestBodySize(Some(MAX_HTTP_REQUEST_BYTES as u64))) } else { data };
        std::future::ready(Some(data))
    });
    reqwest::Body::wrap_stream(bounded)
}

/// The body of an answer. The request counts as in flight until the body is read
/// to its end or dropped.
pub(super) fn answer(body: reqwest::Body, permit: OwnedSemaphorePermit) -> WasiBody {
    LimitedBody { body, left: MAX_HTTP_RESPONSE_BYTES, _permit: permit }.boxed_unsync()
}

struct LimitedBody {
    body: reqwest::Body,
    left: usize,
    _permit: OwnedSemaphorePermit,
}

impl Body for LimitedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(failure::of_answer(&error)))),
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
