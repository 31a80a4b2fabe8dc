//! Nodes, the processes behind their names, and the right to write.

use courier_core::message::Timestamp;
use serde::{Deserialize, Serialize};

/// A process's right to write: one incarnation of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WriterId(pub i64);

/// The process behind a node's lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Random, new for each start of the process.
    pub incarnation: String,
    /// The machine's boot id, or empty where none can be had.
    pub boot: String,
    /// Process id on that machine.
    pub pid: u32,
    /// When the process started, in the machine's own clock ticks, so that a
    /// reused process id is not taken for it.
    pub started: u64,
}

/// What a process gets by joining.
#[derive(Clone, Copy, Debug)]
pub struct Joined {
    /// The writer to settle as.
    pub writer: WriterId,
    /// The store's clock.
    pub now: Timestamp,
}

/// A node and its lease.
#[derive(Clone, Debug)]
pub struct NodeRow {
    /// The node's name.
    pub name: String,
    /// When this incarnation joined.
    pub joined_at: Timestamp,
    /// Its lease ends here unless it is renewed.
    pub lease_until: Timestamp,
    /// Whether the lease is still good by the store's clock.
    pub live: bool,
}
