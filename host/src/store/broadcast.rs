//! Broadcasts: which nodes listen, and what became of those that went away.
//!
//! A listener is a (group, topic, node), where an address of a pushed service
//! ([`address_leases`](super::address_leases)) takes the place of the node if
//! the binding says `each`. Its positions lie beside those of the
//! group and have the node in their key, so that claims, settles and epochs
//! are the same for both. It is expected to handle every broadcast from the
//! offset at which it began to listen, until it is gone: because its node was
//! away for too long, or because the node no longer has the binding.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::{Offset, Timestamp};

use super::StoreError;

/// A node that wants to hear the broadcasts of a topic.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The group whose handler hears them.
    pub group: String,
    /// The topic that senders broadcast on.
    pub topic: String,
    pub node: String,
    /// Away longer than this it is no longer expected.
    pub forget: Duration,
    /// Whether it handles what it missed when it comes back after that.
    pub catch_up: bool,
    /// Kafka's id of the companion topic; empty when it cannot be had.
    pub topic_id: String,
    /// The partitions of the companion; none while it does not exist.
    pub partitions: Vec<Extent>,
}

/// A partition of a log, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub partition: i32,
    /// The first offset that is there.
    pub low: Offset,
    /// The one after the last.
    pub high: Offset,
}

/// What a node is told that begins to listen, or goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// It is new, or was no longer expected.
    pub begun: bool,
    /// What passed by while it was not expected and is not caught up with: the
    /// partition, the first offset missed, the first one not missed.
    pub missed: Vec<(i32, Offset, Offset)>,
}

/// A listener as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerRow {
    pub group: String,
    pub topic: String,
    pub node: String,
    /// Whether the node's lease is good.
    pub live: bool,
    /// When it first listened.
    pub registered_at: Timestamp,
    /// When it was last there.
    pub seen_at: Timestamp,
    /// Since when it is no longer expected, and why.
    pub gone: Option<(Timestamp, String)>,
}

/// A broadcast that no node was there for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnheardRow {
    pub id: String,
    /// The topic that it was sent on.
    pub topic: String,
    /// When the host took it.
    pub created_at: Timestamp,
}

/// Why a listener is no longer expected when nobody says another reason.
pub const AWAY_TOO_LONG: &str = "the listener was away longer than broadcast_forget";
/// Why it is none any more when its node has no such binding.
pub const NOT_BOUND: &str = "the node no longer has a binding for these broadcasts";
/// What is said of a broadcast that no node was there for.
pub const UNHEARD: &str = "no node was there to hear this broadcast";

/// That a listener is there is written down again when this part of its
/// `forget` has passed since, and at most so late: a node that goes away seems
/// to have gone that much earlier. Writing at each look would cost an idle host a
/// commit for each of its groups.
pub const SEEN_PARTS: i64 = 20;
/// See [`SEEN_PARTS`].
pub const SEEN_EVERY: Duration = Duration::from_secs(60);

/// The verbs that concern broadcasts.
#[async_trait]
pub trait ListenerStore {
    /// Makes a node a listener, or finds that it is one.
    ///
    /// A new one begins at the end of each partition that exists. One that is
    /// there goes on where it was; a partition in which it has no position
    /// appeared since, and begins at its beginning. One that was no longer
    /// expected goes on where it was if it catches up; else what passed by is
    /// recorded as a lost range, and it begins at the end again.
    async fn listen(&self, wish: &Listen) -> Result<Listening, StoreError>;

    /// Says that the listeners of a group on `node` are there; answers the
    /// topics for which they are not expected any more. It is written down once
    /// in a while only ([`SEEN_EVERY`], [`SEEN_PARTS`]).
    async fn still_listening(&self, group: &str, node: &str) -> Result<Vec<String>, StoreError>;

    /// Ends the listeners of `node` but for these (group, topic); answers
    /// those that it ended.
    async fn listen_only(&self, node: &str, keep: &[(String, String)]) -> Result<Vec<ListenerRow>, StoreError>;

    /// Ends the listeners that were away for too long; answers them. What lay
    /// open for a listener that ends is finally HANDLE_FAIL and says why.
    async fn forget_listeners(&self) -> Result<Vec<ListenerRow>, StoreError>;

    /// All listeners, by group, topic and node.
    async fn listeners(&self) -> Result<Vec<ListenerRow>, StoreError>;

    /// Looks at broadcasts that are new on Kafka, at most `limit`: those that
    /// no listener was there for get [`UNHEARD`] as their reason. Each is
    /// looked at once; answers the ids and topics of those.
    async fn judge_broadcasts(&self, limit: u32) -> Result<Vec<(String, String)>, StoreError>;

    /// Broadcasts of `topics` (`None` for all) that no listener was there for,
    /// sent at or after `since`, newest first, at most `limit`.
    async fn unheard(
        &self,
        since: Timestamp,
        topics: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<UnheardRow>, StoreError>;
}
