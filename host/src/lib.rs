#![doc = include_str!("../README.md")]
// Nothing of this crate is published: a comment says what a name cannot, or is
// left out.
#![allow(missing_docs)]

pub mod app;
pub mod config;
pub mod consume;
pub mod server;
pub mod stats;

pub mod engine;
pub mod kafka;
pub mod publish;
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "SQLite's clock is this machine's, the store draws its own keys, and its locks are the standard library's"
)]
pub mod store;

pub mod api;
pub mod cli;

mod addresses;
pub mod causes;
pub mod clock;
pub mod http_client;
mod random;
pub mod rfc3339;
pub mod said;
pub mod shutdown;
pub mod supervise;
pub mod telemetry;
mod turns;

#[doc(hidden)]
pub mod fuzzing;
