//! Everything that speaks to Kafka: records in, records out.
//!
//! Nothing here knows of stores, plugins or groups: it is handed records and
//! hands records on. Read [`record`] for what a record is and how it becomes a
//! message; [`source`] and [`partition`] for the way in; [`producer`] for the
//! way out, with [`topics`] for what it must know of topics first; [`lookup`]
//! for questions about logs, and [`topic_watch`] for topics that are created anew.

mod cloudevents;
pub mod embedded;
pub mod hash;
pub(crate) mod header_name;
mod health;
pub mod limits;
pub mod log;
pub mod lookup;
pub mod partition;
pub mod producer;
pub mod record;
pub mod source;
mod topic_id;
pub mod topic_watch;
pub mod topics;

pub use cloudevents::{hops_header, is_attribute, is_hops};
