//! What the host owes Kafka and can never deliver as it is.
//!
//! Each entry is visible with its whole content until a person sends it again,
//! edits it or gives it up. Every such act has an entry in the audit log.

pub mod give_up;
pub mod list;
pub mod repair;
pub mod resend;
pub mod show;
pub mod view;
