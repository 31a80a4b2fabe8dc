//! The pool, and what every verb needs: a transaction, a commit that says what became of
//! it, and a limit of time.

use std::future::Future;
use std::time::Duration;

use sqlx::Transaction;
use sqlx::postgres::{PgPool, Postgres};

use super::error::{at_commit, at_statement};
use super::stale;
use super::words::PostgresWords;
use crate::store::StoreError;

/// The limit of a verb on the path of a message. It is longer than the server's
/// `lock_timeout` (see [`server`](super::server)), and nothing else in such a verb takes
/// more than a moment.
const PROMPT_LIMIT: Duration = Duration::from_secs(10);

/// The limit of any other verb. It is longer than the server's own limits, which end a
/// statement first unless the network is at fault.
const VERB_LIMIT: Duration = Duration::from_secs(30);

/// Most rows of a table that one page of a list reads when no index finds its rows.
pub(super) const SLICE_ROWS: i64 = 20_000;

/// A database that several hosts share.
pub struct PostgresStore {
    pub(super) pool: PgPool,
    /// The numbers of nodes and versions, which stand in rows.
    pub(super) words: PostgresWords,
    /// The numbers of groups, which stand in rows.
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

/// Commits. The error tells a commit that failed from one whose answer was lost.
pub(super) async fn commit(tx: Transaction<'_, Postgres>) -> Result<(), StoreError> {
    tx.commit().await.map_err(at_commit)
}

/// Limits a verb whose work may take long.
pub(super) async fn bounded<T>(verb: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(VERB_LIMIT, verb).await
}

/// Limits a verb on the path of a message.
pub(super) async fn prompt<T>(verb: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(PROMPT_LIMIT, verb).await
}

/// Gives a verb up at its limit. Its transaction may still commit.
async fn within<T>(limit: Duration, verb: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, verb).await {
        Ok(result) => result,
        Err(_) => {
            // The server may have vanished, and any other session of the pool would wait
            // for it as long.
            stale::mark();
            Err(StoreError::CommitUnknown(format!("no answer within {} s", limit.as_secs())))
        }
    }
}

/// A `Duration` in microseconds, the unit of the tables, far enough below the largest
/// number that a time can be added.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}
