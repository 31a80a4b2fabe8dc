//! Bounds the changes of one token that run at once.
//!
//! The small changes of operators (pause, retry, give up, resend) each take a session
//! of the store for a moment, and hundreds at once would take all of them. A bulk
//! change writes up to 100,000 rows in one transaction: planning and cancelling a
//! redrive, and a seek. Publishing is not counted here, since it is written in
//! batches.

use std::sync::{Arc, LazyLock};

use super::problem::Problem;
use super::request_turns::{MAX_WAIT, RequestKind, RequestTurns};
use crate::turns::Turn;

/// Small changes of one token that run at once.
const MAX_CHANGES_EACH: usize = 5;
/// Bulk changes that run at once, of one token and of all: the store has ten sessions,
/// and every further one slows all sends.
const MAX_BULK_CHANGES_EACH: usize = 1;
const MAX_BULK_CHANGES: usize = 2;

/// The changes of the process.
static CHANGES: LazyLock<RequestTurns> = LazyLock::new(|| {
    let advice = "ask for less at once; a redrive runs many deliveries again in one request";
    RequestTurns::new(RequestKind { plural: "changes", advice }, MAX_CHANGES_EACH, None)
});
static BULK_CHANGES: LazyLock<RequestTurns> = LazyLock::new(|| {
    let advice = "plan redrives, cancel them and seek one after the other";
    RequestTurns::new(RequestKind { plural: "bulk changes", advice }, MAX_BULK_CHANGES_EACH, Some(MAX_BULK_CHANGES))
});

/// Waits until one more small change of a token may run.
///
/// # Errors
/// 429 when the token's other changes did not end in time.
pub async fn begin(token: &Arc<str>) -> Result<Turn, Problem> {
    CHANGES.begin(token, MAX_WAIT).await
}

/// Waits until a bulk change of a token may run. It is asked for after the body was
/// read, so that nobody has a turn of all tokens who sends slowly.
///
/// # Errors
/// 429 when the changes before it did not end in time.
pub async fn begin_bulk(token: &Arc<str>) -> Result<Turn, Problem> {
    BULK_CHANGES.begin(token, MAX_WAIT).await
}
