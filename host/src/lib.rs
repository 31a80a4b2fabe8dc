#![doc = include_str!("../README.md")]

pub mod config;

pub mod engine;
pub mod group;
pub mod kafka;
pub mod publish;
pub mod store;

pub mod api;
pub mod cli;
pub mod serve;

mod addresses;
pub mod causes;
pub mod clock;
pub mod processors;
pub mod said;
pub mod shutdown;
pub mod supervise;
pub mod tally;
pub mod telemetry;

#[doc(hidden)]
pub mod fuzzing;
