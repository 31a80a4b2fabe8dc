//! What senders use: publish, and ask what became of it.
//!
//! Publishing comes in four forms: this API's own JSON ([`json`]) and the
//! three of CloudEvents ([`cloudevents`]). All become drafts for the send side.

pub mod audience;
pub mod cancel;
pub mod cloudevents;
pub mod delayed;
mod filter;
pub mod form;
pub mod json;
pub mod list;
pub mod publish;
pub mod resend;
pub mod show;
pub mod view;
mod which;
