//! Courier.

pub mod engine;
