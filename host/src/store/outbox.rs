//! Outboxes of senders, as far as the store has part in them.
//!
//! The rows themselves are in the senders' databases. Here is the door through
//! which one host at a time takes them in, and what is told of each outbox.

use async_trait::async_trait;
use courier_core::message::Timestamp;
use courier_core::status::State;

use super::{Accepted, Identity, NewMessage, StoreError};

/// What the host that relays an outbox says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxNote {
    /// The outbox's name in the TOML.
    pub name: String,
    /// The node that relays it.
    pub node: String,
    /// Why nothing is relayed now; none while all is well.
    pub why: Option<String>,
    /// Rows in its table; none while that is unknown.
    pub pending: Option<i64>,
    /// When the oldest of them was written.
    pub oldest_at: Option<Timestamp>,
    /// Rows that went to Kafka since the last note.
    pub relayed: i64,
    /// Rows that were finally refused since the last note.
    pub refused: i64,
}

/// What is known of an outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its name in the TOML.
    pub name: String,
    /// The node that relays it, or did last.
    pub node: String,
    /// The relay shard whose holder relays it.
    pub shard: i32,
    /// Why nothing is relayed now; none while all is well.
    pub why: Option<String>,
    /// Rows in its table; none while that is unknown.
    pub pending: Option<i64>,
    /// When the oldest of them was written.
    pub oldest_at: Option<Timestamp>,
    /// Rows that went to Kafka, about: a note is lost when its host is killed.
    pub relayed: i64,
    /// Rows that were finally refused, about.
    pub refused: i64,
    /// When this was noted.
    pub noted_at: Timestamp,
}

/// The verbs for outboxes.
#[async_trait]
pub trait Outboxes {
    /// Takes rows of an outbox in, as [`Store::accept`](super::Store::accept)
    /// does, if the lease on `shard` still has its epoch; else `Fenced`, and
    /// nothing is written. So the rows of an outbox enter in one order, even
    /// if a host that lost the lease does not know it yet.
    async fn take_outbox(&self, shard: (i32, i64), messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError>;

    /// The state of each message that is COMMITTED or finally SEND_FAIL, none
    /// of one that is under way. One that retention removed was COMMITTED.
    async fn ended(&self, messages: &[Identity]) -> Result<Vec<Option<State>>, StoreError>;

    /// Writes what is to be told of an outbox; `Fenced` as above.
    async fn note_outbox(&self, shard: (i32, i64), note: &OutboxNote) -> Result<(), StoreError>;

    /// What is known of the outboxes, by name.
    async fn outboxes(&self) -> Result<Vec<OutboxRow>, StoreError>;
}
