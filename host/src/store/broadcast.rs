//! Listeners of broadcasts: which nodes handle the broadcasts of a topic.
//!
//! A listener is a (group, topic, node). If the binding says `each`, an address of a
//! pushed service takes the place of the node, see
//! [`address_leases`](super::address_leases). A listener's positions are rows beside
//! those of the group with the node in their key, so that claims, settles and epochs
//! work alike for both. A listener is expected to handle every broadcast from the
//! offset at which it began, until it ends: its node was away for too long, or no
//! longer has the binding.

use std::time::Duration;

use async_trait::async_trait;
use courier_core::message::{Offset, Timestamp};

use super::StoreError;

/// A node that registers as a listener.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The group whose handler gets the broadcasts.
    pub group: String,
    /// The topic that senders broadcast on.
    pub topic: String,
    pub node: String,
    /// How long the node may be away before its listener ends.
    pub forget: Duration,
    /// Whether a node that comes back after that handles what it missed.
    pub catch_up: bool,
    /// Kafka's id of the companion topic; empty when it cannot be had.
    pub topic_id: String,
    /// The partitions of the companion topic; empty while it does not exist.
    pub partitions: Vec<Extent>,
}

/// A partition of a log and the offsets that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub partition: i32,
    /// The first offset.
    pub low: Offset,
    /// The one after the last.
    pub high: Offset,
}

/// What a registration found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// Whether the listener is new, or had ended.
    pub begun: bool,
    /// The ranges that the listener missed while it had ended and does not catch up
    /// with: the partition, the first offset missed, the first one not missed.
    pub missed: Vec<(i32, Offset, Offset)>,
}

/// A listener as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerRow {
    pub group: String,
    pub topic: String,
    pub node: String,
    /// Whether the node's lease is live.
    pub live: bool,
    /// When it first listened.
    pub registered_at: Timestamp,
    /// When its node was last seen listening.
    pub seen_at: Timestamp,
    /// When the listener ended, and why.
    pub gone: Option<(Timestamp, String)>,
}

/// A broadcast that no listener existed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnheardRow {
    pub id: String,
    /// The topic that it was sent on.
    pub topic: String,
    /// When the host accepted it.
    pub created_at: Timestamp,
}

/// Why a listener ended whose node was away for too long.
pub const AWAY_TOO_LONG: &str = "the listener was away longer than broadcast_forget";
/// Why a listener ended whose node no longer has the binding.
pub const NOT_BOUND: &str = "the node no longer has a binding for these broadcasts";
/// The reason of a broadcast that no listener existed for.
pub const UNHEARD: &str = "no node was there to hear this broadcast";

/// A listener's `seen_at` is written again once this fraction of its `forget` has
/// passed, or [`SEEN_EVERY`] if that is sooner. Writing it at every poll would cost an
/// idle host a commit for each of its groups.
pub const SEEN_PARTS: i64 = 20;
/// The longest time between two writes of `seen_at`, see [`SEEN_PARTS`].
pub const SEEN_EVERY: Duration = Duration::from_secs(60);

/// Registers and ends listeners: `consume/consumer/` and `server/` keep those of this
/// node, and the API lists all of them.
#[async_trait]
pub trait ListenerStore {
    /// Registers a node as a listener, or finds that it is one.
    ///
    /// A new listener begins at the end of each partition that exists. A registered
    /// one goes on at its position; a partition without a position was added since,
    /// and begins at its first offset. A listener that had ended goes on at its
    /// position if it catches up. Otherwise the range that it missed is recorded as
    /// lost, and it begins at the end again.
    async fn listen(&self, wish: &Listen) -> Result<Listening, StoreError>;

    /// Records that the listeners of a group on `node` are alive, and returns the topics
    /// whose listeners have ended. Most calls write nothing, see [`SEEN_PARTS`].
    async fn still_listening(&self, group: &str, node: &str) -> Result<Vec<String>, StoreError>;

    /// Ends the listeners of `node` except for these (group, topic), and returns those
    /// that it ended.
    async fn listen_only(&self, node: &str, keep: &[(String, String)]) -> Result<Vec<ListenerRow>, StoreError>;

    /// Ends the listeners whose nodes were away for too long, and returns them. The open
    /// deliveries of a listener that ends become HANDLE_FAIL for good, with the reason.
    async fn forget_listeners(&self) -> Result<Vec<ListenerRow>, StoreError>;

    /// Lists all listeners, by group, topic and node.
    async fn listeners(&self) -> Result<Vec<ListenerRow>, StoreError>;

    /// Examines broadcasts that are new on Kafka, each once and at most `limit`. Those
    /// that no listener existed for get [`UNHEARD`] as their reason, and their ids and
    /// topics are returned.
    async fn judge_broadcasts(&self, limit: u32) -> Result<Vec<(String, String)>, StoreError>;

    /// Lists the broadcasts of `topics` (`None` for all) that no listener existed for and
    /// that were sent at or after `since`, newest first, at most `limit`.
    async fn unheard(
        &self,
        since: Timestamp,
        topics: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<UnheardRow>, StoreError>;
}
