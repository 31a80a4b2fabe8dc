#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! Read in this order: [`Event`] is a type of message, [`Context`] has the calls
//! of a handler, and [`Failure`] ends an attempt. `run` reads the message and
//! calls the handler; `wire` binds the contract in `wit/v2/` and exists in a
//! component only, as `testing` exists outside of one only. `about` is the
//! description that a component carries.

// The macros write `::courier_sdk`, also when they are used in this crate.
extern crate self as courier_sdk;

#[doc(hidden)]
pub mod about;
mod context;
mod event;
mod failure;
pub mod http;
mod message;
#[doc(hidden)]
pub mod run;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod wire;
#[cfg(target_arch = "wasm32")]
mod wire_http;

pub use context::{Context, Level};
pub use courier_sdk_macros::{Event, batch_handler, handler};
pub use event::{Event, Input, Key};
pub use failure::{Failure, Refusal};
pub use http::{BodyBounds, HttpError, HttpRequest, HttpResponse};
pub use message::{Attempt, Header, Kind, Message, Outgoing};
pub use run::Item;
