//! The outboxes of senders, and their state.

pub mod list;
