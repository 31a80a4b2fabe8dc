//! Operations on messages: publish, list, show, resend and cancel.
//!
//! A request to publish has one of four forms: this API's own JSON ([`json`]) or one
//! of three forms of CloudEvents ([`cloudevents`]). All become drafts for the send
//! side.

pub mod audience;
pub mod cancel;
pub mod cloudevents;
pub mod delayed;
pub mod fields;
mod filter;
pub mod form;
pub mod json;
pub mod list;
pub mod publish;
pub mod resend;
pub mod show;
mod unhandled;
pub mod view;
mod which;
