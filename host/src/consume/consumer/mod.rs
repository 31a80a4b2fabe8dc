//! The two consumers of a group: one for events, and one for broadcasts.
//!
//! Each answers what Kafka assigns and revokes, claims the positions in the
//! store, and starts an [`owner`](super::owner) for each partition.

pub mod assignment;
pub mod broadcast;
pub mod claim;
pub mod confirmed;
pub mod event;
pub mod out_of_range;
pub mod recreated_topics;
