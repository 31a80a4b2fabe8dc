//! The pool, and what every verb needs of it: a transaction, a commit that says
//! what became of it, and a limit.

use std::future::Future;
use std::time::Duration;

use sqlx::Transaction;
use sqlx::postgres::{PgPool, Postgres};

use super::error::{at_commit, at_statement};
use super::stale;
use super::words::PostgresWords;
use crate::store::StoreError;

/// No verb on a message's way keeps its caller longer. It is longer than the
/// server lets one wait for a lock (see [`connect`](super::connect)), and nothing
/// else in such a verb takes more than a moment.
const PROMPT_LIMIT: Duration = Duration::from_secs(10);

/// No other verb keeps its caller longer. It is longer than the server's own
/// limits, which come first unless the network is at fault.
const VERB_LIMIT: Duration = Duration::from_secs(30);

/// Rows of a table that one page of a list reads at most when no index leads
/// to what it wants.
pub(super) const SLICE_ROWS: i64 = 20_000;

/// A database that several hosts share.
pub struct PostgresStore {
    pub(super) pool: PgPool,
    /// Nodes and versions by the numbers that rows hold.
    pub(super) words: PostgresWords,
    /// Groups by the numbers that rows hold.
    pub(super) groups: PostgresWords,
}

impl PostgresStore {
    /// The store in a database whose migrations have run.
    pub(super) fn of(pool: PgPool) -> Self {
        Self { pool, words: PostgresWords::of_words(), groups: PostgresWords::of_groups() }
    }

    /// Begins a transaction.
    pub(super) async fn begin_tx(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.pool.begin().await.map_err(at_statement)
    }
}

/// Commits, and tells a commit that failed from one whose answer was lost.
pub(super) async fn commit(tx: Transaction<'_, Postgres>) -> Result<(), StoreError> {
    tx.commit().await.map_err(at_commit)
}

/// Bounds a verb whose work may be long.
pub(super) async fn bounded<T>(verb: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(VERB_LIMIT, verb).await
}

/// Bounds a verb on a message's way.
pub(super) async fn prompt<T>(verb: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(PROMPT_LIMIT, verb).await
}

/// Gives a verb up at its limit. What it had begun may still commit.
async fn within<T>(limit: Duration, verb: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, verb).await {
        Ok(result) => result,
        Err(_) => {
            // The server may be gone without a word: what waits for it in the
            // pool would wait as long.
            stale::mark();
            Err(StoreError::CommitUnknown(format!("no answer within {} s", limit.as_secs())))
        }
    }
}

/// A `Duration` in the unit of the tables.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}
