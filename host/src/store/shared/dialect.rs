//! What a dialect does for the verbs that both share.

use std::future::Future;
use std::ops::DerefMut;

use async_trait::async_trait;

use super::statement::{SharedRow, Statement};
use crate::store::StoreError;
use crate::store::audits::{AuditEntry, deed};

/// A connection of a dialect that runs shared statements.
#[async_trait]
pub(in crate::store) trait StatementConnection: Send {
    /// Runs a statement and returns its rows.
    async fn rows(&mut self, statement: Statement<'_>) -> Result<Vec<SharedRow>, StoreError>;

    /// Runs a statement and returns how many rows it changed.
    async fn execute(&mut self, statement: Statement<'_>) -> Result<u64, StoreError>;

    /// Appends the audit entry of the verb, if it runs for a person. It is the last
    /// statement of its transaction.
    async fn note(&mut self) -> Result<(), StoreError> {
        self.note_as(|_| ()).await
    }

    /// Does what [`note`](Self::note) does, and lets the transaction complete the entry
    /// with what its caller could not know.
    async fn note_as(&mut self, tell: impl for<'e> FnOnce(&'e mut AuditEntry) + Send) -> Result<(), StoreError> {
        let Some(mut deed) = deed() else { return Ok(()) };
        tell(&mut deed);
        self.append_entry(&deed).await
    }

    /// Appends an entry to the audit log and its chain.
    async fn append_entry(&mut self, deed: &AuditEntry) -> Result<(), StoreError>;

    /// Runs a statement that has one row at most.
    async fn row(&mut self, statement: Statement<'_>) -> Result<Option<SharedRow>, StoreError> {
        Ok(self.rows(statement).await?.into_iter().next())
    }
}

/// A store as the shared verbs see it: every `impl<D: StoreDialect> .. for D` in
/// [`shared`](super) gives its verbs to both dialects.
#[async_trait]
pub(in crate::store) trait StoreDialect: Send + Sync + 'static {
    /// A connection of the dialect.
    type Connection: StatementConnection;
    /// A connection for statements that only read.
    type Reading: DerefMut<Target = Self::Connection> + Send;
    /// A transaction that writes. It rolls back when it is dropped.
    type Writing: DerefMut<Target = Self::Connection> + Send;

    /// Begins a transaction that writes.
    async fn begin_writing(&self) -> Result<Self::Writing, StoreError>;

    /// Begins a transaction that writes for a group, and returns the group's number. A
    /// new name gets one: in the transaction where one connection writes, and before it
    /// where several do, since two hosts that stored the same names in their
    /// transactions would wait for each other.
    async fn begin_for_group(&self, group: &str) -> Result<(Self::Writing, i64), StoreError>;

    /// Commits. The error tells a commit that failed from one whose answer was lost.
    async fn commit_writing(writing: Self::Writing) -> Result<(), StoreError>;

    /// Takes a connection for several statements that only read.
    async fn begin_reading(&self) -> Result<Self::Reading, StoreError>;

    /// Runs a statement that only reads, and returns its rows.
    async fn read(&self, statement: Statement<'_>) -> Result<Vec<SharedRow>, StoreError> {
        self.begin_reading().await?.rows(statement).await
    }

    /// Gives a verb up once it takes longer than a caller may be kept. A dialect
    /// without a network needs no limit.
    fn limited<T: Send>(
        verb: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> impl Future<Output = Result<T, StoreError>> + Send;
}
