//! The bodies of requests and answers, kept within their bounds.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi_http::{Error, WasiBody};

use super::failure;
use crate::engine::limits::{MAX_HTTP_REQUEST_BYTES, MAX_HTTP_RESPONSE_BYTES, MAX_HTTP_WHOLE_BYTES};

/// The body of a request.
pub(super) enum RequestBody {
    /// The whole body.
    Whole(Bytes),
    /// A body too long to be buffered: the rest is sent as the guest writes it.
    Passed(reqwest::Body),
}

/// Reads the body that a guest writes, up to the bound of buffering.
pub(super) async fn take(mut body: WasiBody) -> Result<RequestBody, Error> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers are dropped.
        let Ok(data) = frame?.into_data() else { continue };
        bytes.extend_from_slice(&data);
        if bytes.len() > MAX_HTTP_WHOLE_BYTES {
            return Ok(RequestBody::Passed(pass_on(bytes.freeze(), body)));
        }
    }
    Ok(RequestBody::Whole(bytes.freeze()))
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
