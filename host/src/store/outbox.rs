//! Outboxes of senders, as far as the store takes part in them.
//!
//! The rows themselves are in the senders' databases. One host at a time accepts them
//! here, and notes the state of each outbox.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;
use courier_core::status::State;

use super::{Accepted, Identity, NewMessage, StoreError};

/// The state of an outbox, by the host that relays it.
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
    /// The cause that `why` states, for programs.
    pub cause: Option<OutboxCause>,
}

/// Why an outbox stands still, for programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxCause {
    /// A stable word, such as `outbox_column`.
    pub code: String,
    /// What the sentence for people names, such as the column or the topic.
    pub fields: BTreeMap<String, String>,
}

/// A row at its source: its number and its id there.
pub type OutboxRowRef = (i64, Option<Bytes>);

/// Rows of an outbox that ended and are about to be deleted at their source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxCount {
    /// The outbox's name in the TOML.
    pub name: String,
    /// The node that relays it.
    pub node: String,
    /// How many of the rows went to Kafka and were not counted before.
    pub relayed: i64,
    /// How many of them were kept as undelivered and were not counted before.
    pub refused: i64,
    /// All rows that are counted by now and may still be at their source.
    pub rows: Vec<OutboxRowRef>,
}

/// An outbox as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its name in the TOML.
    pub name: String,
    /// The node that relays it, or relayed it last.
    pub node: String,
    /// The relay shard whose holder relays it.
    pub shard: i32,
    /// Why nothing is relayed now; none while all is well.
    pub why: Option<String>,
    /// Rows in its table; none while that is unknown.
    pub pending: Option<i64>,
    /// When the oldest of them was written.
    pub oldest_at: Option<Timestamp>,
    /// The cause that `why` states, for programs.
    pub cause: Option<OutboxCause>,
    /// Since when it has stood still for this cause.
    pub since: Option<Timestamp>,
    /// Rows that went to Kafka.
    pub relayed: i64,
    /// Rows that cannot be sent as they are.
    pub refused: i64,
    /// When this was noted.
    pub noted_at: Timestamp,
}

/// Accepts rows of outboxes, for `publish/outbox/`.
#[async_trait]
pub trait OutboxStore: Send + Sync + 'static {
    /// Accepts rows of an outbox as [`AcceptStore::accept`](super::AcceptStore::accept)
    /// does, if the lease on `shard` still has its epoch. Otherwise the call is `Fenced`
    /// and writes nothing. So the rows of an outbox enter in one order, even if a host
    /// that lost the lease does not know it yet.
    async fn take_outbox(&self, shard: (i32, i64), messages: &[NewMessage]) -> Result<Vec<Accepted>, StoreError>;

    /// Reads the state of each message that is COMMITTED or SEND_FAIL for good, and `None`
    /// for each message that is still being sent. A message that retention removed counts as COMMITTED.
    async fn ended(&self, messages: &[Identity]) -> Result<Vec<Option<State>>, StoreError>;
}

/// Notes the state of outboxes: `publish/outbox/` writes it, and the API lists it.
#[async_trait]
pub trait OutboxNoteStore: Send + Sync + 'static {
    /// Writes the state of an outbox. `Fenced` when the lease on `shard` has another
    /// epoch.
    async fn note_outbox(&self, shard: (i32, i64), note: &OutboxNote) -> Result<(), StoreError>;

    /// Adds to the counters of an outbox and stores which rows are counted. The same rows
    /// a second time add nothing, and the call returns false. `Fenced` when the lease on
    /// `shard` has another epoch.
    async fn count_outbox(&self, shard: (i32, i64), count: &OutboxCount) -> Result<bool, StoreError>;

    /// Reads the rows that the last count stored.
    async fn counted_rows(&self, name: &str) -> Result<Vec<OutboxRowRef>, StoreError>;

    /// Lists the outboxes by name.
    async fn outboxes(&self) -> Result<Vec<OutboxRow>, StoreError>;
}

/// Encodes rows as they are stored: a JSON array of `[seq, id in hexadecimal | null]`.
pub(super) fn rows_to_text(rows: &[OutboxRowRef]) -> Result<String, StoreError> {
    let hex = |id: &Bytes| {
        id.iter().fold(String::with_capacity(id.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _infallible = write!(text, "{byte:02x}");
            text
        })
    };
    let rows: Vec<(i64, Option<String>)> = rows.iter().map(|(seq, id)| (*seq, id.as_ref().map(hex))).collect();
    serde_json::to_string(&rows).map_err(|error| StoreError::Bug(format!("rows of an outbox are no JSON: {error}")))
}

/// Decodes what [`rows_to_text`] wrote.
pub(super) fn rows_from_text(text: &str) -> Result<Vec<OutboxRowRef>, StoreError> {
    let wrong = || StoreError::Bug("the counted rows of an outbox cannot be read".to_owned());
    let rows: Vec<(i64, Option<String>)> = serde_json::from_str(text).map_err(|_| wrong())?;
    let byte = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    rows.into_iter()
        .map(|(seq, id)| {
            let id = id.map(|id| id.as_bytes().chunks(2).map(byte).collect::<Option<Vec<u8>>>().ok_or_else(wrong));
            Ok((seq, id.transpose()?.map(Bytes::from)))
        })
        .collect()
}

/// Encodes the fields of a cause as they are stored.
pub(super) fn fields_to_text(cause: Option<&OutboxCause>) -> Result<Option<String>, StoreError> {
    let text = cause.map(|cause| serde_json::to_string(&cause.fields)).transpose();
    text.map_err(|error| StoreError::Bug(format!("the cause of an outbox is no JSON: {error}")))
}

/// Reads the cause from the columns of a row.
pub(super) fn cause_from(code: Option<String>, fields: Option<&str>) -> Option<OutboxCause> {
    let fields = fields.and_then(|fields| serde_json::from_str(fields).ok()).unwrap_or_default();
    code.map(|code| OutboxCause { code, fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_written() {
        let rows = vec![(1, Some(Bytes::from_static(b"m-1\xff"))), (-2, None), (i64::MAX, Some(Bytes::new()))];
        assert_eq!(rows_from_text(&rows_to_text(&rows).unwrap()).unwrap(), rows);
        assert!(rows_from_text("[[1,\"zz\"]]").is_err());
    }
}
