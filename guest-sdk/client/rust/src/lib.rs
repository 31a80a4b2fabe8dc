#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! [`Publisher`] is what a service holds; [`Draft`] is a message that it is
//! about to send, [`Receipt`] what it is told, [`PublishError`] what it can do
//! when that fails; [`MessageView`] is what became of a message. `http` asks a host, `outbox` writes rows.

mod draft;
mod error;
mod http;
#[cfg(any(feature = "postgres", feature = "sqlite", test))]
mod outbox;
mod publisher;
mod receipt;
mod view;

pub use courier_sdk::{Event, Key};
pub use draft::Draft;
pub use error::PublishError;
#[cfg(any(feature = "postgres", feature = "sqlite", test))]
pub use outbox::OutboxConnection;
pub use publisher::Publisher;
pub use receipt::{Receipt, State};
pub use view::{Attempt, Delivery, MessageView, PlaceView, Which};
