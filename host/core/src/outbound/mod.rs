//! The rules of the way out: how rows that the host owes reach Kafka.
//!
//! [`Shard`] is a machine without I/O for the rows of one relay shard: `step`
//! takes an [`ShardEvent`] and answers [`ShardAction`]s. The relay carries them out, and
//! the simulation of this folder drives the very same `step`.
//!
//! Invariants:
//! - A row ends in one of two ways: acknowledged by Kafka at a real offset, or
//!   kept as undelivered with its content. Everything else waits. No row ends
//!   by a count of tries.
//! - A row is produced only after its partition is stored, and a partition is
//!   of one topic id: a topic made anew, or with fewer partitions, has it
//!   chosen anew.
//! - Rows of one topic and key end in the order of their ids. A row that waits
//!   holds back what is behind it; an undelivered one holds back nothing.
//! - A row of unknown fate is looked for before it is sent again.
//! - Nothing is handed to Kafka once the lease has run out.
//!
//! [`window`] bounds what the Kafka client has of one partition at once.

pub mod shard;
#[cfg(test)]
mod simulation;
pub mod window;

pub use shard::{
    Choice, Fate, Retry, Row, RowEnd, RowId, Shard, ShardAction, ShardEvent, TopicAnswer, TopicId, Undeliverable,
};
