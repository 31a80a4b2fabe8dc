//! What the intake needs of a sender's database.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;
use thiserror::Error;

use super::postgres::PostgresSource;
use super::sqlite::SqliteSource;
use crate::config::Outbox;

/// Rows of one look at most.
pub(super) const READ_ROWS: usize = 1_000;
/// Bytes of one look, about: it ends with the row that goes past this.
pub(super) const READ_BYTES: i64 = 8 * 1024 * 1024;
/// Longer bodies are no messages. Of these only the front is read.
pub(super) const BODY_BYTES: i64 = 1024 * 1024;
/// How much of a body that is too long is read, for people.
pub(super) const BODY_FRONT: i64 = 4 * 1024;
/// Rows that are counted at most, to tell how many wait.
pub(super) const COUNTED_ROWS: i64 = 100_000;
/// How long a statement may take, connecting included.
pub(super) const STATEMENT_LIMIT: Duration = Duration::from_secs(20);

/// What the columns of the table are called.
pub(super) const COLUMNS: [&str; 10] =
    ["seq", "id", "topic", "type", "key", "kind", "body", "headers", "deliver_at", "created_at"];

/// A row of an outbox, as it stands in the table.
#[derive(Clone, Debug, Default)]
pub(super) struct SourceRow {
    /// The order of insertion.
    pub seq: i64,
    /// The message's id, as bytes since SQLite keeps any.
    pub id: Bytes,
    /// The topic.
    pub topic: String,
    /// The type.
    pub type_name: String,
    /// The key.
    pub key: Option<Bytes>,
    /// `event` or `broadcast`.
    pub kind: String,
    /// The body, or the front of one that is too long.
    pub body: Bytes,
    /// How long the body is.
    pub body_bytes: i64,
    /// A JSON object.
    pub headers: String,
    /// When it is due, or what stands there that is no time.
    pub deliver_at: Option<Result<Timestamp, String>>,
    /// When it was written, as far as that can be read.
    pub created_at: Option<Timestamp>,
}

/// Why a database cannot be read, in words for people.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct SourceError(pub(super) String);

impl From<sqlx::Error> for SourceError {
    fn from(error: sqlx::Error) -> Self {
        Self(match error {
            sqlx::Error::Database(database) => database.message().to_owned(),
            sqlx::Error::PoolTimedOut => "the database does not answer".to_owned(),
            other => other.to_string(),
        })
    }
}

/// A connection to a sender's database.
#[async_trait]
pub(super) trait Source: Send {
    /// The first committed rows in the order of their numbers, without those
    /// in hand.
    async fn read(&mut self, in_hand: &[i64], limit: usize) -> Result<Vec<SourceRow>, SourceError>;

    /// Deletes rows; those that are gone are no error.
    async fn remove(&mut self, rows: &[(i64, Bytes)]) -> Result<(), SourceError>;

    /// How many rows there are, counted up to [`COUNTED_ROWS`].
    async fn count(&mut self) -> Result<i64, SourceError>;

    /// Waits until the database says that there are new rows; for ever where
    /// it does not say so.
    async fn notified(&mut self);
}

/// Connects, and checks that the table is there and may be used.
pub(super) async fn open(outbox: &Outbox) -> Result<Box<dyn Source>, SourceError> {
    let opened = async {
        if outbox.url.starts_with("sqlite:") {
            Ok(Box::new(SqliteSource::open(outbox).await?) as Box<dyn Source>)
        } else {
            Ok(Box::new(PostgresSource::open(outbox).await?) as Box<dyn Source>)
        }
    };
    bounded(opened).await
}

/// Whether an outbox can be relayed, as far as a look at its database tells.
///
/// # Errors
/// What is wrong and what would be right.
pub async fn examine(outbox: &Outbox) -> Result<(), SourceError> {
    let mut source = open(outbox).await?;
    bounded(source.read(&[], 1)).await.map(|_| ())
}

/// Bounds what a database may take: a network that swallows packets would else
/// hold an outbox for ever.
pub(super) async fn bounded<T>(work: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
    match tokio::time::timeout(STATEMENT_LIMIT, work).await {
        Ok(answer) => answer,
        Err(_) => Err(SourceError(format!("the database did not answer within {} s", STATEMENT_LIMIT.as_secs()))),
    }
}

/// Refuses a table that lacks a column, and says which.
pub(super) fn check_columns(table: &str, found: &[String], dialect: &str) -> Result<(), SourceError> {
    let missing: Vec<&str> =
        COLUMNS.iter().copied().filter(|column| !found.iter().any(|name| name == column)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    Err(SourceError(format!(
        "table {table} has no column {missing}: `courier outbox schema --for {dialect}` prints how it has to be"
    )))
}

/// The table as it stands in a statement. Its parts are plain identifiers,
/// which the configuration makes sure of.
pub(super) fn quoted(table: &str) -> String {
    table.split('.').map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_column_is_named_with_what_helps() {
        let all: Vec<String> = COLUMNS.iter().map(ToString::to_string).collect();
        assert_eq!(check_columns("t", &all, "sqlite"), Ok(()));
        let SourceError(why) = check_columns("t", &all[1..8], "sqlite").unwrap_err();
        assert!(why.contains("no column seq, deliver_at, created_at") && why.contains("--for sqlite"), "{why}");
        assert_eq!(quoted("shop.courier_outbox"), "\"shop\".\"courier_outbox\"");
    }
}
