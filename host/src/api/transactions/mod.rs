//! Transactions: half messages that wait for the word of their sender.
//!
//! Whoever may not see one of a transaction's topics sees nothing of it.

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
