#![doc = include_str!("../README.md")]
// Nothing of this crate is published: a comment says what a name cannot, or is
// left out.
#![allow(missing_docs)]

pub mod config;
pub mod consume;
pub mod server;
pub mod stats;

pub mod engine;
pub mod kafka;
pub mod publish;
pub mod store;

pub mod api;
pub mod cli;

mod addresses;
pub mod causes;
pub mod clock;
pub mod http_client;
pub mod said;
pub mod shutdown;
pub mod supervise;
pub mod telemetry;

#[doc(hidden)]
pub mod fuzzing;
