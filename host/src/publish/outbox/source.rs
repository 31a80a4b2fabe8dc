//! The interface of the intake to a sender's database.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use courier_core::message::Timestamp;

use super::error::SourceError;
/// A row by its number and its id: the numbers begin again when a table is
/// made anew.
pub(super) use crate::store::OutboxRowRef as RowRef;

/// Rows of one look at most.
pub(super) const READ_ROWS: usize = 1_000;
/// Bytes of one look, about: it ends with the row that goes past this.
pub(super) const READ_BYTES: i64 = 8 * 1024 * 1024;
/// Bytes of all columns of a row together that are read at most: twice what a
/// record of Kafka may have by default. Of a longer row only the front of each
/// column is read.
pub(super) const ROW_BYTES: i64 = 2 * 1024 * 1024;
/// How much of a column of a row that is too long is read, for people.
pub(super) const FRONT_BYTES: i64 = 4 * 1024;
/// Rows that are counted at most, to tell how many wait.
pub(super) const COUNTED_ROWS: i64 = 100_000;
/// How long a statement may take, connecting included.
pub(super) const STATEMENT_LIMIT: Duration = Duration::from_secs(20);

/// A time of a column, or the text that stands there and is no time.
pub(super) type SourceTime = Result<Timestamp, String>;

/// A row of an outbox, as it stands in the table.
#[derive(Clone, Debug, Default)]
pub(super) struct SourceRow {
    /// The order of insertion.
    pub seq: i64,
    pub id: Option<Bytes>,
    /// The sending service, where it is not the outbox's name.
    pub source: Option<Bytes>,
    pub topic: Option<Bytes>,
    pub type_name: Option<Bytes>,
    pub key: Option<Bytes>,
    /// `event` or `broadcast`.
    pub kind: Option<Bytes>,
    pub body: Option<Bytes>,
    /// How long the body is.
    pub body_bytes: i64,
    /// A JSON object.
    pub headers: Option<Bytes>,
    /// How long the headers are.
    pub headers_bytes: i64,
    /// When it is due.
    pub deliver_at: Option<SourceTime>,
    /// When it was written.
    pub created_at: Option<SourceTime>,
    /// How long all columns are together.
    pub row_bytes: i64,
}

impl SourceRow {
    /// Whether only the front of each column was read.
    pub fn is_too_large(&self) -> bool {
        self.row_bytes > ROW_BYTES
    }

    /// The column that makes a row too large, about, and its length.
    pub fn largest(&self) -> (&'static str, i64) {
        let rest = self.row_bytes - self.body_bytes - self.headers_bytes;
        let columns = [("body", self.body_bytes), ("headers", self.headers_bytes), ("key", rest)];
        columns.into_iter().max_by_key(|(_, bytes)| *bytes).unwrap_or(("body", self.body_bytes))
    }

    /// What would be right instead.
    pub fn bound(&self) -> String {
        format!("at most {ROW_BYTES} are read of a row, and a broker takes about half of that by default")
    }
}

/// A connection to a sender's database.
#[async_trait]
pub(super) trait OutboxSource: Send {
    /// The first committed rows in the order of their numbers, without those
    /// numbered `in_hand` and without those for the topics `full`.
    async fn read(&mut self, in_hand: &[i64], full: &[String], limit: usize) -> Result<Vec<SourceRow>, SourceError>;

    /// Deletes rows; those that are gone are no error.
    async fn remove(&mut self, rows: &[RowRef]) -> Result<(), SourceError>;

    /// How many rows there are, counted up to [`COUNTED_ROWS`].
    async fn count(&mut self) -> Result<i64, SourceError>;

    /// Says what keeps the whole table from being relayed although it can be
    /// read: a server that takes no writes, a row without a number.
    async fn examine(&mut self) -> Result<(), SourceError>;

    /// What is to be warned of: columns that may be NULL, say.
    fn warnings(&self) -> &[String];

    /// Waits until the database says that there are new rows; for ever where
    /// it does not say so.
    async fn notified(&mut self);
}

/// Bounds a question to a database: a network that drops packets would block an
/// outbox for ever otherwise.
pub(super) async fn bounded<T>(work: impl Future<Output = Result<T, SourceError>>) -> Result<T, SourceError> {
    match tokio::time::timeout(STATEMENT_LIMIT, work).await {
        Ok(answer) => answer,
        Err(_) => Err(SourceError::new(
            "outbox_unreachable",
            format!(
                "the database did not answer within {} s; courier tries again by itself",
                STATEMENT_LIMIT.as_secs()
            ),
        )),
    }
}

/// Whether there may be more rows behind those of a look.
pub(super) fn may_have_more(rows: &[SourceRow]) -> bool {
    let bytes: i64 = rows.iter().map(|row| row.row_bytes.min(ROW_BYTES)).sum();
    rows.len() >= READ_ROWS || bytes >= READ_BYTES
}

/// A table that is not there.
pub(super) fn no_table(table: &str, dialect: &str) -> SourceError {
    let sentence = format!(
        "there is no table {table}: create it with what `courier outbox schema --for {dialect}` prints, or correct \
         `table` of the outbox"
    );
    SourceError::new("outbox_table_missing", sentence).with("table", table)
}

/// The code of a row that has no place in the order of sending.
pub(super) const WITHOUT_NUMBER: &str = "outbox_row_without_number";

/// A row that has no place in the order of sending.
pub(super) fn without_number(table: &str, id: &str) -> SourceError {
    let sentence = format!(
        "the row with id {id:?} of table {table} has no number in its column seq, so that it has no place in the \
         order of sending and stays: give it a number, and let seq be NOT NULL"
    );
    SourceError::new(WITHOUT_NUMBER, sentence).with("table", table).with("columns", "seq").with("id", id)
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
    fn a_look_that_ends_for_its_bytes_is_not_the_last() {
        let row = |row_bytes| SourceRow { row_bytes, ..SourceRow::default() };
        assert!(!may_have_more(&[]) && !may_have_more(&[row(READ_BYTES)]));
        let most = usize::try_from(READ_BYTES / ROW_BYTES).unwrap();
        assert!(may_have_more(&vec![row(ROW_BYTES); most]));
        assert!(may_have_more(&vec![row(1); READ_ROWS]) && !may_have_more(&vec![row(1); READ_ROWS - 1]));
    }

    #[test]
    fn a_table_is_quoted_part_by_part() {
        assert_eq!(quoted("shop.courier_outbox"), "\"shop\".\"courier_outbox\"");
    }
}
