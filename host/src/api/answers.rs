//! Bounds the memory of responses that clients have not read yet.
//!
//! A response is complete before its first byte is sent, and its client reads it
//! as fast as it likes. Without a bound one viewer that requests pages of 8 MiB on
//! each of its connections and reads none of them uses up the host's memory.

use std::pin::Pin;
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};

use super::per_token::{Held, NoMore, PerToken};
use super::problem::Problem;

/// Bytes of unread responses, of all tokens and of one token.
const MAX_UNREAD_BYTES: u64 = 512 << 20;
const MAX_UNREAD_BYTES_EACH: u64 = 128 << 20;
/// Responses up to this size are not counted: the limit of connections bounds
/// them.
const SMALL_BYTES: u64 = 64 << 10;

/// Bytes of unread responses of the process.
static UNREAD: LazyLock<PerToken> = LazyLock::new(|| PerToken::new(MAX_UNREAD_BYTES, MAX_UNREAD_BYTES_EACH));

/// The token of a request, known once the request is authenticated.
#[derive(Clone, Debug, Default)]
pub struct Asker(Arc<OnceLock<Arc<str>>>);

impl Asker {
    /// Notes the token.
    pub fn is(&self, token: &Arc<str>) {
        // A second authentication of the request would give the same token.
        let _ = self.0.set(Arc::clone(token));
    }
}

/// Counts a response until it is read or dropped.
pub async fn hold(request: Request, next: Next) -> Response {
    hold_in(&UNREAD, request, next).await
}

async fn hold_in(unread: &PerToken, mut request: Request, next: Next) -> Response {
    let asker = Asker::default();
    request.extensions_mut().insert(asker.clone());
    let response = next.run(request).await;
    let size = response.body().size_hint().exact().unwrap_or(0);
    // Responses that need no token are static files.
    let Some(token) = asker.0.get().filter(|_| size > SMALL_BYTES) else { return response };
    match unread.take(token, size) {
        Ok(held) => response.map(|body| Body::new(Kept { body, _held: held })),
        Err(no_more) => refused(no_more, token).into_response(),
    }
}

fn refused(no_more: NoMore, token: &str) -> Problem {
    Problem::unavailable(match no_more {
        NoMore::Own => format!(
            "answers to the token `{token}` that nobody has read yet hold {} MiB, which is the most for one token; read \
             them, or ask for smaller pages",
            MAX_UNREAD_BYTES_EACH >> 20
        ),
        NoMore::All => format!(
            "answers that nobody has read yet hold {} MiB, which is the most; try again later",
            MAX_UNREAD_BYTES >> 20
        ),
    })
}

/// A body with its share of the counted bytes.
struct Kept {
    body: Body,
    _held: Held,
}

impl HttpBody for Kept {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::routing::get;
    use axum::{Extension, Router, middleware};
    use tower::Service as _;

    use super::*;

    /// 40 answers that nobody read held 700 MB.
    #[tokio::test]
    async fn answers_that_nobody_reads_are_bounded_for_each_token() {
        const SIZE: u64 = 2 * SMALL_BYTES;
        let unread: &PerToken = Box::leak(Box::new(PerToken::new(4 * SIZE, 2 * SIZE)));
        let page = async |Extension(asker): Extension<Asker>, token: String| {
            asker.is(&token.into());
            vec![b'x'; SIZE as usize]
        };
        let api = Router::new()
            .route("/", get(page))
            .layer(middleware::from_fn(move |request: Request, next: Next| hold_in(unread, request, next)));
        let ask = async |token: &'static str| api.clone().call(Request::new(Body::from(token))).await.unwrap();
        let (first, second) = (ask("shop").await, ask("shop").await);
        assert_eq!((first.status(), first.body().size_hint().exact()), (StatusCode::OK, Some(SIZE)));
        assert_eq!(ask("shop").await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask("other").await.status(), StatusCode::OK, "others have their own part");
        let read = axum::body::to_bytes(first.into_body(), SIZE as usize).await.unwrap();
        assert_eq!(read.len() as u64, SIZE);
        assert_eq!(ask("shop").await.status(), StatusCode::OK, "what is read makes room");
        drop(second);
    }
}
