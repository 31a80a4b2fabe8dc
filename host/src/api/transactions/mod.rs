//! Operations on transactions: half messages that are sent once their sender commits.
//!
//! A caller sees a transaction only if all of its topics are in scope.

pub mod end;
pub mod list;
pub mod prepare;
pub mod show;
pub mod view;

use super::auth::Caller;
use crate::store::HalfRow;

/// Whether a caller may see a transaction.
fn visible(caller: &Caller, half: &HalfRow) -> bool {
    half.messages.iter().all(|message| caller.sees_topic(&message.topic))
}
