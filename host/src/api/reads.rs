//! Bounds the reads of one token that run at once.
//!
//! A list may scan thousands of rows, and the store has few sessions. Without a
//! bound the reads of one token occupy all of them, and the sends and lists of every
//! other token wait for them.

use std::sync::{Arc, LazyLock};

use super::problem::Problem;
use super::request_turns::{MAX_WAIT, RequestKind, RequestTurns};
use crate::turns::Turn;

/// Reads of one token that run at once: half of the store's sessions.
const MAX_READS_EACH: usize = 5;

/// The reads of the process.
static READS: LazyLock<RequestTurns> = LazyLock::new(|| {
    let advice = "ask for less at once, or for narrower time windows";
    RequestTurns::new(RequestKind { plural: "reads", advice }, MAX_READS_EACH, None)
});

/// Waits until one more read of a token may run.
///
/// # Errors
/// 429 when the token's other reads did not end in time.
pub async fn begin(token: &Arc<str>) -> Result<Turn, Problem> {
    READS.begin(token, MAX_WAIT).await
}
