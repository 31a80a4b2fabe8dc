//! Courier.

pub mod cli;
pub mod config;
pub mod serve;
