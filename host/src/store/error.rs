//! Errors of the store, by what the caller does next.

use thiserror::Error;

/// An error of the store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The store cannot be reached or asks to try again (a lost connection, a
    /// deadlock, a timeout). The caller waits and repeats the whole verb.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The session leads to a server that takes no writes or is going away: a
    /// primary that became a standby, say. The store opens new sessions by
    /// itself; the caller waits and repeats the whole verb.
    #[error("the store's session is of no use any more: {0}")]
    StaleSession(String),
    /// The store refuses the write for a cause that concerns every row and lasts until a
    /// person mends it: a missing permission or table, a full disk, a read-only file. The
    /// caller keeps what it has, reports it, and tries again at growing intervals.
    #[error("the store refuses to write: {0}")]
    Refused(String),
    /// The answer to a commit was lost. The caller asks the store whether its
    /// writer's sequence moved before it repeats anything.
    #[error("the answer to a commit was lost: {0}")]
    CommitUnknown(String),
    /// The store refuses the data itself. The caller finds the row at fault.
    #[error("the store refuses the data: {0}")]
    Data(String),
    /// Another holder has the right to do this: a newer epoch, another process with this
    /// node's name, a lease that ran out.
    #[error("{0}")]
    Fenced(String),
    /// The thing named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The thing named is not in a state that allows this.
    #[error("{0}")]
    Conflict(String),
    /// A fault of this program: a query that does not fit the schema.
    #[error("store fault: {0}")]
    Bug(String),
}

impl StoreError {
    /// Whether the same call may succeed later by itself.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::StaleSession(_) | Self::CommitUnknown(_))
    }

    /// Whether the same call may succeed later, even if a person has to mend the store
    /// first. The caller must keep what it would have written until then.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.is_transient() || matches!(self, Self::Refused(_))
    }
}
