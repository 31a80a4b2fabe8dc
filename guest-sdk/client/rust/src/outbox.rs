//! Rows of the outbox, within the service's own transaction.

use std::time::SystemTime;

use courier_sdk::Event;
use serde::Serialize;
use sqlx::AssertSqlSafe;

use crate::draft::{Draft, Due, rfc3339};
use crate::{PublishError, Publisher};

/// A connection or transaction into whose database an outbox row can be
/// written: those of PostgreSQL and SQLite, as features say.
pub trait OutboxConnection: sealed::Write {}

mod sealed {
    /// Writes a row.
    pub trait Write: Send {
        /// The row's columns.
        fn write(&mut self, table: &str, row: super::Row) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
    }
}

/// The columns of a row.
#[derive(Debug)]
pub struct Row {
    id: String,
    topic: String,
    type_name: String,
    key: Option<String>,
    kind: &'static str,
    body: String,
    headers: String,
    deliver_at: Option<String>,
}

impl Publisher {
    /// Writes an event into the outbox within a transaction of the service's
    /// own: it is published if and only if that transaction commits. Answers
    /// its id.
    ///
    /// # Errors
    /// When the event or the row cannot be written; the transaction is the
    /// service's to roll back.
    pub async fn publish_in<C: OutboxConnection, E: Event + Serialize>(
        &self,
        tx: &mut C,
        event: &E,
    ) -> Result<String, PublishError> {
        self.send_in(tx, self.draft(event)?).await
    }

    /// Writes a draft into the outbox: a delayed one or a broadcast, say.
    ///
    /// # Errors
    /// As [`publish_in`](Self::publish_in).
    pub async fn send_in<C: OutboxConnection>(&self, tx: &mut C, draft: Draft) -> Result<String, PublishError> {
        let invalid = |why: String| PublishError::Invalid { id: Some(draft.id.clone()), why };
        let key = draft.key.clone().map(String::from_utf8).transpose();
        let key = key.map_err(|_| invalid("a key in an outbox is text, and this one is not".to_owned()))?;
        let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !self.table.split('.').all(plain) {
            return Err(invalid(format!("the outbox table {:?} is no plain name", self.table)));
        }
        let due = match draft.due {
            Some(Due::At(time)) => Some(rfc3339(time, &draft.id)?),
            Some(Due::After(delay)) => Some(rfc3339(SystemTime::now() + delay, &draft.id)?),
            None => None,
        };
        let headers = draft.headers_json().to_string();
        let id = draft.id.clone();
        let row = Row {
            id: draft.id,
            topic: draft.topic,
            type_name: draft.type_name,
            key,
            kind: if draft.broadcast { "broadcast" } else { "event" },
            body: draft.body,
            headers,
            deliver_at: due,
        };
        tx.write(&self.table, row).await?;
        Ok(id)
    }
}

fn quoted(table: &str) -> String {
    table.split('.').map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join(".")
}

macro_rules! outbox_connection {
    ($feature:literal, $connection:ty, $transaction:ty, $values:literal) => {
        #[cfg(feature = $feature)]
        impl sealed::Write for $connection {
            async fn write(&mut self, table: &str, row: Row) -> Result<(), sqlx::Error> {
                let insert = format!(
                    "INSERT INTO {} (id, topic, type, key, kind, body, headers, deliver_at) VALUES {}",
                    quoted(table),
                    $values
                );
                sqlx::query(AssertSqlSafe(insert))
                    .bind(row.id)
                    .bind(row.topic)
                    .bind(row.type_name)
                    .bind(row.key)
                    .bind(row.kind)
                    .bind(row.body)
                    .bind(row.headers)
                    .bind(row.deliver_at)
                    .execute(self)
                    .await
                    .map(|_| ())
            }
        }

        #[cfg(feature = $feature)]
        impl OutboxConnection for $connection {}

        #[cfg(feature = $feature)]
        impl sealed::Write for $transaction {
            async fn write(&mut self, table: &str, row: Row) -> Result<(), sqlx::Error> {
                <$connection as sealed::Write>::write(&mut **self, table, row).await
            }
        }

        #[cfg(feature = $feature)]
        impl OutboxConnection for $transaction {}
    };
}

outbox_connection!(
    "postgres",
    sqlx::PgConnection,
    sqlx::Transaction<'_, sqlx::Postgres>,
    "($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8::text::timestamptz)"
);
outbox_connection!("sqlite", sqlx::SqliteConnection, sqlx::Transaction<'_, sqlx::Sqlite>, "(?, ?, ?, ?, ?, ?, ?, ?)");
