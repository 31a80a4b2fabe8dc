//! What can go wrong, by what the sender can do.

use thiserror::Error;

use crate::Draft;

/// Why a message was not published.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The message or what was said of it is wrong: correct it. Nothing was
    /// sent.
    #[error("the message is not valid: {why}")]
    Invalid {
        /// Its id, if it has one.
        id: Option<String>,
        /// What is wrong.
        why: String,
    },
    /// The host refuses it, as it would each time: correct the message, its
    /// id, or the token. Nothing was sent.
    #[error("the host refuses the message ({status}): {why}")]
    Refused {
        /// The message's id, if the answer is about one message.
        id: Option<String>,
        /// The status of HTTP; 409 means that its id is taken by another one.
        status: u16,
        /// Why, and what would be right.
        why: String,
    },
    /// No host took it for certain within the publisher's time. It may have
    /// been taken, since an answer can be lost: send `draft` again with
    /// [`Publisher::send`](crate::Publisher::send), which cannot double it.
    #[error("gave up on message {} after {tries} tries: {why}", draft.id())]
    GaveUp {
        /// The message, with its id.
        draft: Box<Draft>,
        /// How often it was tried.
        tries: u32,
        /// The last reason.
        why: String,
    },
    /// No host answered in time what became of a message, or whether it was
    /// cancelled: ask again.
    #[error("no answer about message {id} after {tries} tries: {why}")]
    NoAnswer {
        /// The message's id.
        id: String,
        /// How often it was tried.
        tries: u32,
        /// The last reason.
        why: String,
    },
    /// The row could not be written into the outbox. The transaction is the
    /// sender's to roll back.
    #[cfg(any(feature = "postgres", feature = "sqlite", test))]
    #[error("the outbox row was not written: {0}")]
    Outbox(#[from] sqlx::Error),
}

impl PublishError {
    /// Whether the same message may be taken later, without a change.
    pub fn can_retry(&self) -> bool {
        matches!(self, Self::GaveUp { .. } | Self::NoAnswer { .. })
    }
}
