//! The outboxes of senders: where they stand.

pub mod list;
