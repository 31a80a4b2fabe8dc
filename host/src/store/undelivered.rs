//! What the host owes Kafka and can never deliver as it is.
//!
//! A row leaves by a person's hand only: sent again, edited and sent again, or
//! given up. It holds back neither its key nor its topic.

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;

use super::{Listing, Page, StoreError};

/// Rows of one destination past which its sources stop.
pub const MAX_ROWS: i64 = 10_000;
/// Bytes of one destination past which its sources stop.
pub const MAX_BYTES: i64 = 1 << 30;

/// Something to be kept as undelivered that never was an outbound row.
#[derive(Clone, Debug)]
pub struct NewUndelivered {
    /// hash(topic, key) mod [`SHARDS`](super::SHARDS).
    pub shard: i32,
    pub message_id: String,
    /// Where it should go; empty when nobody could read it.
    pub topic: String,
    pub type_name: String,
    pub source: String,
    pub key: Option<Bytes>,
    /// The whole record, encoded: key, value, headers.
    pub record: Bytes,
    /// The outbox it was in, and its row there.
    pub outbox: Option<(String, String)>,
    /// A stable word for why.
    pub code: String,
    /// Why, for people.
    pub reason: String,
}

/// Something undelivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndeliveredRow {
    /// Ascending in the order of keeping.
    pub id: i64,
    pub message_id: String,
    /// Where it should go.
    pub topic: String,
    pub type_name: String,
    pub source: String,
    pub key: Option<Bytes>,
    /// The whole record, encoded; lists leave it out.
    pub record: Option<Bytes>,
    /// How many bytes it has.
    pub bytes: i64,
    /// The group whose handler published it or gave it up.
    pub group: Option<String>,
    /// The outbox it was in.
    pub outbox: Option<String>,
    /// Its row there.
    pub outbox_row: Option<String>,
    /// A stable word for why.
    pub code: String,
    /// Why, for people.
    pub reason: String,
    /// How often it was tried.
    pub tries: u32,
    /// Since when it is owed.
    pub created_at: Timestamp,
    /// Since when it is undelivered.
    pub kept_at: Timestamp,
}

/// Which undelivered rows are wanted.
#[derive(Clone, Debug, Default)]
pub struct UndeliveredFilter {
    /// For one of these topics; none means any.
    pub topics: Option<Vec<String>>,
    /// Of one of these groups or of no group; none means any.
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

/// What is undelivered for one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndeliveredTotal {
    pub topic: String,
    /// How many rows.
    pub rows: i64,
    /// How many bytes their records have.
    pub bytes: i64,
}

impl UndeliveredTotal {
    /// Whether so much is undelivered that the sources of the topic stop.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rows >= MAX_ROWS || self.bytes >= MAX_BYTES
    }
}

/// A record that a person edited before it is sent again.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// Where it goes.
    pub topic: String,
    pub key: Option<Bytes>,
    pub type_name: String,
    /// The whole record, encoded.
    pub record: Bytes,
    /// hash(topic, key) mod [`SHARDS`](super::SHARDS).
    pub shard: i32,
}

/// The undelivered rows.
#[async_trait]
pub trait UndeliveredStore {
    /// Keeps what can never be delivered as it is. Rows of an outbox that are
    /// kept already, by outbox and row, are left alone.
    async fn keep_undelivered(&self, rows: &[NewUndelivered]) -> Result<(), StoreError>;

    /// Undelivered rows, newest first, without their records.
    async fn undelivered(&self, filter: &UndeliveredFilter, page: &Page)
    -> Result<Listing<UndeliveredRow>, StoreError>;

    /// One undelivered row with its record.
    async fn undelivered_one(&self, id: i64) -> Result<Option<UndeliveredRow>, StoreError>;

    /// Makes an outbound row of an undelivered one, edited or as it is;
    /// `NotFound` when somebody was quicker. Its message is SEND_FAIL and
    /// retrying.
    async fn resend_undelivered(&self, id: i64, repaired: Option<&Repaired>) -> Result<(), StoreError>;

    /// Gives an undelivered row up: it goes, and its message says why it was
    /// never sent. `NotFound` when somebody was quicker.
    async fn give_up_undelivered(&self, id: i64, reason: &str) -> Result<(), StoreError>;

    /// What is undelivered by destination.
    async fn undelivered_totals(&self) -> Result<Vec<UndeliveredTotal>, StoreError>;
}
