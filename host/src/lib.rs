#![doc = include_str!("../README.md")]

pub mod config;

pub mod kafka;
pub mod group;
pub mod engine;
pub mod store;
pub mod publish;

pub mod api;
pub mod serve;
pub mod cli;

pub mod clock;
pub mod shutdown;
pub mod telemetry;
