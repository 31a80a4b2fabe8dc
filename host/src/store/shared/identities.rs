//! Identities as they are stored.

use super::text::clean;
use crate::store::{Identity, NewMessage};

/// The identity of a message as it is stored.
pub(in crate::store) fn stored_identity(message: &NewMessage) -> Identity {
    Identity::new(&clean(&message.topic), &clean(&message.source), &clean(&message.id))
}
