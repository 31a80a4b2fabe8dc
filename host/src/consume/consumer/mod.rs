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
mod question;
pub mod recreated_topics;

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

/// An interval that does not make up for missed ticks.
fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
