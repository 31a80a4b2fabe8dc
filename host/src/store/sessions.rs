//! Sessions of people who signed in with a browser.
//!
//! The store has only the hash of what the browser holds, and a second hash
//! that binds the session to the secret of its token: neither tells a reader
//! of the database anything that opens a door. All hosts share the sessions.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;

use super::StoreError;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The name of the token that it was opened with.
    pub token: String,
    /// Binds it to that token's secret.
    pub bound: Bytes,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// The verbs of sessions.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Opens a session for `lifetime`.
    async fn open_session(
        &self,
        hash: &[u8; 32],
        token: &str,
        bound: &[u8; 32],
        lifetime: Duration,
    ) -> Result<(), StoreError>;

    /// The session of this hash, unless it has ended.
    async fn session(&self, hash: &[u8; 32]) -> Result<Option<SessionRow>, StoreError>;

    /// Ends a session; false when there was none.
    async fn close_session(&self, hash: &[u8; 32]) -> Result<bool, StoreError>;
}
