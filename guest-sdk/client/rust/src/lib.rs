#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! [`Publisher`] is what a service holds; [`Draft`] is a message that it is
//! about to send, [`Receipt`] what it is told, [`PublishError`] what it can do
//! when that fails. `http` asks a host, `outbox` writes rows.

mod draft;
mod error;
mod http;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod outbox;
mod publisher;
mod receipt;

pub use courier_sdk::{Event, Key};
pub use draft::Draft;
pub use error::PublishError;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use outbox::OutboxConnection;
pub use publisher::Publisher;
pub use receipt::{Receipt, State};
