//! Messages that wait until they are due.
//!
//! A delayed message has its row among the messages at once, COMMITTED and without a
//! place in Kafka, and its record in a row of its own. Once that row is due by the
//! store's clock it becomes an outbound row, in one transaction and under the epoch of
//! its shard, and the relay sends it. Cancelling deletes the same row, so that exactly
//! one of the two happens.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;
use courier_core::status::State;

use super::{Identity, Listing, MessageRow, Page, StoreError};

/// Rows that one move takes at most.
pub const MOVE_ROWS: u32 = 1_000;
/// Rows of one shard that one move takes at most. Due rows are found shard by shard,
/// so that a million waiting rows cost no more than a thousand.
pub const MOVE_SHARD_ROWS: u32 = 64;
/// The reason of a cancelled message.
pub const CANCELLED: &str = "cancelled";

/// When a message is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At this time.
    At(Timestamp),
    /// This long after the store accepts it, by the store's clock.
    After(Duration),
}

/// What a move did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Rows that became outbound rows.
    pub rows: u32,
    /// How long until the next row is due, by the store's clock: zero when one is due
    /// already, `None` when none waits.
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

/// Moves, cancels and lists delayed messages: `publish/relay/` moves them, and the API
/// does the rest. [`AcceptStore::accept`](super::AcceptStore::accept) stores them.
#[async_trait]
pub trait DelayedStore: Send + Sync + 'static {
    /// Reads how long it takes until the first row of these shards is due, by the
    /// store's clock: zero when one is due already, `None` when none waits.
    async fn next_due(&self, shards: &[(i32, i64)]) -> Result<Option<Duration>, StoreError>;

    /// Makes outbound rows of what is due in these shards, at most [`MOVE_ROWS`], in the
    /// order in which it is due. Shards with a newer epoch are left alone. If Kafka is
    /// known to be away, `away` says why, and the messages become SEND_FAIL with
    /// `retrying`.
    async fn move_due(&self, shards: &[(i32, i64)], away: Option<&str>) -> Result<Moved, StoreError>;

    /// Cancels a message that is not due yet: it becomes SEND_FAIL with the reason
    /// [`CANCELLED`]. A second call returns the same. `Conflict` says what became of a
    /// message that can no longer be cancelled; `NotFound` means that it is unknown.
    async fn cancel(&self, message: &Identity) -> Result<MessageRow, StoreError>;

    /// Lists the delayed messages that wait, by the time at which they are due.
    async fn delayed(&self, filter: &DelayedFilter, page: &Page) -> Result<Listing<MessageRow>, StoreError>;
}

/// Whether a message was cancelled before it was due.
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

/// Rounds a time up to a whole millisecond. Kafka's times have no more digits, and a
/// record's time must not be earlier than the time at which its message was due.
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
