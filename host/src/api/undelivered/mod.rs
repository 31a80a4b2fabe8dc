//! Operations on undelivered messages, which Kafka refuses as they are.
//!
//! Each entry keeps its whole content until a person resends it, repairs it or gives
//! it up. Each of these has an entry in the audit log.

pub mod give_up;
pub mod list;
pub mod repair;
pub mod resend;
pub mod show;
pub mod view;
