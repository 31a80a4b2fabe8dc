//! Undelivered rows: records that the host has to send to Kafka and that Kafka can
//! never take as they are.
//!
//! Only a person removes a row: it is sent again, edited and sent again, or given up.
//! It holds back neither its key nor its topic.

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;

use super::{Listing, Page, StoreError};

/// Undelivered rows of one topic past which its sources stop, so that a fault which
/// concerns every record does not fill the store.
pub const MAX_ROWS: i64 = 10_000;
/// Undelivered bytes of one topic past which its sources stop.
pub const MAX_BYTES: i64 = 1 << 30;

/// An undelivered row that never was an outbound row.
#[derive(Clone, Debug)]
pub struct NewUndelivered {
    /// hash(topic, key) mod [`SHARDS`](super::SHARDS).
    pub shard: i32,
    pub message_id: String,
    /// The topic that it is for; empty when it could not be read.
    pub topic: String,
    pub type_name: String,
    pub source: String,
    pub key: Option<Bytes>,
    /// The whole record, encoded: key, value, headers.
    pub record: Bytes,
    /// The outbox that it comes from, and its row there.
    pub outbox: Option<(String, String)>,
    /// A stable word for the cause.
    pub code: String,
    /// The cause, for people.
    pub reason: String,
}

/// An undelivered row as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndeliveredRow {
    /// The row's number, ascending.
    pub id: i64,
    pub message_id: String,
    /// The topic that it is for.
    pub topic: String,
    pub type_name: String,
    pub source: String,
    pub key: Option<Bytes>,
    /// The whole record, encoded; lists leave it out.
    pub record: Option<Bytes>,
    /// The size of the record.
    pub bytes: i64,
    /// The group whose handler published it or gave it up.
    pub group: Option<String>,
    /// The outbox that it comes from.
    pub outbox: Option<String>,
    /// Its row in that outbox.
    pub outbox_row: Option<String>,
    /// A stable word for the cause.
    pub code: String,
    /// The cause, for people.
    pub reason: String,
    /// How often the relay tried to send it.
    pub tries: u32,
    /// When the host accepted it.
    pub created_at: Timestamp,
    /// When it became undelivered.
    pub kept_at: Timestamp,
}

/// Which undelivered rows are wanted.
#[derive(Clone, Debug, Default)]
pub struct UndeliveredFilter {
    /// For one of these topics; `None` means any.
    pub topics: Option<Vec<String>>,
    /// Of one of these groups or of no group; `None` means any.
    pub groups: Option<Vec<String>>,
    /// For this topic.
    pub topic: Option<String>,
    /// Of this group.
    pub group: Option<String>,
    /// Of this outbox.
    pub outbox: Option<String>,
    /// With this id of the message.
    pub message_id: Option<String>,
}

/// The undelivered rows of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndeliveredTotal {
    pub topic: String,
    pub rows: i64,
    /// The size of their records.
    pub bytes: i64,
}

impl UndeliveredTotal {
    /// Whether the sources of the topic have to stop.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rows >= MAX_ROWS || self.bytes >= MAX_BYTES
    }
}

/// A record that a person edited before it is sent again.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// The topic that it goes to.
    pub topic: String,
    pub key: Option<Bytes>,
    pub type_name: String,
    /// The whole record, encoded.
    pub record: Bytes,
    /// hash(topic, key) mod [`SHARDS`](super::SHARDS).
    pub shard: i32,
}

/// Keeps undelivered rows: `publish/` writes them, and people resend or give them up by
/// the API.
#[async_trait]
pub trait UndeliveredStore {
    /// Stores rows. A row of an outbox that is stored already is left alone.
    async fn keep_undelivered(&self, rows: &[NewUndelivered]) -> Result<(), StoreError>;

    /// Lists rows, newest first, without their records.
    async fn undelivered(&self, filter: &UndeliveredFilter, page: &Page)
    -> Result<Listing<UndeliveredRow>, StoreError>;

    /// Reads one row with its record.
    async fn undelivered_one(&self, id: i64) -> Result<Option<UndeliveredRow>, StoreError>;

    /// Makes an outbound row of an undelivered one, edited or as it is. Its message
    /// becomes SEND_FAIL with `retrying`. `NotFound` when the row is gone.
    async fn resend_undelivered(&self, id: i64, repaired: Option<&Repaired>) -> Result<(), StoreError>;

    /// Deletes a row, and writes into its message why it was never sent. `NotFound` when
    /// the row is gone.
    async fn give_up_undelivered(&self, id: i64, reason: &str) -> Result<(), StoreError>;

    /// Counts the undelivered rows of each topic among those that [`Self::undelivered`]
    /// lists with the same filter.
    async fn undelivered_totals(&self, filter: &UndeliveredFilter) -> Result<Vec<UndeliveredTotal>, StoreError>;
}
