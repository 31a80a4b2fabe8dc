//! Messages that wait until they are due.
//!
//! A delayed message has its row among the messages at once, COMMITTED and
//! without a place, and its record in a row of its own. When that is due by
//! the store's clock it becomes an outbound row, in one transaction and under
//! the epoch of its shard; from there on it goes the one way out. Cancelling
//! takes the same row away, so that of the two exactly one happens.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;
use courier_core::status::State;

use super::{Identity, Listing, MessageRow, Page, StoreError};

/// Rows that one move takes at most.
pub const MOVE_ROWS: u32 = 1_000;
/// Rows of one shard that one move takes at most: what is due is found shard
/// by shard, so that a million that wait cost no more than a thousand.
pub const MOVE_SHARD_ROWS: u32 = 64;
/// What the reason of a cancelled message is.
pub const CANCELLED: &str = "cancelled";

/// When a message is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At this time.
    At(Timestamp),
    /// This long after the store takes it, by the store's own clock.
    After(Duration),
}

/// What a move found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Rows that are the relay's now.
    pub rows: u32,
    /// How long until the next row is due, by the store's clock; zero when one
    /// is, none when none waits.
    pub next: Option<Duration>,
}

/// Which delayed messages.
#[derive(Clone, Debug, Default)]
pub struct DelayedFilter {
    /// Of this topic.
    pub topic: Option<String>,
    /// Of one of these topics (what a token may see).
    pub topics: Option<Vec<String>>,
    /// Of this type.
    pub type_name: Option<String>,
    /// With this raw key.
    pub key: Option<Bytes>,
    /// Due at or after.
    pub from: Option<Timestamp>,
    /// Due before.
    pub to: Option<Timestamp>,
}

/// The verbs of delayed messages. They come in by [`super::AcceptStore::accept`].
#[async_trait]
pub trait DelayedStore: Send + Sync + 'static {
    /// How long until the first row of these shards is due, by the store's
    /// clock; zero when one is, none when none waits. Writes nothing.
    async fn next_due(&self, shards: &[(i32, i64)]) -> Result<Option<Duration>, StoreError>;

    /// Makes outbound rows of what is due in these shards, at most
    /// [`MOVE_ROWS`] and in the order in which it is due. Shards whose epoch
    /// moved on are left alone. `away` says that Kafka is known to be away,
    /// and why: the messages are SEND_FAIL then, and retrying.
    async fn move_due(&self, shards: &[(i32, i64)], away: Option<&str>) -> Result<Moved, StoreError>;

    /// Takes a message back that has not gone out yet: SEND_FAIL, with the
    /// reason [`CANCELLED`]. Again, it answers the same. `Conflict` says what
    /// became of one that cannot be cancelled any more, `NotFound` names one
    /// that is not known.
    async fn cancel(&self, message: &Identity) -> Result<MessageRow, StoreError>;

    /// Delayed messages that wait, the one that is due first first.
    async fn delayed(&self, filter: &DelayedFilter, page: &Page) -> Result<Listing<MessageRow>, StoreError>;
}

/// Whether a message was taken back before it was due.
#[must_use]
pub fn is_cancelled(row: &MessageRow) -> bool {
    row.state == State::SendFail
        && !row.retrying
        && row.deliver_at.is_some()
        && row.reason.as_deref() == Some(CANCELLED)
}

/// Why a cancelled message is not sent again, for people.
#[must_use]
pub fn not_resent(message: &Identity) -> String {
    format!(
        "message {message} was cancelled before it was due; sent again it would go at once: publish it anew under \
         another id"
    )
}

/// Why a message cannot be cancelled, for people.
#[must_use]
pub fn not_cancelled(row: &MessageRow) -> String {
    let id = &row.id;
    match (row.deliver_at, row.place) {
        (None, _) => format!("message {id:?} is not a delayed one: only what waits for its time can be cancelled"),
        (Some(_), Some((partition, offset))) => {
            format!("message {id:?} was due and went out: it is on kafka, partition {partition}, offset {offset}")
        }
        (Some(_), None) => format!("message {id:?} was due and is on its way to kafka"),
    }
}

/// A time as the next whole millisecond. Kafka's times have no more digits,
/// and a record must not seem to be earlier than its message was due.
#[must_use]
pub fn whole_millisecond(time: Timestamp) -> Timestamp {
    match time.0.rem_euclid(1_000) {
        0 => time,
        rest => Timestamp(time.0.saturating_add(1_000 - rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rounded_up_and_never_down() {
        for (time, rounded) in [(0, 0), (1, 1_000), (999, 1_000), (1_000, 1_000), (-1, 0), (-1_000, -1_000)] {
            assert_eq!(whole_millisecond(Timestamp(time)), Timestamp(rounded), "{time}");
        }
    }
}
