//! Connects to the database of a sender, whichever it is.

use super::error::SourceError;
use super::postgres::PostgresSource;
use super::source::{OutboxSource, bounded};
use super::sqlite::SqliteSource;
use crate::config::OutboxConfig;

/// Connects, and checks that the table is there and may be used.
pub(super) async fn open(outbox: &OutboxConfig) -> Result<Box<dyn OutboxSource>, SourceError> {
    let opened = async {
        if outbox.url.is_sqlite() {
            Ok(Box::new(SqliteSource::open(outbox).await?) as Box<dyn OutboxSource>)
        } else {
            Ok(Box::new(PostgresSource::open(outbox).await?) as Box<dyn OutboxSource>)
        }
    };
    bounded(opened).await
}

/// Whether an outbox can be relayed, as far as a look at its database tells,
/// and what is to be warned of.
///
/// # Errors
/// What is wrong and what would be right.
pub async fn examine(outbox: &OutboxConfig) -> Result<Vec<String>, SourceError> {
    let mut source = open(outbox).await?;
    bounded(source.examine()).await?;
    bounded(source.read(&[], &[], 1)).await?;
    Ok(source.warnings().to_vec())
}
