//! The consumers of a group: one for events, one for broadcasts, and with `each`
//! one more for every address of a pushed service.
//!
//! Each answers what Kafka assigns and revokes, claims the positions in the
//! store, and starts an [`owner`](super::owner) for each partition.

pub mod assignment;
pub mod broadcast;
pub mod claim;
pub mod confirmed;
pub mod each_address;
pub mod event;
mod held_address;
pub mod out_of_range;
pub mod recreated_topics;
