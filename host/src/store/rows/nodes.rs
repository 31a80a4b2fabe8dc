//! Nodes, the processes behind their names, and the right to write.

use courier_core::message::Timestamp;
use serde::{Deserialize, Serialize};

/// A process's right to write: one incarnation of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WriterId(pub i64);

/// The process behind a node's lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// A random text, new for each start of the process.
    pub incarnation: String,
    /// The machine's boot id; empty where it is unknown.
    pub boot: String,
    /// The process id on that machine.
    pub pid: u32,
    /// When the process started, in the machine's clock ticks. It tells the process from
    /// a later one with the same id.
    pub started: u64,
}

/// The result of joining.
#[derive(Clone, Copy, Debug)]
pub struct Joined {
    /// The writer to settle as.
    pub writer: WriterId,
    /// The present time by the store's clock.
    pub now: Timestamp,
}

/// A node and its lease.
#[derive(Clone, Debug)]
pub struct NodeRow {
    /// The node's name.
    pub name: String,
    /// When its present process joined.
    pub joined_at: Timestamp,
    /// When its lease ends unless it is renewed.
    pub lease_until: Timestamp,
    /// Whether the lease is live by the store's clock.
    pub live: bool,
}
