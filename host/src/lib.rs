//! Courier.

pub mod config;
