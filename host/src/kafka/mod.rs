//! Everything that speaks to Kafka: records in, records out.
//!
//! Nothing here knows of stores, plugins or groups: it is handed records and
//! hands records on. Read [`record`] for what a record is and how it becomes a
//! message; [`consumer`] and [`buffered`] for the way in; [`producer`] for the
//! way out, with [`topics`] for what it must know of topics first; [`log_reader`]
//! for questions about logs, and [`topic_watch`] for topics that are created anew.

pub mod buffered;
pub mod client_log;
mod cloudevents;
pub mod consumer;
pub mod embedded;
pub(crate) mod header_name;
pub mod limits;
pub mod log_reader;
pub mod partitioner;
pub mod producer;
pub mod record;
mod stale_client;
mod topic_id;
pub mod topic_watch;
pub mod topics;

pub use cloudevents::{hops_header, is_attribute, is_hops, names_whole_events};
