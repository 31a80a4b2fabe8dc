//! How the rows that the host owes to Kafka are sent.
//!
//! [`Shard`] is a machine without I/O for rows of one relay shard that are sent in
//! one pass: [`Shard::step`] takes a [`ShardEvent`] and returns [`ShardAction`]s. The
//! relay carries them out, and the simulation of this folder drives the same
//! code.
//!
//! Invariants:
//! - A row ends in one of two ways: acknowledged by Kafka at a real offset, or
//!   kept as undelivered with its content. Everything else waits. No row ends
//!   by a count of tries.
//! - A row is produced only after its partition is stored together with the
//!   topic id that it was chosen in. When the topic was made anew or has fewer
//!   partitions, the partition is chosen again.
//! - Rows of one topic and key end in the order of their ids. A waiting row
//!   holds back the rows behind it; an undelivered row holds back none.
//! - A row of unknown fate is looked for before it is sent again.
//! - Nothing is handed to Kafka once the lease has run out.
//!
//! [`window`] bounds what the Kafka client has of one partition at once.

pub mod row;
pub mod shard;
#[cfg(test)]
mod simulation;
pub mod window;

pub use row::{Choice, Fate, Retry, Row, RowEnd, RowId, TopicAnswer, TopicId, Undeliverable};
pub use shard::{Shard, ShardAction, ShardEvent};
