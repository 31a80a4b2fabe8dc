//! Sessions of people who signed in with a browser.
//!
//! The store has only the hash of the cookie that the browser holds, and a second hash
//! that binds the session to the secret of its token. A reader of the database cannot
//! sign in with either of them. All hosts share the sessions.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;

use super::StoreError;

/// Sessions of one token that last at once. A further one ends the oldest, so that
/// nobody fills the store by signing in.
pub const MAX_SESSIONS_EACH: u32 = 100;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The name of the token that it was opened with.
    pub token: String,
    /// The hash that binds it to that token's secret.
    pub bound: Bytes,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Opens and closes sessions, for the API.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Opens a session for `lifetime`, and ends the token's oldest ones past
    /// [`MAX_SESSIONS_EACH`].
    async fn open_session(
        &self,
        hash: &[u8; 32],
        token: &str,
        bound: &[u8; 32],
        lifetime: Duration,
    ) -> Result<(), StoreError>;

    /// Reads the session of this hash, unless it has ended.
    async fn session(&self, hash: &[u8; 32]) -> Result<Option<SessionRow>, StoreError>;

    /// Ends a session, and returns false when there was none.
    async fn close_session(&self, hash: &[u8; 32]) -> Result<bool, StoreError>;
}
