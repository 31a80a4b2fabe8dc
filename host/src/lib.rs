#![doc = include_str!("../README.md")]

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
pub mod said;
pub mod shutdown;
pub mod supervise;
pub mod telemetry;

#[doc(hidden)]
pub mod fuzzing;
