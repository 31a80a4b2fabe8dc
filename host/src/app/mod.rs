//! The use cases: what the operations of the API have the host do, one a file.
//!
//! A use case works with the store, Kafka, the engine and the two sides that consume
//! and publish, and speaks no HTTP; `server/` makes it from its parts and hands it to
//! the API.

pub mod binding_view;
pub mod config_standing;
pub mod groups;
pub mod import_rules;
pub mod kafka_status;
pub mod readiness;
pub mod readiness_report;
pub mod seek;
pub mod store_probe;
pub mod upload_plugin;
