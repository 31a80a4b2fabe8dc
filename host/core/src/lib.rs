//! The rules of Courier, without I/O and without a clock.
//!
//! Time and chance are arguments here, so that a schedule of events always has
//! the same result: the host runs this code, and so does the simulation that
//! looks for schedules which lose, double or reorder a delivery.
//!
//! Read [`message`] for the terms, [`status`] and [`verdict`] for what may
//! become of a delivery, [`retry`] for when it runs again, and then
//! [`partition`], the machine that owns one partition, with its parts
//! [`lanes`] (order) and [`offsets`] (which offsets are finished).
//! [`offset_runs`] is the set of handled offsets of which a group keeps no
//! rows. [`retention`] says which parked records Kafka is about to remove.
//! [`outbound`] is the machine that sends the rows owed to Kafka.

pub mod lanes;
pub mod message;
pub mod offset_runs;
pub mod offsets;
pub mod outbound;
pub mod partition;
pub mod retention;
pub mod retry;
pub mod status;
pub mod verdict;

#[cfg(test)]
mod simulation;
